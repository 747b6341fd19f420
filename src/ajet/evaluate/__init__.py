"""Held-out play and what it proves: scores by task, paired differences with intervals, summaries.

`python -m ajet.evaluate` starts in `__main__.py`; intervals and tests are in `statistics`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ajet.analysis import EvaluationResult


class HeldOutPlay(ModuleType):
    """The package, which can be called: a module's class may be set (Python's data model)."""

    def __call__(
        self,
        run: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
        /,
        *overrides: str,
        **settings: object,
    ) -> EvaluationResult:
        """Play finished runs on held-out tasks as `python -m ajet.evaluate` does.

        Example: `ajet.evaluate(run, opponent="random").comparison`.

        Args:
            run: what `ajet.train` returned, a run directory or `latest`: its checkpoint against its starting model.
                Several, `base` for the starting model among them: each against each opponent.
            overrides: as on the command line, e.g. `"num_tasks=300"`.
            settings: likewise as keyword arguments, e.g. `opponent="random"`, `opponent=["scripted", "random"]`.

        Returns:
            The evaluation: `.comparison` and `.episodes` are pandas frames, `.run_dir` its directory.

        Raises:
            ConfigError: a setting cannot work; nothing was created or loaded.
            RunInterruptedError: Ctrl-C; the evaluation was dropped.
            AjetError: play failed.
        """
        from ajet.evaluate.__main__ import from_python

        return from_python(run, overrides, settings)


sys.modules[__name__].__class__ = HeldOutPlay
