"""A logger that a user wrote: what it is built from, and what becomes of what it raises.

In: the user's class and its settings. Out: a `MetricLogger` whose failures are one sentence that names the setting and
the user's line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ajet.config.component import construct
from ajet.config.fields import needed
from ajet.config.user_code.lines import one_line
from ajet.errors import LoggerError, is_users
from ajet.records import EpisodeGroup
from ajet.tracking.loggers import MetricLogger


@dataclass
class OwnLoggerConfig:
    """A user's logger (docs/extend/logger.md), with its settings in a subclass that is made of its own dataclass."""

    own: str = needed()
    """Its import path, as in `logger.own`."""

    component: ClassVar[Any] = None
    """The class."""

    def build(self, *, run_config: object, run_dir: Path, earlier: Sequence[Mapping[str, float | None]]) -> OwnLogger:
        """The logger, given what its `__init__` names.

        Args:
            run_config: the whole run's configuration by attributes.
            run_dir: of the run.
            earlier: the lines of `metrics.jsonl` that a resumed run starts from; empty for a new run.

        Raises:
            ConfigError: what its `__init__` raised.
        """
        setting = f"logger.own={self.own}"
        made = construct(self, setting, run_config=run_config, run_dir=run_dir, earlier=earlier)
        return OwnLogger(made, setting)


class OwnLogger:
    """Stands before a user's logger."""

    def __init__(self, logger: MetricLogger, setting: str) -> None:
        """`setting`: what chose it, with its value, for errors."""
        self._logger = logger
        self._setting = setting

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Hand over the step, with a copy of its metrics.

        Raises:
            LoggerError: the logger raised something, were it `SystemExit`.
        """
        complaint = self._failure(lambda: self._logger.log(step, dict(metrics), groups))
        if complaint is not None:
            raise LoggerError(complaint)

    def close(self) -> None:
        """Close it; what it raises is a warning, for the run is over, and `metrics.jsonl` has every step."""
        complaint = self._failure(self._logger.close)
        if complaint is not None:
            print(f"warning: {complaint}; metrics.jsonl has every step", file=sys.stderr, flush=True)

    def _failure(self, call: Callable[[], object]) -> str | None:
        try:
            call()
        except BaseException as error:  # the boundary to code that users write
            if is_users(error):
                raise
            return f"{self._setting}: {one_line(error)}"
        return None
