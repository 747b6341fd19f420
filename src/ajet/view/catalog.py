"""The episodes of a run directory: which there are, which a reader asks for, and the calls of one.

In: the folder. Out: frames. A run that still goes is read on: files are looked for anew at every question, and each is
read once. Left out: tokens, which are read with the calls of the one episode that is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import pandas as pd

from ajet.analysis import Run, load_run
from ajet.analysis.frames import episodes_of, read_outcomes
from ajet.errors import RunDirectoryError

REWARD = "reward/"
_File = tuple[Path, int]
"""A file and the nanosecond in which it was last written."""
Order = Literal["newest", "oldest", "best", "worst", "longest", "shortest"]
_SORTED: dict[Order, tuple[str, bool]] = {
    "newest": ("step", False),
    "oldest": ("step", True),
    "best": ("score", False),
    "worst": ("score", True),
    "longest": ("num_calls", False),
    "shortest": ("num_calls", True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeKey:
    """Names one episode of a run."""

    split: str
    step: int
    task: str
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFilter:
    """What the list is narrowed to; None and "" narrow nothing."""

    split: str = ""
    step: int | None = None
    task: str = ""
    """A part of the task's id."""
    tag: str = ""
    """Only episodes in which this tag was trained; the bounds below are then on its reward."""
    status: str = ""
    outcome: str = ""
    """`won`, `lost`, or `open` where success is not told."""
    least: float | None = None
    """On the reward of `tag`, or without one on the score: success where it is told, else the mean reward."""
    most: float | None = None
    order: Order = "newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a run's episodes can be narrowed to."""

    splits: Sequence[str]
    steps: Sequence[int]
    tags: Sequence[str]
    statuses: Sequence[str]


class Catalog:
    """Questions about one run directory; may be asked from several threads."""

    def __init__(self, run_dir: Path) -> None:
        """Raises `RunDirectoryError` where there is none."""
        self._path = run_dir
        self._lock = Lock()
        self._read: dict[_File, pd.DataFrame] = {}
        self._joined: tuple[tuple[_File, ...], pd.DataFrame] | None = None
        self._loaded = (self._stamps(), load_run(run_dir))

    def run(self) -> Run:
        """The run as it is now."""
        stamps = self._stamps()
        if stamps != self._loaded[0]:
            self._loaded = (stamps, load_run(self._path))
        return self._loaded[1]

    def _stamps(self) -> tuple[int, ...]:
        """When what a `Run` keeps in mind was last written; 0 for what is not there yet."""
        files = [self._path / name for name in ("config.yaml", "metrics.jsonl", "summary.json")]
        return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files)

    def episodes(self) -> pd.DataFrame:
        """One row an episode, as `ajet.analysis.frames.episodes_of` gives them, without counts of tokens."""
        # A run that is resumed writes a step's file again.
        files = tuple((path, path.stat().st_mtime_ns) for path in self.run().trajectory_files())
        with self._lock:
            if self._joined is None or self._joined[0] != files:
                self._read_new(files)
                known = [self._read[file] for file in files]
                joined = pd.concat(known, ignore_index=True) if known else episodes_of(read_outcomes([]))
                self._joined = (files, joined)
            return self._joined[1]

    def _read_new(self, files: Sequence[_File]) -> None:
        """All new files in one go, for grouping costs as much for one file as for a hundred."""
        new = [file for file in files if file not in self._read]
        if not new:
            return
        episodes = episodes_of(read_outcomes(path for path, _ in new))
        by_collection = dict(iter(episodes.groupby(["split", "step"], sort=False)))
        for file in new:
            split, _, step = file[0].stem.rpartition("_")
            one = by_collection.get((split, int(step)), episodes.iloc[:0])  # a file may have no rows
            # Tags that only other files hold are not columns of this one.
            foreign = [column for column in one if column.startswith(REWARD) and one[column].isna().all()]
            self._read[file] = one.drop(columns=foreign)

    def choices(self) -> Choices:
        """What there is to narrow the list to."""
        episodes = self.episodes()
        return Choices(
            splits=sorted(episodes["split"].unique()),
            steps=sorted(int(step) for step in episodes["step"].unique()),
            tags=tags_of(episodes),
            statuses=sorted(episodes["status"].unique()),
        )

    def select(self, wanted: EpisodeFilter) -> pd.DataFrame:
        """The episodes that are wanted, in the wanted order."""
        frame = self.episodes()
        if wanted.split:
            frame = frame[frame["split"] == wanted.split]
        if wanted.step is not None:
            frame = frame[frame["step"] == wanted.step]
        if wanted.task:
            frame = frame[frame["task"].str.contains(wanted.task, regex=False)]
        if wanted.status:
            frame = frame[frame["status"] == wanted.status]
        if wanted.outcome:
            frame = frame[frame["success"].map(outcome_of) == wanted.outcome]
        frame = _within(frame, wanted)
        column, ascending = _SORTED[wanted.order]
        ties = {"step": False, "split": True, "task": True, "repeat": True}
        keys = {column: ascending} | {name: rising for name, rising in ties.items() if name != column}
        return frame.sort_values(list(keys), ascending=list(keys.values()), na_position="last")

    def group(self, key: EpisodeKey) -> pd.DataFrame:
        """All episodes of a task in one collection.

        Raises:
            RunDirectoryError: there are none.
        """
        episodes = self.episodes()
        same = (episodes["split"] == key.split) & (episodes["step"] == key.step) & (episodes["task"] == key.task)
        if not same.any():
            raise RunDirectoryError(f"{self._path} holds no episode of task {key.task} in {key.split} {key.step}")
        return episodes[same].sort_values("repeat")

    def episode(self, key: EpisodeKey) -> pd.Series:
        """One row of `episodes`.

        Raises:
            RunDirectoryError: there is no such episode.
        """
        group = self.group(key)
        found = group[group["repeat"] == key.repeat]
        if found.empty:
            repeats = ", ".join(map(str, group["repeat"]))
            raise RunDirectoryError(f"task {key.task} has no episode {key.repeat}; it has {repeats}")
        return found.iloc[0]

    def calls(self, key: EpisodeKey) -> pd.DataFrame:
        """The calls of an episode, as `ajet.analysis.frames.read_texts` gives them."""
        calls = self.run().texts(split=key.split, step=key.step, task=key.task, repeat=key.repeat)
        return calls[calls["call_index"] >= 0].reset_index(drop=True)


def _within(frame: pd.DataFrame, wanted: EpisodeFilter) -> pd.DataFrame:
    column = f"{REWARD}{wanted.tag}" if wanted.tag else "score"
    if wanted.tag or wanted.least is not None or wanted.most is not None:
        values = frame[column] if column in frame else pd.Series(float("nan"), index=frame.index)
        least = float("-inf") if wanted.least is None else wanted.least
        most = float("inf") if wanted.most is None else wanted.most
        return frame[values.between(least, most)]
    return frame


def tags_of(episodes: pd.DataFrame) -> list[str]:
    """The trained tags that a frame of episodes has rewards of."""
    return [column.removeprefix(REWARD) for column in episodes.columns if column.startswith(REWARD)]


def outcome_of(success: Any) -> str:
    """`won`, `lost`, or `open` where success is not told."""
    if pd.isna(success):
        return "open"
    return "won" if success else "lost"
