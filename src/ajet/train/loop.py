"""The training loop: evaluate, collect, advantages, samples, pack, update, sync weights, log, save.

In: parts that `assemble` has put together. Out: a run directory. The loop knows no concrete engine, workflow or logger.
A line of `metrics.jsonl` with step s holds what was measured with the policy after s updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from ajet.config.root import Config
from ajet.data.randomness import derive_rng
from ajet.engine.base import Engine
from ajet.errors import (
    AlgorithmError,
    EngineError,
    LoggerError,
    RankError,
    RunInterruptedError,
    StorageError,
    TrainingError,
    WorkflowError,
)
from ajet.evaluate.scores import Evaluation, score_groups
from ajet.plan.parts import Sizing
from ajet.records import EpisodeGroup, Replay
from ajet.rollout.runtime import Interrupted
from ajet.tracking.console import Display
from ajet.tracking.files.writing import refusal
from ajet.tracking.loggers import MetricLogger
from ajet.tracking.metrics import Metrics, episode_metrics, replay_metrics, staleness_metrics, token_metrics
from ajet.tracking.store import TrajectoryStore
from ajet.train.algorithms.rule import LearningRule
from ajet.train.batch import TrainingBatch, build_batch
from ajet.train.before_credit import BeforeCredit, ask_before_credit
from ajet.train.learner import Learner
from ajet.train.masks import ReplyMasks
from ajet.train.packing import Pack, shared_out
from ajet.train.play import Play
from ajet.train.ranks import Ranks, hearing_of_the_lost
from ajet.train.state import RunState
from ajet.train.summary import RunSummary

MOST_SKIPPED = 3
"""Training steps in a row whose update was skipped, at least in part, that end a run: the next would be no sounder."""


@dataclass(slots=True, kw_only=True)
class Trainer:
    """One run, from its first evaluation to its summary."""

    config: Config
    state: RunState
    play: Play
    engine: Engine
    let_engine_sleep: Callable[[], None]
    """Frees what the engine can spare while this process trains, until new weights come."""
    learner: Learner
    rule: LearningRule
    ranks: Ranks
    """The processes that play and train together; every one of them runs this loop."""
    store: TrajectoryStore
    logger: MetricLogger
    display: Display
    sizing: Sizing | None
    """What the run's memory was planned from; None where the model is on a server."""
    close: Callable[[], None]
    """Ends loggers, engines and connections; called once, however the run ends."""
    reply_masks: ReplyMasks | None = None
    """Gives those of replies that were sampled under grammars; None where none are."""
    num_skipped_in_a_row: int = 0
    """The latest training steps of which some update was skipped because it was not finite."""
    largest_pack: int = 0
    """Tokens of the largest pack so far: what an update's memory goes by (`ajet.plan`)."""

    def run(self) -> float | None:
        """Train to `total_steps`.

        Returns:
            The final held-out score, or None if the run does not evaluate at its end.

        Raises:
            RunInterruptedError: Ctrl-C; the state is saved and the message says how to resume.
            TrainingError: losses, gradients or weights are no longer finite, or too many episodes were lost; the
                message names the last sound state.
            StorageError: a file cannot be written; the message says from where the run can be resumed.
            WorkflowError, AlgorithmError, EngineError: play, or code of the user's that credits it, failed before the
                first step.
        """
        self.display.start(first_step=self.state.num_steps_done, total_steps=self.config.total_steps)
        try:
            with self.play.runtime:
                return self._run()
        finally:
            self.display.stop()
            self.close()

    def _run(self) -> float | None:
        try:
            while self.state.num_steps_done < self.config.total_steps:
                self._step()
                self.ranks.agree(self.play.runtime.check)
                if self.num_skipped_in_a_row >= MOST_SKIPPED:
                    self._stop_unsound_run()
                if self._save_due():
                    self.play.meanwhile(partial(self.ranks.agree, self.state.save))
            after = self._evaluate() if self.config.eval.last else None
            self.ranks.agree(self.state.save)
            return self._conclude(after)
        except Interrupted as stop:
            raise RunInterruptedError(
                f"interrupted after step {self.state.num_steps_done}; {self.state.save_at_end()}", stop.signum
            ) from None
        except StorageError as error:
            raise self.state.save_if_possible(error) from error
        except RankError as error:
            # What is shared out can no longer be gathered.
            kept = self.state.as_saved() if self.learner.is_sharded else self.state.save_at_end()
            raise TrainingError(f"{str(error).rstrip('.')}; {kept}") from error
        except (WorkflowError, AlgorithmError, EngineError, LoggerError, OSError) as error:
            # Raised around updates, never within one: the weights are those after `num_steps_done` steps; and by all
            # ranks, so that all of them save together.
            said = refusal(error) if isinstance(error, OSError) else str(error)
            if not self.state.num_steps_done or said is None:
                raise
            raise TrainingError(f"{said.rstrip('.')}; {self.state.save_at_end()}") from error

    def _step(self) -> None:
        """One step: what docs/design.md draws, a call a line."""
        self.state.clock.next_step()
        step = self.state.num_steps_done
        metrics = self._evaluate_if_due()
        play = self.play.training_step(step)
        requests = self.rule.replay_requests(play.groups, derive_rng(self.config.seed, "credit", step))
        replays = self.play.again(step, requests)
        batch = self._credit_and_pack(play.groups, replays)
        metrics |= episode_metrics(play.played) | token_metrics(play.played) | batch.metrics
        metrics |= self.play.resampling_metrics(play)
        if self.config.credit.plays_again:
            metrics |= replay_metrics(replays)
        if self.config.rollout.max_steps_off_policy:
            metrics |= staleness_metrics(play.groups, step)
        log = partial(self._log, step, metrics, play.played, batch)
        learn = partial(self._learn, batch, metrics)
        try:
            if self._plays_ahead():
                self.play.while_training(step, learn)
            else:
                learn()
        except Exception as died:
            if self.state.num_steps_done == step:
                raise
            # The step is done, and part of what a resumed run starts from.
            try:
                self.ranks.agree(log)
            except StorageError as unlogged:
                raise StorageError(f"{died}; {unlogged}") from died
            raise
        self.ranks.agree(log)

    def _plays_ahead(self) -> bool:
        """Whether later steps are played while this one is trained."""
        next_step = self.state.num_steps_done + 1
        return self.config.rollout.max_steps_off_policy > 0 and next_step < self.config.total_steps

    def _learn(self, batch: TrainingBatch, metrics: Metrics) -> None:
        """Update the policy, and let the engine sample from it; puts what was measured into `metrics`."""
        self.let_engine_sleep()
        metrics |= self._update(batch) | batch.metrics  # which has the distance to a reference that no update asked
        self.state.num_steps_done += 1
        self.state.credit = self.rule.state_dict()
        self.ranks.agree(self._sync_weights)

    def _evaluate_if_due(self) -> Metrics:
        step, settings = self.state.num_steps_done, self.config.eval
        if step == 0 and settings.first:
            # There is one already where a run was interrupted behind it; the step's line holds it all the same.
            self.state.before = self.state.before or self._evaluate()
            return _eval_metrics(self.state.before)
        if step > 0 and settings.every > 0 and step % settings.every == 0:
            return _eval_metrics(self._evaluate())
        return {}

    def _evaluate(self) -> Evaluation:
        groups = self.play.held_out(self.state.num_steps_done)
        if self.config.logger.trajectories_every:
            self.ranks.agree(partial(self._keep_evaluated, groups))
        return score_groups(groups)

    def _keep_evaluated(self, groups: list[EpisodeGroup]) -> None:
        if self.ranks.is_first:
            self.store.write(groups, {}, step=self.state.num_steps_done, split="eval")

    def _credit_and_pack(self, groups: list[EpisodeGroup], replays: list[Replay]) -> TrainingBatch:
        self.display.phase("packing")
        asked = self._before_credit(groups)
        batch = build_batch(
            groups,
            self.rule,
            self.state.clock,
            branching_packs=self.learner.why_chains_only is None,
            costs=self.config.hardware.costs,
            reply_masks=self.reply_masks,
            replays=replays,
            call_costs=asked.costs.of_calls,
            call_values=asked.values,
        )
        batch.metrics.update(asked.costs.metrics)
        sizes = [len(pack.token_ids) for packs in batch.minibatches for pack in packs]
        self.largest_pack = max(self.largest_pack, *sizes, 0)
        return batch

    def _before_credit(self, groups: list[EpisodeGroup]) -> BeforeCredit:
        """What is asked of calls before they are credited, where anything is."""
        if not self.config.algorithm.kl_in_reward and self.rule.critic is None:
            return BeforeCredit()
        self.let_engine_sleep()
        ask = partial(ask_before_credit, groups, self.learner, self.ranks, self.config, reply_masks=self.reply_masks)
        with self.state.clock.phase("advantage"):
            has_values = self.rule.critic is not None
            return self.play.meanwhile(partial(ask, step=self.state.num_steps_done, has_values=has_values))

    def _update(self, batch: TrainingBatch) -> Metrics:
        if not self._plays_ahead():  # else what is shown is the play
            self.display.phase("update")
        with self.state.clock.phase("update"):
            try:
                with hearing_of_the_lost():
                    metrics = self.learner.train_batch(
                        [self._own_share(packs) for packs in batch.minibatches],
                        batch.tags,
                        num_steps_done=self.state.num_steps_done,
                    )
            # After an earlier minibatch's step, maybe: these weights are of no step.
            except EngineError as error:  # of a server that trains
                raise TrainingError(f"{error}; {self.state.as_saved()}") from error
            except (AlgorithmError, RankError) as error:
                raise TrainingError(f"{error}; {self.state.last_sound_state()}") from error
            if not self.learner.is_finite():
                raise TrainingError(
                    f"step {self.state.num_steps_done + 1} made weights that are not finite, and they were not used; "
                    f"{self.state.last_sound_state()}"
                )
        if metrics["policy/skipped_nonfinite"]:
            self.num_skipped_in_a_row += 1
        elif metrics["policy/optimizer_steps"]:  # a step that held nothing says nothing
            self.num_skipped_in_a_row = 0
        return metrics

    def _own_share(self, packs: Sequence[Pack]) -> list[Pack]:
        """This rank's, by cost: all of them wait for the one that takes longest."""
        return shared_out(packs, self.ranks.size, self.config.hardware.costs)[self.ranks.rank]

    def _stop_unsound_run(self) -> None:
        """End the run with its last sound state: what was skipped has changed nothing."""
        raise TrainingError(
            f"the loss or its gradient was not finite in {MOST_SKIPPED} training steps in a row, whose updates were "
            f"skipped; {self.state.save_skipped()}: look at rewards, advantages and algorithm.* in "
            f"{self.config.run_dir}"
        )

    def _sync_weights(self) -> None:
        with self.state.clock.phase("sync"):
            self.learner.publish(self.engine, self.state.num_steps_done)

    def _log(self, step: int, metrics: Metrics, groups: list[EpisodeGroup], batch: TrainingBatch) -> None:
        if not self.ranks.is_first:
            return
        every, failure = self.config.logger.trajectories_every, None
        with self.state.clock.phase("log"):
            if every and step % every == 0:
                try:
                    self.store.write(groups, batch.advantages, step=step, split="train")
                except StorageError as error:
                    failure = error  # the step's metrics are worth writing nevertheless
        num_episodes = sum(len(group.episodes) for group in groups)
        metrics |= self.state.clock.step_metrics(
            num_episodes=num_episodes, num_sampled_tokens=metrics["tokens/sampled"]
        )
        self.state.log(self.logger, step, metrics, groups)
        self.display.step_done(step, metrics)
        if failure is not None:
            raise failure

    def _save_due(self) -> bool:
        every = self.config.checkpoint.every
        return every > 0 and self.state.num_steps_done % every == 0

    def _conclude(self, after: Evaluation | None) -> float | None:
        """Log the final evaluation, write `summary.json`, show the closing tables."""
        score = None if after is None or not after.scores else fmean(after.scores.values())
        if not self.ranks.is_first:
            return score
        if after is not None:
            self.logger.log(self.state.num_steps_done, _eval_metrics(after))
        memory, sizing = self.state.clock.memory, self.sizing
        summary = RunSummary(
            num_steps=self.state.num_steps_done,
            wall_time_s=dict(self.state.clock.run),
            peak_memory_gib=memory.peak_gib(),
            largest_pack=self.largest_pack,
            planned_gib=None if sizing is None else sizing.with_pack(self.largest_pack).plan().largest_gib,
            measured_gib=memory.gpu_peak_gib() if self.config.hardware.device == "cuda" else memory.peak_gib(),
            before=self.state.before,
            after=after,
            confidence=self.config.eval.confidence,
        )
        summary.write(Path(self.config.run_dir), self.display)
        return score


def _eval_metrics(evaluation: Evaluation) -> Metrics:
    return {f"eval/{name}": value for name, value in evaluation.metrics.items()}
