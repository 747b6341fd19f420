"""Several policies against several opponents on the same held-out tasks: a matrix of scores and differences.

In: settings, each a scheduler to open and the policies that play in it. Out: `matrix.json` and a table. Every policy
plays the same seeds with the same roles, seats and opponents' randomness, so differences are paired by task; their
p-values are corrected for how many there are. No run is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ajet.errors import RunInterruptedError
from ajet.evaluate.scores import Evaluation, play_held_out
from ajet.evaluate.statistics import Interval, holm, score_interval
from ajet.evaluate.summary import Comparison, comparison, measures, write_summary, written_p
from ajet.records import Task
from ajet.rollout.runtime import Interrupted, RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
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
    means: dict[str, Interval]
    """By measure, as `measures` names them."""
    reference: str | None
    comparisons: dict[str, Comparison]
    """The reference before, this one after, by measure; empty for the reference itself."""
    p_holm: float | None
    """The score's p-value, corrected for the number of comparisons of scores in the matrix; the others' stand as they
    are, for they explain what the score says."""
    trajectories: str
    """Where its games lie, below the matrix's folder."""
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One policy's held-out play in one setting, as it came from the scheduler."""

    contender: Contender
    setting: Setting
    evaluation: Evaluation
    trajectories: str
    """As in `Cell`."""


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
                played: list[Played] = []
                for setting in self.settings:
                    played += self._play(setting, num_played=len(played))
        except Interrupted as stop:
            raise RunInterruptedError(
                "interrupted: the evaluation was dropped, the runs are as they were", stop.signum
            ) from None
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
        self.display.table(details_table(cells, confidence=self.confidence))
        self.display.say(f"written to {self.output_dir}")
        return cells

    def _play(self, setting: Setting, *, num_played: int) -> list[Played]:
        results: list[Played] = []
        with ExitStack() as opened:
            scheduler = setting.open_scheduler(opened)
            for contender in setting.contenders:
                contender.take_weights()
                self.display.phase(f"{contender.name} against {setting.opponent}", len(self.tasks) * self.repeats)
                evaluation, groups = self.runtime.run(play_held_out(scheduler, self.tasks, repeats=self.repeats))
                folder = trajectory_folder(setting.opponent, num_played + len(results), contender.name)
                TrajectoryStore(self.output_dir / folder).write(groups, {}, step=0, split="eval")
                results.append(Played(contender=contender, setting=setting, evaluation=evaluation, trajectories=folder))
        return results


def trajectory_folder(opponent: str, number: int, name: str) -> str:
    """Of one cell, below the matrix's own folder: the number keeps names apart that are written alike.

    Example: `trajectories/scripted/3-seer-seed-1` of `seer, seed 1`.
    """
    # A name may be a path, which must lead nowhere; its end tells most.
    written = re.sub(r"[^\w.+=]+", "-", name)[-60:].strip("-.")
    return f"trajectories/{opponent}/{number}-{written}"


def matrix_cells(played: Sequence[Played], *, confidence: float) -> list[Cell]:
    """Intervals of every cell, comparisons with the references against the same opponent, corrected by Holm."""
    by_place = {(result.contender.name, result.setting.opponent): result.evaluation for result in played}
    compared: list[dict[str, Comparison]] = []
    for result in played:
        reference = result.contender.reference
        before = None if reference is None else by_place[reference, result.setting.opponent]
        compared.append({} if before is None else comparison(before, result.evaluation, confidence=confidence))
    corrected = iter(holm([rows["score"].p_value for rows in compared if rows]))
    return [
        Cell(
            name=result.contender.name,
            opponent=result.setting.opponent,
            targets=result.setting.targets,
            means={
                name: score_interval(list(by_task.values()), confidence=confidence)
                for name, by_task in measures(result.evaluation).items()
            },
            reference=result.contender.reference,
            comparisons=rows,
            p_holm=next(corrected) if rows else None,
            trajectories=result.trajectories,
            evaluation=result.evaluation,
        )
        for result, rows in zip(played, compared, strict=True)
    ]


def matrix_table(cells: Sequence[Cell], *, confidence: float) -> Table:
    """A row a policy, a column an opponent: the score, the difference to the reference, and what that rests on."""
    title = f"held-out score [{confidence:.0%} interval], difference, p (Holm), pairs, pairs needed"
    table, places = _by_opponent(title, cells)
    for name in dict.fromkeys(cell.name for cell in cells):
        table.add_row(escape(name), *(_score(column.get(name)) for column in places))
    return table


def details_table(cells: Sequence[Cell], *, confidence: float) -> Table:
    """What lies behind the scores: below each policy a row a measure, by tag, by attempts and by seat."""
    title = f"other measures: mean, difference [its {confidence:.0%} interval], pairs"
    table, places = _by_opponent(title, cells)
    for name in dict.fromkeys(cell.name for cell in cells):
        table.add_section()
        table.add_row(escape(name))
        names = dict.fromkeys(measure for cell in cells if cell.name == name for measure in cell.means)
        for measure in (known for known in names if known != "score"):
            table.add_row(escape(f"  {measure}"), *(_detail(column.get(name), measure) for column in places))
    return table


def _by_opponent(title: str, cells: Sequence[Cell]) -> tuple[Table, list[dict[str, Cell]]]:
    """An empty table with a column an opponent, and the cells of each column by policy."""
    columns: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        columns.setdefault(cell.opponent, {})[cell.name] = cell
    table = Table("", *columns, title=title, title_justify="left")
    return table, list(columns.values())


def _score(cell: Cell | None) -> str:
    if cell is None:
        return ""
    mean = cell.means["score"]
    lines = [f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]"]
    if cell.p_holm is not None:
        row = cell.comparisons["score"]
        found = row.difference
        lines.append(f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
        needed = "" if row.pairs_needed is None else f", needs {row.pairs_needed}"
        lines += [f"p {written_p(cell.p_holm)}", f"{found.num} pairs{needed}"]
    return "\n".join(lines)


def _detail(cell: Cell | None, measure: str) -> str:
    if cell is None or measure not in cell.means:
        return ""
    written = f"{cell.means[measure].mean:.3f}"
    if measure in cell.comparisons:
        found = cell.comparisons[measure].difference
        written += f" {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {found.num}"
    return written
