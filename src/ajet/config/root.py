"""The root schemas: `Config` to train, `PlayConfig` to play, `EvaluateConfig` for finished runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.fields import COMPARED, MAY_CHANGE, TRAINING_ONLY, marks, one_of, ruled, with_marks
from ajet.config.groups import CheckpointConfig, EvalConfig, PathsConfig, RolloutConfig, SweepConfig
from ajet.config.hardware import HardwareConfig
from ajet.config.logger import LoggerConfig
from ajet.config.model import ModelConfig
from ajet.config.workflow import WorkflowConfig
from ajet.data.source import DataConfig
from ajet.engine.base import EngineConfig
from ajet.engine.tinker import MovedServerConfig, TinkerConfig
from ajet.rollout.endpoint.config import EndpointConfig
from ajet.rollout.judges.base import JudgeConfig
from ajet.rollout.opponents.base import OpponentConfig
from ajet.train.algorithms.credit.base import CreditConfig

BASE = "base"
"""Stands among evaluated runs for the model that they started from."""


@dataclass
class Config:
    """One training run."""

    workflow: WorkflowConfig = field(default_factory=WorkflowConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig, metadata=marks(TRAINING_ONLY))
    credit: CreditConfig = field(default_factory=CreditConfig, metadata=marks(TRAINING_ONLY))
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    tinker: TinkerConfig = field(default_factory=TinkerConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    data: DataConfig = field(default_factory=DataConfig, metadata=marks(COMPARED))
    judge: JudgeConfig = field(default_factory=JudgeConfig, metadata=marks(COMPARED))
    opponent: OpponentConfig = field(default_factory=OpponentConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig, metadata=marks(MAY_CHANGE, TRAINING_ONLY))
    eval: EvalConfig = field(default_factory=EvalConfig, metadata=marks(TRAINING_ONLY))
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig, metadata=marks(MAY_CHANGE, TRAINING_ONLY))
    paths: PathsConfig = field(default_factory=PathsConfig)
    own: dict[str, Any] = field(default_factory=dict, metadata=marks(COMPARED))
    """Sections of the user's own: `own.my_game.rounds=3` is `tuner.config.my_game.rounds` in a workflow."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    trainable_targets: list[str] | None = None
    """Tags to train; null: every agent, or what the workflow's class says."""
    seed: int = ruled(0, at_least=0)
    """Every random stream of the run derives from it."""
    total_steps: int = with_marks(ruled(20, at_least=1), MAY_CHANGE, TRAINING_ONLY)
    """Training steps of the whole run, those before a resume included."""
    resume: str | None = None
    """A run directory to resume; its config.yaml replaces everything but a few keys."""
    trust_code: bool = False
    """With resume: run the code that the run directory names even if it is not what this user recorded."""
    run_dir: str = MISSING
    """This run's directory."""

    @property
    def trained_tags(self) -> list[str] | None:
        """Tags that are trained; None where only play will tell."""
        tags = self.workflow.target_tags if self.trainable_targets is None else self.trainable_targets
        return tags or None

    @property
    def rounds_coarsely(self) -> bool:
        """Whether engine or trainer compute in less than float32, so that one token has unlike log-probabilities."""
        return self.model.dtype != "float32" or self.hardware.mixed_precision != "no"


@dataclass
class PlayConfig(Config):
    """Episodes that are played and told, without training; what only training reads is ignored."""

    num_episodes: int = ruled(1, at_least=1)
    """Episodes, each of another task."""


@dataclass
class EvaluateConfig:
    """One evaluation of finished runs on held-out tasks. Null: as the run had it, or the first of several."""

    run: str | None = None
    """A run directory, whose checkpoint is compared with the model that it started from; short for
    `runs=[base,<run>]`."""
    runs: list[str] | None = None
    """Run directories; `base` for the model that they started from."""
    checkpoint: str | None = None
    """A step number, or `start` for the starting model; null: each run's newest checkpoint."""
    num_tasks: int | None = ruled(None, at_least=2)
    """Held-out tasks; an interval needs at least two."""
    repeats: int | None = ruled(None, at_least=1)
    """Episodes of each task; several also give pass@k and best@k."""
    seed_offset: int | None = ruled(None, at_least=1)
    """Held-out task numbers start here; another offset gives other seeds."""
    opponent: OpponentConfig | None = None
    """What plays the untrained roles, e.g. opponent=random."""
    engine: EngineConfig | None = None
    """What plays instead of the runs' own engine, e.g. `engine=transformers` for runs on a Tinker server that is gone:
    it takes the weights that each run has saved."""
    tinker: MovedServerConfig = field(default_factory=MovedServerConfig)
    opponents: list[str] | None = None
    """Several of them, one after the other: what `opponent=random,scripted` stands for."""
    trainable_targets: list[str] | None = None
    """Tags that the policies play, e.g. roles that no run trained; null: those that each run trained."""
    confidence: float | None = ruled(None, above=0, below=1)
    """Coverage of the intervals."""
    trust_code: bool = False
    """Run the code that a run directory names even if it is not what this user recorded when the run was made."""
    paths: PathsConfig = field(default_factory=PathsConfig)
    console: str = one_of("rich", "rich", "plain", "none")
    """Where progress is shown; as `logger.console`."""
    output_dir: str = MISSING
    """Where this evaluation's files go: a new folder in the run directory, or below `paths.output_root` for several."""
