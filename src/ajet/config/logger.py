"""Where progress is shown. `metrics.jsonl` is written whatever is chosen here."""

from __future__ import annotations

from dataclasses import dataclass, field

from ajet.config.fields import one_of, ruled


@dataclass
class WandbConfig:
    """Weights & Biases."""

    mode: str = one_of("auto", "auto", "online", "offline", "disabled")
    """`auto`: online if WANDB_API_KEY is set, else offline."""
    project: str = "ajet"
    """The project's name."""
    group: str | None = None
    """Groups the runs of one study."""
    name: str | None = None
    """The run's name; null: the run directory's."""
    sample_games: int = ruled(2, at_least=0)
    """Games of each step that are logged as a table to read."""


@dataclass
class LoggerConfig:
    """The logger group."""

    console: str = one_of("rich", "rich", "plain", "none")
    """`rich` live display, `plain` one line a step, `none`."""
    wandb: WandbConfig = field(default_factory=WandbConfig)
    """Weights & Biases."""
    trajectories_every: int = ruled(1, at_least=0)
    """Store the calls of every n-th step under trajectories/; 0: never."""
