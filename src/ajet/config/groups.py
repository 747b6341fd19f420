"""Groups of settings that belong to a whole run: those of a component stand beside the component."""

from __future__ import annotations

from dataclasses import dataclass, field

from ajet.config.fields import COMPARED, MAY_CHANGE, TRAINING_ONLY, marks, one_of, ruled, with_marks
from ajet.tracking.files.finding import OUTPUT_ROOT

SUBSET_KINDS = ("each", "leave_one_out", "powerset")
"""Kinds of sweep that expand `trainable_targets` into several choices."""


@dataclass
class RolloutConfig:
    """How episodes are played: how many, how many at once, for how long. Tokens are drawn by temperature alone, or
    under a grammar: filters such as top_p would change the distribution."""

    num_tasks: int = with_marks(ruled(16, at_least=1), TRAINING_ONLY)
    """Tasks (groups) a step."""
    group_size: int = with_marks(ruled(8, at_least=2), TRAINING_ONLY)
    """Episodes of one task; the baseline is computed over them."""
    max_resamples: int = with_marks(ruled(0, at_least=0), TRAINING_ONLY)
    """Dynamic sampling (DAPO): a group that would teach nothing, as all rewards that are compared are the same or fewer
    than two episodes were not lost, is replaced by one of another task, up to so often; then it stays. 0: every group
    stays. What is replaced counts in metrics of play and in time, and is not trained on."""
    concurrency: int = ruled(64, at_least=1)
    """Episodes played at once."""
    timeout_s: float = ruled(120.0, above=0)
    """Wall time of one attempt at an episode, seconds."""
    max_retries: int = ruled(2, at_least=0)
    """New attempts after an infrastructure failure or a timeout."""
    max_lost_fraction: float = ruled(0.5, at_least=0, at_most=1)
    """A training step that lost more of its episodes, retries included, stops the run."""
    temperature: float = with_marks(ruled(1.0, above=0), COMPARED)
    """Logits are divided by it; also in the trainer's log-probabilities."""
    max_tokens: int = with_marks(ruled(128, at_least=1), COMPARED)
    """Most tokens sampled a call."""
    grammar: str = with_marks(one_of("none", "none", "tools"), COMPARED)
    """`tools`: replies are sampled under the grammar of what can be parsed, text and calls of the request's tools that
    fit their JSON schemas, and the trainer's log-probabilities are those of the same masked distributions
    ([constrained replies](../grammar.md)). `none`: sampled freely, and what cannot be parsed is a format error."""
    policy_error_reward: float = 0.0
    """Reward of an episode that the workflow ended with `PolicyError`."""
    max_steps_off_policy: int = with_marks(ruled(0, at_least=0), TRAINING_ONLY)
    """How many updates old the weights may be that a step's episodes begin with. 0: a step is played, then trained. n:
    so many later steps are played, or have been, while one is trained, on servers (`engine=vllm_server`), whose weights
    change meanwhile; without a correction of one's own `algorithm.tis_cap` is then 2 (`algorithm.correction_level`)."""

    @property
    def num_candidates(self) -> int:
        """Different tasks that a training step may take: those of its groups, and of all that may replace them."""
        return self.num_tasks * (1 + self.max_resamples)


@dataclass
class EvalConfig:
    """Held-out play around and during training: when, on how many tasks, with which coverage of intervals."""

    every: int = with_marks(ruled(0, at_least=0), MAY_CHANGE)
    """Evaluate after every n-th step; 0: only first and last."""
    num_tasks: int = ruled(64, at_least=2)
    """Held-out tasks; an interval needs at least two."""
    first: bool = True
    """Evaluate before the first step."""
    last: bool = field(default=True, metadata=marks(MAY_CHANGE))
    """Evaluate after the last step."""
    seed_offset: int = ruled(1_000_000, at_least=1)
    """Held-out tasks are taken from this number on; another one gives other tasks."""
    repeats: int = ruled(1, at_least=1)
    """Episodes of each held-out task."""
    confidence: float = ruled(0.95, above=0, below=1)
    """Coverage of the intervals."""


@dataclass
class CheckpointConfig:
    """How often the state is saved, and how many of the newest checkpoints stay."""

    every: int = ruled(10, at_least=0)
    """Save after every n-th step; 0: only after the last and on Ctrl-C."""
    keep: int = ruled(2, at_least=1)
    """Checkpoints kept, newest first."""


@dataclass
class SweepConfig:
    """Which jobs a command with `-m` stands for, and how they are handed out. A single run reads none of it."""

    kind: str = one_of("grid", "grid", *SUBSET_KINDS, "optuna")
    """`grid`: every combination of the listed values; `each`, `leave_one_out`, `powerset`: the same, with
    `trainable_targets` standing for several choices; `optuna`: a search that chooses values as it goes."""
    batch_size: int | None = ruled(None, at_least=1)
    """Jobs handed to the launcher at a time; the next batch waits for all of them. Null: all at once."""


@dataclass
class PathsConfig:
    """Where output goes."""

    output_root: str = OUTPUT_ROOT
    """Run directories are made below it, by date and time."""
