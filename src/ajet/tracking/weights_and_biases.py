"""Metrics to Weights & Biases, which may be slow, away or broken without a run's noticing more than a warning.

`metrics.jsonl` is the truth: what it has and W&B has not, because a process was killed before it was sent or the run
continued offline, is logged again on resume. W&B's own environment variables hold where the configuration is silent.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError, RunDirectoryError
from ajet.records import Episode, EpisodeGroup
from ajet.tracking.files.reading import read_json
from ajet.tracking.files.writing import write_json, writing
from ajet.tracking.text import reply_line, rewards_text

EPISODE_COLUMNS = ("step", "task", "status", "success", "rewards", "calls", "said")
"""Of the table of sample episodes."""
ID_FILE = "ajet_run.json"
INIT_TIMEOUT_S = 6.0
"""For a server to answer; W&B itself waits 90 s. WANDB_INIT_TIMEOUT overrides it."""
FINISH_TIMEOUT_S = 60.0
"""For the rest to be uploaded at a run's end; what is not lies in the run directory. WANDB_FINISH_TIMEOUT overrides."""


MODES = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "shared": "shared",
    "run": "online",
    "dryrun": "offline",
}
"""What W&B takes as WANDB_MODE, its old names included, and what is meant."""
KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
"""Environment variables that let one in."""


@dataclass
class WandbConfig:
    """The run in Weights & Biases, which never stops training: `metrics.jsonl` has every step in any case."""

    mode: str = one_of("auto", "auto", "online", "offline", "disabled")
    """`auto`: as WANDB_MODE says; without it online if WANDB_API_KEY is set, else offline. A server that cannot be
    reached makes an offline run of an online one."""
    project: str | None = None
    """The project's name; null: WANDB_PROJECT, or ajet."""
    group: str | None = None
    """Groups the runs of one study; null: WANDB_RUN_GROUP, or none."""
    name: str | None = None
    """The run's name; null: WANDB_NAME, or the run directory's."""
    sample_episodes: int = ruled(2, at_least=0)
    """Episodes of each step that are logged as a table to read."""

    def build(
        self,
        *,
        run_dir: Path,
        run_config: Mapping[str, Any],
        earlier: Sequence[Mapping[str, float | None]],
    ) -> WandbLogger | None:
        """The logger, or None where W&B is off; says if that leaves settings without an effect.

        Args: as `WandbLogger`.
        """
        note = self.disabled_by_environment()
        if note is not None:
            print(f"note: {note}", file=sys.stderr, flush=True)
        if self.mode_in_use() == "disabled":
            return None
        return WandbLogger(self, run_dir=run_dir, run_config=run_config, earlier=earlier)

    def mode_in_use(self) -> str:
        """The mode that the setting and W&B's own environment variables come to.

        Raises:
            ConfigError: WANDB_MODE is none of W&B's.
        """
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
            return "disabled"
        asked = os.environ.get("WANDB_MODE")
        if asked:
            if asked not in MODES:
                raise ConfigError(
                    f"WANDB_MODE={asked} is none of W&B's modes: set it to {', '.join(MODES)}, or unset it"
                )
            return MODES[asked]
        return "online" if any(os.environ.get(key) for key in KEYS) else "offline"

    def disabled_by_environment(self) -> str | None:
        """A note on settings that the environment keeps from having an effect; None where there are none."""
        given = self._given()
        if not given or self.mode != "auto" or self.mode_in_use() != "disabled":
            return None
        variable = next(name for name in ("WANDB_DISABLED", "WANDB_MODE") if os.environ.get(name))
        settings = ", ".join(f"logger.wandb.{name}" for name in given)
        return f"{variable}={os.environ[variable]} turns W&B off, so {settings} has no effect"

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: what to change.
        """
        self.mode_in_use()
        for name in self._given() if self.mode == "disabled" else []:
            raise ConfigError(f"logger.wandb.{name} has no effect with logger.wandb.mode=disabled: drop one of them")
        has_key = any(key in os.environ for key in KEYS) or (Path.home() / ".netrc").is_file()
        if self.mode == "online" and not has_key:
            raise ConfigError(
                "logger.wandb.mode=online needs WANDB_API_KEY in the environment; or choose auto, offline"
            )

    def _given(self) -> list[str]:
        """What else than the mode is set."""
        default = WandbConfig()
        names = ("project", "group", "name", "sample_episodes")
        return [name for name in names if getattr(self, name) != getattr(default, name)]


class WandbLogger:
    """Logs one run; offline runs lie in the run directory and can be synced later (`wandb sync`)."""

    def __init__(
        self,
        config: WandbConfig,
        *,
        run_dir: Path,
        run_config: Mapping[str, Any],
        earlier: Sequence[Mapping[str, float | None]],
    ) -> None:
        """Begin the W&B run, or resume the one that the run directory remembers.

        Args:
            config: W&B's settings, not disabled.
            run_dir: the run directory.
            run_config: what W&B shows as the run's settings.
            earlier: lines of `metrics.jsonl` that a resumed run has already; those that W&B lacks are logged.
        """
        import wandb

        self._num_sample_episodes = config.sample_episodes
        self._make_table = wandb.Table
        about = {
            "dir": None if "WANDB_DIR" in os.environ else str(run_dir),
            "project": config.project or os.environ.get("WANDB_PROJECT") or "ajet",
            "name": config.name or os.environ.get("WANDB_NAME") or "-".join(run_dir.parts[-2:]),
            "group": config.group,
            "config": dict(run_config),
        }
        self._run: Any = _begin(config.mode_in_use(), about, run_dir / "wandb")
        starting_step = 0 if self._run is None else self._run.starting_step
        for line in earlier:
            step = int(line["step"] or 0)
            if step >= starting_step:
                self._log(step, {k: math.nan if v is None else v for k, v in line.items() if k != "step"})

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Log one step under the same names, and the first episodes of it as `samples/episodes`."""
        logged: dict[str, Any] = dict(metrics)
        episodes = [_episode_row(step, group.episodes[0]) for group in groups[: self._num_sample_episodes]]
        if episodes and self._run is not None:
            logged["samples/episodes"] = self._make_table(columns=list(EPISODE_COLUMNS), data=episodes)
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
            wandb.teardown()  # it would keep trying
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
    """The same for every process that resumes this run directory, wherever it is moved."""
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


def _episode_row(step: int, episode: Episode) -> list[Any]:
    said = "\n\n".join(reply_line(call.agent_name, call.target_tag, call.reply) for call in episode.calls)
    rewards = rewards_text(episode.rewards)
    return [step, episode.task.task_id, episode.status, episode.is_success, rewards, len(episode.calls), said]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
