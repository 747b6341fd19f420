"""Several policies against several opponents on the same held-out tasks: a matrix of scores and differences.

In: settings, each a scheduler to open and the policies that play in it. Out: `matrix.json` and a table. Every policy
plays the same seeds with the same roles, seats and opponents' randomness, so differences are paired by task; their
p-values are corrected for how many there are. No run is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.table import Table

from ajet.errors import RunInterruptedError
from ajet.evaluation.scores import Evaluation, play_held_out
from ajet.evaluation.summary import Comparison, compare, write_summary
from ajet.records import EpisodeGroup, Task
from ajet.rollout.runtime import Interrupted, RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
from ajet.statistics import Interval, holm, score_interval
from ajet.tracking.console import Display
from ajet.tracking.store import TrajectoryStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A policy of the matrix."""

    name: str
    take_weights: Callable[[], None]
    """Puts its weights into the engine."""
    reference: str | None
    """The contender that it is compared with; None for the reference itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What several contenders play alike: the roles that the policy speaks for, and who speaks for the others."""

    opponent: str
    targets: Sequence[str] | None
    """The roles of the policy; None: all."""
    contenders: Sequence[Contender]
    open_scheduler: Callable[[ExitStack], RolloutScheduler]
    """What must be closed after play goes on the stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one policy reached against one opponent."""

    name: str
    opponent: str
    targets: Sequence[str] | None
    score: Interval
    rewards: dict[str, Interval]
    """By tag."""
    seats: dict[str, Interval]
    """Reward by `<tag>/<agent name>`: the same role in another seat may fare otherwise."""
    attempts: dict[str, Interval]
    """`pass@<k>` and `best@<k>` where tasks were played several times."""
    reference: str | None
    comparison: Comparison | None
    """The reference's score before, this one's after; None for the reference itself."""
    p_holm: float | None
    """The comparison's p-value, corrected for the number of comparisons in the matrix."""
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One policy's held-out play in one setting, as it came from the scheduler."""

    contender: Contender
    setting: Setting
    evaluation: Evaluation
    groups: Sequence[EpisodeGroup]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixEvaluation:
    """Plays every setting with each of its contenders."""

    settings: Sequence[Setting]
    tasks: Sequence[Task]
    repeats: int
    confidence: float
    runtime: RolloutRuntime
    display: Display
    output_dir: Path
    close: Callable[[], None]

    def run(self) -> list[Cell]:
        """Play all and report.

        Raises:
            RunInterruptedError: Ctrl-C; what was played so far is dropped.
        """
        self.display.start(first_step=0, total_steps=sum(len(setting.contenders) for setting in self.settings))
        try:
            with self.runtime:
                played = [result for setting in self.settings for result in self._play(setting)]
        except Interrupted:
            raise RunInterruptedError("interrupted: the evaluation was dropped, the runs are as they were") from None
        finally:
            self.display.stop()
            self.close()
        cells = matrix_cells(played, confidence=self.confidence)
        content = {
            "confidence": self.confidence,
            "num_tasks": len(self.tasks),
            "cells": [asdict(cell) for cell in cells],
        }
        write_summary(self.output_dir / "matrix.json", content)
        self.display.table(matrix_table(cells, confidence=self.confidence))
        self.display.say(f"written to {self.output_dir}")
        return cells

    def _play(self, setting: Setting) -> list[Played]:
        results = []
        with ExitStack() as opened:
            scheduler = setting.open_scheduler(opened)
            for contender in setting.contenders:
                contender.take_weights()
                self.display.phase(f"{contender.name} against {setting.opponent}", len(self.tasks) * self.repeats)
                evaluation, groups = self.runtime.run(play_held_out(scheduler, self.tasks, repeats=self.repeats))
                folder = self.output_dir / "trajectories" / setting.opponent / contender.name
                TrajectoryStore(folder).write(groups, {}, step=0, split="eval")
                results.append(Played(contender=contender, setting=setting, evaluation=evaluation, groups=groups))
        return results


def matrix_cells(played: Sequence[Played], *, confidence: float) -> list[Cell]:
    """Intervals of every cell, comparisons with the references against the same opponent, corrected by Holm."""
    scores = {(result.contender.name, result.setting.opponent): result.evaluation.scores for result in played}
    comparisons: list[Comparison | None] = []
    for result in played:
        reference = result.contender.reference
        before = None if reference is None else scores[reference, result.setting.opponent]
        comparisons.append(None if before is None else compare(before, result.evaluation.scores, confidence=confidence))
    corrected = iter(holm([comparison.p_value for comparison in comparisons if comparison is not None]))
    return [
        Cell(
            name=result.contender.name,
            opponent=result.setting.opponent,
            targets=result.setting.targets,
            score=score_interval(list(result.evaluation.scores.values()), confidence=confidence),
            rewards=_intervals(result.evaluation.rewards, confidence=confidence),
            seats=seat_rewards(result.groups, confidence=confidence),
            attempts=_intervals(result.evaluation.attempts, confidence=confidence),
            reference=result.contender.reference,
            comparison=comparison,
            p_holm=None if comparison is None else next(corrected),
            evaluation=result.evaluation,
        )
        for result, comparison in zip(played, comparisons, strict=True)
    ]


def _intervals(values: Mapping[str, Mapping[str, float]], *, confidence: float) -> dict[str, Interval]:
    """The mean over tasks of every measure that is given by task."""
    return {name: score_interval(list(by_task.values()), confidence=confidence) for name, by_task in values.items()}


def seat_rewards(groups: Sequence[EpisodeGroup], *, confidence: float) -> dict[str, Interval]:
    """Mean reward by `<tag>/<agent name>` over the tasks in which that agent had that role, episodes averaged first."""
    by_seat: dict[str, list[float]] = {}
    for group in groups:
        of_task: dict[str, list[float]] = {}
        for episode in group.episodes:
            for agent, reward in episode.rewards.items():
                of_task.setdefault(f"{episode.agent_tags[agent]}/{agent}", []).append(reward)
        for seat, rewards in of_task.items():
            by_seat.setdefault(seat, []).append(fmean(rewards))
    return {seat: score_interval(values, confidence=confidence) for seat, values in sorted(by_seat.items())}


def matrix_table(cells: Sequence[Cell], *, confidence: float) -> Table:
    """A row a policy, a column an opponent; below each score the difference to the reference, and pass@k if known."""
    opponents = list(dict.fromkeys(cell.opponent for cell in cells))
    table = Table(title=f"held-out score [{confidence:.0%} interval], difference, p (Holm)", title_justify="left")
    for heading in ("", *opponents):
        table.add_column(heading)
    by_place = {(cell.name, cell.opponent): cell for cell in cells}
    for name in dict.fromkeys(cell.name for cell in cells):
        table.add_row(name, *(_written(by_place.get((name, opponent))) for opponent in opponents))
    return table


def _written(cell: Cell | None) -> str:
    if cell is None:
        return ""
    lines = [f"{cell.score.mean:.3f} [{cell.score.low:.3f}, {cell.score.high:.3f}]"]
    if cell.comparison is not None and cell.p_holm is not None:
        difference = cell.comparison.difference
        lines.append(f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
        lines.append(f"p {'< 0.001' if cell.p_holm < 0.001 else f'= {cell.p_holm:.3f}'}")
    lines += [f"{name} {found.mean:.3f}" for name, found in cell.attempts.items() if name.startswith("pass@")]
    return "\n".join(lines)
