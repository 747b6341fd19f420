"""Policies against opponents on the same held-out tasks: a matrix of scores and differences.

In: entries, and the two ways to play one. Out: `evaluation.json` and tables. Every policy plays the same seeds with
the same roles, seats and opponents' randomness, so differences are paired by task; their p-values are corrected for
how many there are. One run and the model that it started from are the smallest matrix. No run is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from ajet.config.root import BASE
from ajet.errors import RunInterruptedError
from ajet.evaluate.entries import Entry
from ajet.evaluate.scores import Evaluation, play_held_out
from ajet.evaluate.statistics import Interval, holm, score_interval
from ajet.evaluate.summary import Comparison, comparison, measures, write_summary
from ajet.evaluate.tables import details_table, matrix_table, results_table, seats_table
from ajet.records import Task
from ajet.rollout.runtime import Interrupted, RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
from ajet.tracking.console import Display
from ajet.tracking.store import TrajectoryStore

OpenScheduler = Callable[[Entry, ExitStack], RolloutScheduler]
"""The scheduler that plays an entry's roles against its opponent; what must be closed after play goes on the stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One entry's held-out play, as it came from the scheduler."""

    entry: Entry
    checkpoint: str
    """As in `Cell`."""
    evaluation: Evaluation
    trajectories: str
    """As in `Cell`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one policy reached against one opponent."""

    name: str
    run: str
    """The policy's run directory, or `base`."""
    checkpoint: str
    """`step_<n>`, or `start` for the model that the run started from."""
    opponent: str
    targets: Sequence[str] | None
    """The roles of the policy; None: all."""
    means: dict[str, Interval]
    """By measure, as `measures` names them."""
    reference: str | None
    comparisons: dict[str, Comparison]
    """The reference before, this one after, by measure; empty for the reference itself."""
    p_holm: float | None
    """The score's p-value, corrected for the number of comparisons of scores in the matrix; the others' stand as they
    are, for they explain what the score says."""
    trajectories: str
    """Where its episodes lie, below the evaluation's folder."""
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixEvaluation:
    """Plays every entry on every held-out task."""

    entries: Sequence[Entry]
    checkpoints: Sequence[str]
    """What each entry plays: `step_<n>` or `start`."""
    take_weights: Callable[[Entry], None]
    """Puts an entry's weights into the engine."""
    open_scheduler: OpenScheduler
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
        self.display.start(first_step=0, total_steps=len(self.entries))
        try:
            with self.runtime:
                results = self._play()
        except Interrupted as stop:
            raise RunInterruptedError(
                "interrupted: the evaluation was dropped, the runs are as they were", stop.signum
            ) from None
        finally:
            self.display.stop()
            self.close()
        cells = matrix_cells(results, confidence=self.confidence)
        content = {
            "confidence": self.confidence,
            "num_tasks": len(self.tasks),
            "repeats": self.repeats,
            "cells": [asdict(cell) for cell in cells],
        }
        write_summary(self.output_dir / "evaluation.json", content)
        self._show(cells)
        return cells

    def _play(self) -> list[Result]:
        """Entries that play the same roles against the same opponent share a scheduler, and with it a frozen opponent's
        engine."""
        alike: dict[tuple[str, str], list[tuple[Entry, str]]] = {}
        for entry, checkpoint in zip(self.entries, self.checkpoints, strict=True):
            alike.setdefault(entry.played, []).append((entry, checkpoint))
        results: list[Result] = []
        for shared in alike.values():
            with ExitStack() as opened:
                scheduler = self.open_scheduler(shared[0][0], opened)
                for entry, checkpoint in shared:
                    results.append(self._play_entry(scheduler, entry, checkpoint, number=len(results)))
        return results

    def _play_entry(self, scheduler: RolloutScheduler, entry: Entry, checkpoint: str, *, number: int) -> Result:
        opponent = entry.config.opponent.name
        self.take_weights(entry)
        self.display.phase(f"{entry.name} against {opponent}", len(self.tasks) * self.repeats)
        folder = trajectory_folder(opponent, number, entry.name)
        evaluation, groups = self.runtime.run(
            play_held_out(scheduler, self.tasks, repeats=self.repeats, collection=f"eval/{folder}")
        )
        TrajectoryStore(self.output_dir / folder).write(groups, {}, step=0, split="eval")
        return Result(entry=entry, checkpoint=checkpoint, evaluation=evaluation, trajectories=folder)

    def _show(self, cells: Sequence[Cell]) -> None:
        compared = [cell for cell in cells if cell.reference is not None]
        if len(cells) == 2 and len(compared) == 1:
            (cell,) = compared
            self.display.table(results_table(cell.comparisons, confidence=self.confidence))
            self.display.table(seats_table(cell.comparisons, confidence=self.confidence))
            against = "starting model" if cell.reference == cells[0].name and cells[0].run == BASE else cell.reference
            self.display.say(f"{against} against {cell.checkpoint}; written to {self.output_dir}")
            return
        self.display.table(matrix_table(cells, confidence=self.confidence))
        self.display.table(details_table(cells, confidence=self.confidence))
        self.display.say(f"written to {self.output_dir}")


def trajectory_folder(opponent: str, number: int, name: str) -> str:
    """Of one cell, below the evaluation's own folder: the number keeps names apart that are written alike.

    Example: `trajectories/scripted/3-seer-seed-1` of `seer, seed 1`.
    """
    # A name may be a path, which must lead nowhere; its end tells most.
    written = re.sub(r"[^\w.+=]+", "-", name)[-60:].strip("-.")
    return f"trajectories/{opponent}/{number}-{written}"


def matrix_cells(results: Sequence[Result], *, confidence: float) -> list[Cell]:
    """Intervals of every cell, comparisons with the references against the same opponent, corrected by Holm."""
    by_place = {(result.entry.name, result.entry.config.opponent.name): result.evaluation for result in results}
    compared: list[dict[str, Comparison]] = []
    for result in results:
        reference = result.entry.reference
        before = None if reference is None else by_place[reference, result.entry.config.opponent.name]
        compared.append({} if before is None else comparison(before, result.evaluation, confidence=confidence))
    corrected = iter(holm([rows["score"].p_value for rows in compared if rows]))
    return [
        Cell(
            name=result.entry.name,
            run=result.entry.run,
            checkpoint=result.checkpoint,
            opponent=result.entry.config.opponent.name,
            targets=result.entry.config.trainable_targets,
            means={
                name: score_interval(list(by_task.values()), confidence=confidence)
                for name, by_task in measures(result.evaluation).items()
            },
            reference=result.entry.reference,
            comparisons=rows,
            p_holm=next(corrected) if rows else None,
            trajectories=result.trajectories,
            evaluation=result.evaluation,
        )
        for result, rows in zip(results, compared, strict=True)
    ]
