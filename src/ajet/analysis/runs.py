"""Run directories -> `Run` and `Sweep`: what was asked, how far it came, and its numbers as pandas frames.

A run that still goes, or that crashed, is read as far as it came. Frames are read on first use and kept. Left out:
statistics and plots, which take what is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ajet.analysis.checks import checked_config, checked_provenance, checked_summary
from ajet.analysis.evaluations import comparison_frame
from ajet.analysis.frames import KEY, episodes_of, read_calls, read_metrics, read_texts
from ajet.analysis.showing import run_html, run_lines
from ajet.config.renamed import renamed_sections
from ajet.config.sweeps.records import is_sweep
from ajet.errors import RunDirectoryError
from ajet.tracking.files.finding import config_files, is_run, named_run
from ajet.tracking.files.reading import read_json, read_yaml

NOT_COMPARED = (
    *("run_dir", "resume", "logger.", "paths.", "hardware.", "checkpoint.", "endpoint.host", "endpoint.port"),
    *("tinker.timeout_s", "engine.service", "engine.episode_timeout_s"),
)
"""Settings whose difference makes no two experiments; the last two are copies of others."""
OF_SERVERS = ("base_url", "api_key_env", "max_concurrency")
"""Likewise, by the last part of their name: where servers are, and how much they are asked at once."""
TARGETS = "trainable_targets"
_NAME = re.compile(r"[a-z]+_[0-9]{1,9}\.parquet")
"""Of a trajectory file; others are not a run's."""
RunState = Literal["finished", "unfinished"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Run:
    """A run directory, read lazily: `metrics`, `episodes` and `calls` are frames that are made when first asked for."""

    path: Path
    config: Mapping[str, Any]
    """Setting by dotted key, e.g. `{"seed": 0, "trainable_targets": ["seer"], "rollout.group_size": 8}`."""
    summary: Mapping[str, Any]
    """`summary.json`; empty until the run has finished."""
    provenance: Sequence[Mapping[str, Any]]
    """`provenance.json`: an entry a start."""

    @property
    def name(self) -> str:
        """The run directory's last part, e.g. `12-30-00` or the number of a sweep's job."""
        return self.path.name

    @property
    def run_dir(self) -> Path:
        """The directory, as settings call it."""
        return self.path

    def __fspath__(self) -> str:
        """A run stands for its directory, wherever one is taken."""
        return str(self.path)

    def __repr__(self) -> str:
        return "\n".join(run_lines(self))

    def _repr_html_(self) -> str:
        return run_html(self)

    @property
    def state(self) -> RunState:
        """`finished` once all steps that the configuration asks for are done and summed up."""
        done = self.summary.get("num_steps", -1) >= self.config.get("total_steps", 0)
        return "finished" if done else "unfinished"

    @property
    def num_steps(self) -> int:
        """Training steps that are logged."""
        if "episode/ok" not in self.metrics:
            return 0
        return int(self.metrics.loc[self.metrics["episode/ok"].notna(), "step"].max()) + 1

    @property
    def tags(self) -> list[str]:
        """The tags that were trained, sorted, as its metrics name them."""
        return sorted(tag_of(name) for name in self.metrics.columns if is_reward(name))

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row a logged step; see `frames.read_metrics`."""
        return read_metrics(self.path)

    @cached_property
    def calls(self) -> pd.DataFrame:
        """One row a call; see `frames.read_calls`."""
        return read_calls(self.trajectory_files())

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row an episode; see `frames.episodes_of`."""
        return episodes_of(self.calls)

    @cached_property
    def comparison(self) -> pd.DataFrame:
        """What the first and the last evaluation differ by, one row a measure; see `evaluations.comparison_frame`."""
        return comparison_frame(self.summary.get("comparison", {}), self.path / "summary.json")

    def texts(self, *, split: str, step: int, task: str, repeat: int) -> pd.DataFrame:
        """The calls of one episode with messages and replies; see `frames.read_texts`.

        Raises:
            RunDirectoryError: the run stored no episodes of that split and step.
        """
        files = [path for path in self.trajectory_files() if _collection(path) == (split, step)]
        if not files:
            known = ", ".join("{}_{}".format(*_collection(path)) for path in self.trajectory_files())
            raise RunDirectoryError(f"{self.path} stored no episodes of {split}_{step}; it has {known or 'none'}")
        return read_texts(files, task=task, repeat=repeat)

    def trajectory_files(self) -> list[Path]:
        """The files of `trajectories/` that belong to this run, sorted.

        A run that was resumed from an earlier step leaves files of steps behind that it has not reached again.
        """
        # An episode is stored before its step is logged.
        num_collected = self.num_steps + (self.state == "unfinished")
        files = sorted(path for path in (self.path / "trajectories").glob("*.parquet") if _NAME.fullmatch(path.name))
        return [path for path in files if _was_reached(*_collection(path), self.num_steps, num_collected)]


def _collection(path: Path) -> tuple[str, int]:
    split, _, step = path.stem.rpartition("_")
    return split, int(step)


def _was_reached(split: str, step: int, num_steps: int, num_collected: int) -> bool:
    return step < num_collected if split == "train" else step <= num_steps


def is_reward(metric: str) -> bool:
    """Whether a metric is a tag's mean training reward, `reward/<tag>/mean`."""
    return metric.startswith("reward/") and metric.endswith("/mean")


def tag_of(metric: str) -> str:
    """The tag that a name of the form `reward/<tag>/mean` speaks of; the name must have that form."""
    return metric.removeprefix("reward/").removesuffix("/mean")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Several runs that differ in something; none of a sweep whose jobs have not started."""

    path: Path
    runs: Sequence[Run]

    def __iter__(self) -> Iterator[Run]:
        """The runs, in the order of their names."""
        return iter(self.runs)

    @cached_property
    def choices(self) -> pd.DataFrame:
        """What the runs differ in: a row a run (index: its name), a column a setting, `seed` included if it differs.

        A setting that some of the runs do not know, since an earlier version made them, is left out.
        """
        known = set.intersection(*(set(run.config) for run in self.runs)) if self.runs else set()
        keys = sorted(key for key in known if not key.startswith(NOT_COMPARED) and _last(key) not in OF_SERVERS)
        rows = {run.name: [_format_value(key, run.config[key]) for key in keys] for run in self.runs}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=keys)
        return table.loc[:, table.nunique() > 1]

    def conditions(self) -> dict[str, list[Run]]:
        """Runs that differ in nothing but their seed, by what tells them from the others, e.g. `seer+witch`.

        Where nothing does, by the tags that they train.
        """
        telling = self.choices.drop(columns="seed", errors="ignore")
        alike: dict[tuple[str, ...], list[Run]] = {}
        for run in self.runs:
            alike.setdefault(tuple(telling.loc[run.name]), []).append(run)
        if len(alike) == 1:
            return {_format_value(TARGETS, self.runs[0].config.get(TARGETS)): list(self.runs)}
        return {_label(telling.columns, values): runs for values, runs in alike.items()}

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The runs' metrics, with columns `run` and `condition` in front."""
        return self._joined({run.name: run.metrics for run in self.runs})

    @cached_property
    def calls(self) -> pd.DataFrame:
        """The runs' calls, with columns `run` and `condition` in front."""
        return self._joined({run.name: run.calls for run in self.runs})

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """The runs' episodes, with columns `run` and `condition` in front."""
        return self._joined({run.name: run.episodes for run in self.runs})

    def _joined(self, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        condition = {run.name: label for label, runs in self.conditions().items() for run in runs}
        named = [
            frame.assign(run=name, condition=condition[name]).set_index(["run", "condition"]).reset_index()
            for name, frame in frames.items()
            if len(frame)
        ]
        return pd.concat(named, ignore_index=True) if named else pd.DataFrame(columns=["run", "condition", *KEY])


def _format_value(key: str, value: Any) -> str:
    if key == TARGETS and value is None:
        return "all roles"
    return "+".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _label(keys: Iterable[str], values: Iterable[str]) -> str:
    """The tags as they are, other settings with the last part of their name, and options by their group."""
    return ", ".join(
        value if key == TARGETS else f"{_last(key.removesuffix('.name'))}={value}"
        for key, value in zip(keys, values, strict=True)
    )


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def load_run(run_dir: str | Path) -> Run:
    """Read a run directory, finished or not; `latest` is the newest below `outputs`.

    Raises:
        RunDirectoryError: it is none, or damaged; names the file.
        ConfigError: there is no run yet.
    """
    path = named_run(str(run_dir))
    if not is_run(path):
        raise RunDirectoryError(f"{path} is not a run directory: it holds neither config.yaml nor .hydra/config.yaml")
    # A job that failed while it was being built has only what Hydra wrote, whose interpolations are not resolved.
    config = next(file for file in config_files(path) if file.is_file())
    settings = {
        key: value
        for key, value in _dotted(renamed_sections(read_yaml(config)))
        if config.parent == path or not (isinstance(value, str) and "${" in value)
    }
    summary, provenance = path / "summary.json", path / "provenance.json"
    return Run(
        path=path,
        config=checked_config(settings, config),
        summary=checked_summary(read_json(summary, dict), summary) if summary.is_file() else {},
        provenance=checked_provenance(read_json(provenance, list), provenance) if provenance.is_file() else [],
    )


def load_sweep(sweep_dir: str | Path) -> Sweep:
    """Read every run directory in a folder, e.g. one of `outputs/multirun/<date>/`.

    Raises:
        RunDirectoryError: it holds no run directory, and no sweep was started in it; or one of them is damaged.
    """
    path = Path(sweep_dir)
    try:
        folders = sorted(filter(is_run, path.iterdir()), key=_in_order) if path.is_dir() else []
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror}") from error
    if not folders and not is_sweep(path):
        raise RunDirectoryError(f"{path} holds no run directory: name a run's folder or one of outputs/multirun/")
    return Sweep(path=path, runs=[load_run(folder) for folder in folders])


def _in_order(folder: Path) -> tuple[int, str]:
    """Hydra numbers the jobs of a sweep, so that 10 comes after 9."""
    return (int(folder.name) if folder.name.isdigit() else 0, folder.name)


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
