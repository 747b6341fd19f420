"""Training: timeline, algorithms, batches, packs, the policy and its optimizer, checkpoints, the loop.

`python -m ajet.train` starts in `__main__.py`; the step itself is `loop.py`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ajet.analysis import Run
    from ajet.workflow import Workflow


class Training(ModuleType):
    """The package, which can be called: a module's class may be set (Python's data model)."""

    def __call__(self, workflow: type[Workflow] | str | None = None, /, *overrides: str, **settings: object) -> Run:
        """Train as `python -m ajet.train` does, in a script, a thread or a notebook.

        Example: `run = ajet.train(MyWorkflow, "trainable_targets=[solver]", "model=tiny_tasks", total_steps=20)`.

        Args:
            workflow: a `Workflow` class, also one of a notebook's cell; the name of a built-in workflow; or an entry
                such as `my_game.py->MyGame`. Left out where an override names it, or `resume=` a run.
            overrides: as on the command line, e.g. `"rollout.num_tasks=4"`.
            settings: likewise as keyword arguments: `total_steps=20`, `rollout={"num_tasks": 4}`,
                `**{"rollout.num_tasks": 4}`.

        Returns:
            The run: `.metrics` and `.episodes` are pandas frames, `.run_dir` its directory, `.summary` its end.

        Raises:
            ConfigError: a setting cannot work; nothing was created or loaded.
            RunInterruptedError: Ctrl-C; what there is was kept, and the message says where.
            AjetError: the run failed or stopped itself.
        """
        from ajet.train.__main__ import from_python

        return from_python(workflow, overrides, settings)


sys.modules[__name__].__class__ = Training
