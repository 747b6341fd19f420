"""Where metrics go: `metrics.jsonl` always, Weights & Biases and the console as configured.

Each logger takes one dict of numbers a step; `CompositeLogger` hands it to all. Left out: deciding what to measure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ajet.records import Episode, EpisodeGroup

GAME_COLUMNS = ("step", "task", "status", "success", "rewards", "calls", "said")
"""Of the table of sample games in W&B."""


class MetricLogger(Protocol):
    """Takes the metrics of one step."""

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Write one step; `groups` are its episodes, for samples to read."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


class JsonlLogger:
    """`metrics.jsonl`: one JSON object a step, `step` first, flushed as it is written."""

    def __init__(self, path: Path, *, keep_below_step: int | None = None) -> None:
        """Append to `path`; on resume, lines from `keep_below_step` on are dropped first, they are run again."""
        if keep_below_step is not None and path.exists():
            _drop_from(path, keep_below_step)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Append one line; a number that is not finite becomes null, as JSON has no other word for it."""
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _drop_from(path: Path, step: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.rename(path)


class WandbLogger:
    """Weights & Biases; offline runs lie in the run directory and can be synced later."""

    def __init__(
        self,
        *,
        run_dir: Path,
        mode: str,
        project: str,
        name: str,
        group: str | None,
        run_id: str,
        config: Mapping[str, Any],
        num_sample_games: int,
    ) -> None:
        """`run_id` is stable over resumes, so that a resumed run goes on in the same W&B run."""
        import wandb

        self._num_sample_games = num_sample_games
        self._make_table = wandb.Table

        self._run = wandb.init(
            dir=str(run_dir),
            mode=mode,  # type: ignore[arg-type]
            project=project,
            name=name,
            group=group,
            id=run_id,
            resume="allow" if mode == "online" else None,
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Log one step under the same names, and the first games of it as `samples/games`."""
        logged: dict[str, Any] = dict(metrics)
        games = [_game_row(step, group.episodes[0]) for group in groups[: self._num_sample_games]]
        if games:
            logged["samples/games"] = self._make_table(columns=list(GAME_COLUMNS), data=games)
        self._run.log(logged, step=step)

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


def _game_row(step: int, episode: Episode) -> list[Any]:
    rewards = " ".join(f"{name} {reward:g}" for name, reward in episode.rewards.items())
    said = "\n\n".join(f"{call.agent_name} ({call.target_tag}): {call.reply}" for call in episode.calls)
    return [step, episode.task.task_id, episode.status, episode.is_success, rewards, len(episode.calls), said]


class CompositeLogger:
    """Hands every step to several loggers."""

    def __init__(self, loggers: Sequence[MetricLogger]) -> None:
        """The loggers, in the order in which they are called."""
        self._loggers = list(loggers)

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Log to all."""
        for logger in self._loggers:
            logger.log(step, metrics, groups)

    def close(self) -> None:
        """Close all."""
        for logger in self._loggers:
            logger.close()
