"""Metrics to Weights & Biases, which may be slow, away or broken without a run's noticing more than a warning.

`metrics.jsonl` is the truth: what it has and W&B has not, because a process was killed before it was sent or the run
goes on offline, is logged again on resume. W&B's own environment variables hold where the configuration is silent.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from ajet.errors import RunDirectoryError
from ajet.records import Episode, EpisodeGroup
from ajet.tracking.files.reading import read_json
from ajet.tracking.files.writing import write_json, writing
from ajet.tracking.text import reply_line, rewards_text

GAME_COLUMNS = ("step", "task", "status", "success", "rewards", "calls", "said")
"""Of the table of sample games."""
ID_FILE = "ajet_run.json"
INIT_TIMEOUT_S = 6.0
"""For a server to answer; W&B itself waits 90 s. WANDB_INIT_TIMEOUT overrides it."""
FINISH_TIMEOUT_S = 60.0
"""For the rest to be uploaded at a run's end; what is not lies in the run directory. WANDB_FINISH_TIMEOUT overrides."""


class WandbLogger:
    """Logs one run; offline runs lie in the run directory and can be synced later (`wandb sync`)."""

    def __init__(
        self,
        *,
        run_dir: Path,
        mode: str,
        project: str | None,
        name: str | None,
        group: str | None,
        config: Mapping[str, Any],
        num_sample_games: int,
        earlier: Sequence[Mapping[str, float | None]],
    ) -> None:
        """Begin the W&B run, or go on with the one that the run directory remembers.

        Args:
            run_dir: the run directory.
            mode: `online`, `offline` or `shared`.
            project: null: WANDB_PROJECT, or `ajet`.
            name: null: WANDB_NAME, or the run directory's.
            group: null: WANDB_RUN_GROUP, or none.
            config: what W&B shows as the run's settings.
            num_sample_games: of each step, as a table to read.
            earlier: lines of `metrics.jsonl` that a resumed run has already; those that W&B lacks are logged.
        """
        import wandb

        self._num_sample_games = num_sample_games
        self._make_table = wandb.Table
        about = {
            "dir": None if "WANDB_DIR" in os.environ else str(run_dir),
            "project": project or os.environ.get("WANDB_PROJECT") or "ajet",
            "name": name or os.environ.get("WANDB_NAME") or "-".join(run_dir.parts[-2:]),
            "group": group,
            "config": dict(config),
        }
        self._run: Any = _begin(mode, about, run_dir / "wandb")
        starting_step = 0 if self._run is None else self._run.starting_step
        for line in earlier:
            step = int(line["step"] or 0)
            if step >= starting_step:
                self._log(step, {k: math.nan if v is None else v for k, v in line.items() if k != "step"})

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Log one step under the same names, and the first games of it as `samples/games`."""
        logged: dict[str, Any] = dict(metrics)
        games = [_game_row(step, group.episodes[0]) for group in groups[: self._num_sample_games]]
        if games and self._run is not None:
            logged["samples/games"] = self._make_table(columns=list(GAME_COLUMNS), data=games)
        self._log(step, logged)

    def _log(self, step: int, logged: Mapping[str, Any]) -> None:
        if self._run is None:
            return
        try:
            # Committed at once: a step that waited for the next one would be lost with the process.
            self._run.log(dict(logged), step=step, commit=True)
        except Exception as error:  # the boundary to a service of others
            self._run = None
            _warn(f"W&B takes no more steps ({_line(error)}); metrics.jsonl has them all")

    def close(self) -> None:
        """End the W&B run; what could not be uploaded stays in the run directory."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:  # the boundary to a service of others
            _warn(f"W&B could not end its run ({_line(error)}); metrics.jsonl has every step")


def _begin(mode: str, about: Mapping[str, Any], folder: Path) -> Any:
    """The W&B run: as asked, else an offline one, else None. `folder` remembers its id."""
    import wandb

    _keep_the_services_log_in_a_file()
    patience: dict[str, Any] = {}
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        patience |= {"init_timeout": INIT_TIMEOUT_S, "login_timeout": INIT_TIMEOUT_S}
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        patience["finish_timeout"] = FINISH_TIMEOUT_S
    for attempt in dict.fromkeys((mode, "offline")):
        # Of a run that could not begin W&B holds the id, where its service is shared with the process that started it.
        run_id = _run_id(folder) if attempt == mode else _new_run_id(folder)
        try:
            return wandb.init(
                **about,
                id=os.environ.get("WANDB_RUN_ID") or run_id,
                mode=attempt,  # type: ignore[arg-type]
                resume=None if attempt == "offline" else "allow",
                settings=wandb.Settings(silent=True, console="off", **patience),
            )
        except Exception as error:  # the boundary to a service of others
            instead = "there is metrics.jsonl alone" if attempt == "offline" else "this run is logged offline"
            _warn(f"W&B cannot be used {attempt} ({_line(error)}); {instead}")
            wandb.teardown()  # it would go on trying
    return None


def _keep_the_services_log_in_a_file() -> None:
    """W&B's service writes its log to our standard error if it cannot write to the cache folder, so give it another."""
    import platformdirs  # W&B's own choice of folders

    cache = Path(platformdirs.user_cache_dir("wandb"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        writable = os.access(cache, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        os.environ.setdefault("WANDB_CACHE_DIR", tempfile.mkdtemp(prefix="ajet-wandb-"))


def _run_id(folder: Path) -> str:
    """The same for every process that goes on with this run directory, wherever it is moved."""
    path = folder / ID_FILE
    if path.is_file():
        try:
            return str(read_json(path, dict)["id"])
        except (RunDirectoryError, KeyError) as error:
            _warn(f"{error}; W&B gets a new run")
    return _new_run_id(folder)


def _new_run_id(folder: Path) -> str:
    run_id = uuid4().hex[:16]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ID_FILE, {"id": run_id})
    return run_id


def _game_row(step: int, episode: Episode) -> list[Any]:
    said = "\n\n".join(reply_line(call.agent_name, call.target_tag, call.reply) for call in episode.calls)
    rewards = rewards_text(episode.rewards)
    return [step, episode.task.task_id, episode.status, episode.is_success, rewards, len(episode.calls), said]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
