"""What a resumed run starts from: the steps done, its policy, clock and first evaluation, and what is not logged yet.

In: a policy and a folder of checkpoints. Out: `trainer.pt` of a checkpoint, and all of it again on resume. The weights
of the engine are left out: they are the policy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ajet.errors import RunDirectoryError, StorageError
from ajet.evaluate.scores import Evaluation, evaluation_from_json
from ajet.records import EpisodeGroup
from ajet.tracking.files.checkpoints import step_folder
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.loggers import MetricLogger
from ajet.tracking.metrics import Metrics
from ajet.train.checkpoint import CheckpointFolder, load_trainer_state
from ajet.train.clock import PhaseClock
from ajet.train.learner import Learner


@dataclass(slots=True, kw_only=True)
class RunState:
    """The state of one run, in memory and in its checkpoints."""

    learner: Learner
    checkpoints: CheckpointFolder
    is_written: bool = True
    """Whether this process writes the state; of several that run together one does."""
    clock: PhaseClock = field(default_factory=PhaseClock)
    num_steps_done: int = 0
    """Training steps done so far, those of the run that is being resumed included."""
    before: Evaluation | None = None
    """The evaluation of the starting policy, once there is one."""
    saved_at: int | None = None
    """Steps done when the state was last saved or restored."""
    credit: dict[str, Any] = field(default_factory=dict)
    """What the credit rule kept after `num_steps_done` steps; a step that is under way is no part of it."""
    unlogged: list[tuple[int, Metrics]] = field(default_factory=list)
    """Steps that are done and could not be written to the log; saved with the rest, and logged on resume."""

    def save(self) -> None:
        """Save the state after `num_steps_done` steps, unless it is saved already.

        Raises:
            StorageError: it cannot be written; earlier checkpoints stay as they are.
        """
        if self.num_steps_done == self.saved_at:
            return
        with self.clock.phase("save"):
            # Gathered by all ranks, where weights are shared out.
            policy = self.learner.state_dict(kept=self.is_written)
            write_model = self.learner.model_writer(kept=self.is_written)
            if self.is_written:
                self.checkpoints.save(
                    self.num_steps_done,
                    save_model=write_model,
                    trainer_state={
                        "num_steps_done": self.num_steps_done,
                        "policy": policy,
                        "wall_time_s": dict(self.clock.run),
                        "before": None if self.before is None else self.before.to_json(),
                        "unlogged": self.unlogged,
                        "credit": self.credit,
                    },
                )
        self.saved_at = self.num_steps_done

    def save_if_possible(self, error: StorageError) -> StorageError:
        """Save the state if the disk takes it; returns the error with the words from where the run can be resumed."""
        if not self.learner.is_sharded:  # else the other ranks, whose disk is none, would not gather once more
            with suppress(StorageError):  # the same disk's, most likely; the earlier checkpoints are still there
                self.save()
        return StorageError(f"{error}; {self.as_saved()}")

    def save_at_end(self) -> str:
        """Save the state of a run that ends for another reason, which a disk that refuses it must not hide.

        Returns:
            In words, for the sentence on that reason: what is saved, and how to resume.
        """
        unsaved = self._try_to_save()
        return f"{unsaved}{self._kept() if unsaved else 'the state is saved'}, {self._resume_command()}"

    def as_saved(self) -> str:
        """For the sentence on what ends a run whose state cannot be saved now: what is, and how to resume."""
        return f"{self._kept()}, {self._resume_command()}"

    def save_skipped(self) -> str:
        """As `save_at_end` for a run whose last updates were skipped; returns in words the last sound state."""
        return f"{self._try_to_save()}{self.last_sound_state()}"

    def _try_to_save(self) -> str:
        """Why the disk refused, to begin a sentence's part with; empty where it is saved."""
        try:
            self.save()
        except StorageError as error:
            return f"the state could not be saved ({error}); "
        return ""

    def restore(self, checkpoint: Path) -> None:
        """Take over what `save` wrote.

        Raises:
            RunDirectoryError: it is not a trainer's state, does not fit the configuration, or holds weights that are
                not finite.
        """
        state = load_trainer_state(checkpoint)
        try:
            self.num_steps_done = self.saved_at = state["num_steps_done"]
            self.learner.load_state_dict(state["policy"])
            self.clock.run.update(state["wall_time_s"])
            self.before = None if state["before"] is None else evaluation_from_json(state["before"])
            self.unlogged = list(state["unlogged"])
            self.credit = dict(state.get("credit", {}))  # which earlier versions did not have
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            words = str(error).partition("\n")[0]
            raise RunDirectoryError(f"{checkpoint} does not fit the run's config.yaml ({words})") from error
        if not self.learner.is_finite():
            raise RunDirectoryError(
                f"the checkpoint after step {self.num_steps_done} in {self.checkpoints.run_dir} holds weights that are "
                "not finite: remove it to resume from an earlier one"
            )

    def log(self, logger: MetricLogger, step: int, metrics: Metrics, groups: Sequence[EpisodeGroup] = ()) -> None:
        """Log a step, or keep its metrics for the log of the resumed run.

        Raises:
            StorageError: the log cannot be written.
        """
        try:
            logger.log(step, metrics, groups)
        except StorageError:
            self.unlogged.append((step, {name: float(value) for name, value in metrics.items()}))
            raise

    def log_unlogged(self, logger: MetricLogger) -> None:
        """Log the steps that the disk had refused, without those that an earlier resume logged, after which it was
        killed before it saved its state."""
        logged = {line["step"] for line in read_metric_lines(self.checkpoints.run_dir / "metrics.jsonl")}
        steps, self.unlogged = self.unlogged, []
        for step, metrics in steps:
            if step not in logged:
                self.log(logger, step, metrics)

    def last_sound_state(self) -> str:
        """In words; what lies on the disk besides may be damaged, or of a future that is being trained anew."""
        if self.saved_at is None:
            return "no state was saved yet"
        return f"the last sound state is {step_folder(self.checkpoints.run_dir, self.saved_at)}"

    def _kept(self) -> str:
        return "nothing is saved yet" if self.saved_at is None else f"the state after step {self.saved_at} is saved"

    def _resume_command(self) -> str:
        return f"resume with: python -m ajet.train resume={self.checkpoints.run_dir}"
