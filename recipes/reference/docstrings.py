"""The strings that stand under fields: Python keeps none of them, so they are read from the source."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise


def field_docstrings(kind: type) -> dict[str, str]:
    """The docstring under each annotated field of a class, those of its bases included, in one line."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        module = inspect.getmodule(owner)
        if owner is object or module is None or not module.__name__.startswith("ajet"):
            continue
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
                found |= _below_fields(node)
    return found


def class_docstring(kind: type) -> str:
    """The class's own docstring in one line; empty where it has none."""
    return one_line(vars(kind).get("__doc__") or "")


def one_line(text: str) -> str:
    """Without the breaks and the indentation that the source needs."""
    return " ".join(text.split())


def _below_fields(owner: ast.ClassDef) -> dict[str, str]:
    return {
        above.target.id: one_line(below.value.value)
        for above, below in pairwise(owner.body)
        if isinstance(above, ast.AnnAssign)
        and isinstance(above.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
