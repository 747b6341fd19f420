"""The small models' mixtures, by the name of the model."""

from ajet.models.mixtures.mixture import Mixture
from ajet.models.mixtures.tiny import TINY
from ajet.models.mixtures.tiny_tasks import TINY_TASKS

MIXTURES: dict[str, Mixture] = {"tiny": TINY, "tiny_tasks": TINY_TASKS}
