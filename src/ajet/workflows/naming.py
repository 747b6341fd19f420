"""A workflow as Python names it, a class or an entry, -> the overrides that name it on a command line.

A class of a file is named by the file, one of an installed package by its module. A class of a notebook has neither:
its source is taken from the cells, checked, and written into the run directory by whoever makes that.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ajet.config.user_code.cells import FILE, CellSource, KeptSource, source_from_cells
from ajet.config.user_code.sameness import is_same
from ajet.errors import ConfigError
from ajet.workflow import Workflow
from ajet.workflows import builtin_workflows
from ajet.workflows.loading import load_workflow

_OVERRIDE = re.compile(r"[+~]*[\w./@]+=")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedWorkflow:
    """How a command line names a workflow."""

    overrides: list[str]
    """Empty where none is named."""
    source: KeptSource | None = None
    """Of a notebook's class, whose entry depends on where the file will lie."""


def name_workflow(workflow: object) -> NamedWorkflow:
    """Name a class, a built-in workflow or an entry.

    Args:
        workflow: a `Workflow` subclass, a built-in workflow's name, an entry as `workflow.entry` takes it, or None; an
            override such as `workflow=signals` is left as it is.

    Raises:
        ConfigError: it is none of these, or a class that no later process could find again.
    """
    if workflow is None:
        return NamedWorkflow(overrides=[])
    if isinstance(workflow, str):
        return NamedWorkflow(overrides=[workflow] if _OVERRIDE.match(workflow) else _named(workflow))
    if not (isinstance(workflow, type) and issubclass(workflow, Workflow)):
        known = ", ".join(builtin_workflows())
        raise ConfigError(f"{workflow!r} is not a workflow: give a class, an entry, or a built-in name: {known}")
    if "." in workflow.__qualname__:
        raise ConfigError(f"{workflow.__qualname__} is defined within something else: move it to the top of a file")
    if workflow.__module__ == "__main__" and getattr(sys.modules["__main__"], "__file__", None) is None:
        return NamedWorkflow(overrides=["workflow=custom"], source=_kept(workflow))
    return NamedWorkflow(overrides=_named(_entry(workflow)))


def _named(entry: str) -> list[str]:
    if "->" not in entry and ":" not in entry:
        return [f"workflow={entry}"]  # of no such option Hydra says which there are
    return ["workflow=custom", f"workflow.entry={entry}"]


def _entry(workflow: type[Workflow]) -> str:
    """Of a class that was imported, or is the script's that runs."""
    module, name = sys.modules[workflow.__module__], workflow.__name__
    place = workflow.__module__
    built_in = next((key for key in builtin_workflows() if place == f"ajet.workflows.{key}.workflow"), None)
    if built_in is not None:
        return built_in
    if getattr(module, name, None) is not workflow:
        raise ConfigError(f"{workflow.__module__}.{name} is another class by now: define it once, at the top of a file")
    spec, file = module.__spec__, module.__file__
    if spec is None and file is not None:  # `python script.py`
        return f"{Path(file).resolve()}->{name}"
    assert spec is not None
    is_installed = spec.origin is not None and Path(spec.origin).is_relative_to(sysconfig.get_path("purelib"))
    if "." in spec.name or is_installed or file is None or not file.endswith(".py"):
        return f"{spec.name}:{name}"
    # By its file: another process may not have its folder on the path.
    return f"{Path(file).resolve()}->{name}"


def _kept(workflow: type[Workflow]) -> KeptSource:
    """The source of a class of a notebook.

    Raises:
        ConfigError: there is no notebook, or what its cells say now is not what the notebook holds.
    """
    name, held = workflow.__name__, vars(sys.modules["__main__"])
    where = f"move {name} and what it needs to a file, and import it from there"
    if "get_ipython" not in held or "In" not in held:
        raise ConfigError(f"{name} was typed in and stands in no file, so no later process could find it: {where}")
    if held.get(name) is not workflow:
        raise ConfigError(f"{name} is another class by now: run its cell again, or {where}")
    source = source_from_cells(list(held["In"]), name, frozenset(held))
    kept = KeptSource(text=source.text, name=name)
    with TemporaryDirectory() as folder:
        entry = kept.write(Path(folder))
        try:
            loaded = load_workflow(entry)
        except ConfigError as error:
            # The file is gone when this is read.
            said = str(error).replace(f"workflow.entry={entry}: ", "").replace(entry.rpartition("->")[0], FILE)
            raise ConfigError(
                f"the cells that define {name} cannot be run anew ({said}): run them again in their order, or {where}"
            ) from error
        made = vars(sys.modules[loaded.__module__])
    _check_same(source, held, made, where)
    return kept


def _check_same(source: CellSource, held: dict[str, object], made: dict[str, object], where: str) -> None:
    modules = frozenset({str(held["__name__"]), str(made["__name__"])})
    for name in source.names:
        if name in held and not is_same(held[name], made.get(name), modules=modules):
            raise ConfigError(
                f"{name} is not what its cell makes when it is run anew (it has been changed since, or a cell that "
                f"defines it failed), so a later process would play something else: run its cell again, or {where}"
            )
