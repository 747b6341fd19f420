"""`data=python`: a function of a user's that yields tasks -> rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from ajet.config.fields import code, named
from ajet.config.user_code.importing import load_callable
from ajet.config.user_code.running import running_user_code
from ajet.data.listed import PathConfig
from ajet.data.rows import TaskRow, rows_of


@dataclass
class PythonConfig(PathConfig):
    """A function that yields tasks or mappings."""

    reader: str = named("python")
    path: str = code(needed="module:function or path/file.py->function")
    """The function of the training tasks: `module:function` or `path/file.py->function`, without arguments."""
    held_out_path: str | None = code()
    """That of the held-out tasks; null: a part of the training tasks is held out."""

    @override
    def rows(self, path: str, *, held_out: bool, setting: str) -> Sequence[TaskRow]:
        function = load_callable(path, setting=setting)
        with running_user_code(f"{setting}={path}"):
            return rows_of(function(), path, f"{setting}={path}")
