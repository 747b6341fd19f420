"""Tasks -> episodes: one episode at a time in `runner`, groups of them in `scheduler`.

`agents`, `endpoint`, `opponents` and `judges` are what an episode needs besides; `python -m ajet.rollout` starts in
`__main__.py`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ajet.analysis import Run
    from ajet.workflow import Workflow


class Rollout(ModuleType):
    """The package, which can be called: a module's class may be set (Python's data model)."""

    def __call__(self, workflow: type[Workflow] | str | None = None, /, *overrides: str, **settings: object) -> Run:
        """Play episodes without training as `python -m ajet.rollout` does, told call by call.

        Example: `ajet.rollout(MyWorkflow, num_episodes=2).episodes`.

        Args:
            workflow: as `ajet.train` takes it.
            overrides: likewise.
            settings: likewise.

        Returns:
            The run, whose `.episodes` and `.calls` are what was played.

        Raises:
            ConfigError: a setting cannot work; nothing was created or loaded.
            RunInterruptedError: Ctrl-C; what there is was kept, and the message says where.
            AjetError: the run failed or stopped itself.
        """
        from ajet.rollout.__main__ import from_python

        return from_python(workflow, overrides, settings)


sys.modules[__name__].__class__ = Rollout
