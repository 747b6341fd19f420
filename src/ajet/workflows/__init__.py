"""Workflows that ship with ajet: a folder each, whose `workflow.py` defines one `Workflow`."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def builtin_workflows() -> tuple[str, ...]:
    """Their names, sorted: the folders beside this file that hold a `workflow.py`. None of them is loaded."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/workflow.py")))
