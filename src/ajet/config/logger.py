"""Where progress is shown. `metrics.jsonl` is written whatever is chosen here."""

from __future__ import annotations

from dataclasses import dataclass, field

from ajet.config.fields import one_of, ruled
from ajet.tracking.weights_and_biases import WandbConfig


@dataclass
class LoggerConfig:
    """What is shown and stored of every step besides `metrics.jsonl`, which is always written."""

    console: str = one_of("rich", "rich", "plain", "none")
    """`rich` live display, `plain` one line a step, `none`."""
    wandb: WandbConfig = field(default_factory=WandbConfig)
    """Weights & Biases."""
    trajectories_every: int = ruled(1, at_least=0)
    """Store the calls of every n-th step under trajectories/; 0: never."""
