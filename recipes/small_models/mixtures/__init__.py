"""The small models' mixtures, by the name of the model."""

from recipes.small_models.mixtures.mixture import Mixture
from recipes.small_models.mixtures.tiny import TINY
from recipes.small_models.mixtures.tiny_tasks import TINY_TASKS

MIXTURES: dict[str, Mixture] = {"tiny": TINY, "tiny_tasks": TINY_TASKS}
