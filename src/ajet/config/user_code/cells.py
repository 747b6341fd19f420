"""Cells of a notebook in, the source of a module that defines one of their classes out.

A notebook has no file that a later process could import. Its class is kept as the statements that define it and, again
and again, what these need: imports, functions, other classes, values. Whole cells would not do, for the cell with the
class may start the training. Left out: statements that only act, such as `words.append("x")`; whoever calls compares
what the module makes with what the notebook holds.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from symtable import SymbolTable

from ajet.errors import ConfigError
from ajet.tracking.files.writing import write_text

FILE = "workflow.py"
"""Holds a notebook's class, in the run directory."""
_HEADING = "needs of the cells of a notebook; written by ajet."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """One statement of a cell."""

    text: str
    binds: frozenset[str]
    """Names that it defines; `*` for all that a module exports."""
    needs: frozenset[str]
    """Global names that it, or code within it, looks up."""
    is_future: bool
    """Whether it is `from __future__ import …`, which counts for its whole cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSource:
    """What a class needs of the cells."""

    text: str
    """Of the module."""
    names: tuple[str, ...]
    """That it defines, imports included; what the notebook has under them may have changed since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSource:
    """A module that a run directory keeps, for there is no other file of it."""

    text: str
    name: str
    """Of the class in it."""

    def write(self, folder: Path) -> str:
        """Write the file; returns the entry that names the class in it."""
        path = folder.absolute() / FILE
        write_text(path, self.text)
        return f"{path}->{self.name}"


def is_kept(content: bytes) -> bool:
    """Whether a file is one that `source_from_cells` wrote."""
    first = content.partition(b"\n")[0]
    return first.startswith(b'"""What ') and first.endswith(f'{_HEADING}"""'.encode())


def source_from_cells(cells: Sequence[str], name: str, known: frozenset[str]) -> CellSource:
    """The module that defines `name` as the notebook does now.

    Args:
        cells: the source of all that were executed, in this order.
        name: of the class.
        known: all names that the notebook has.

    Raises:
        ConfigError: no cell defines the class, or something that it needs.
    """
    statements = [statement for cell in cells for statement in _statements(cell)]
    # Cells are run again: a statement stands where it stood first, before what was made of it then.
    first = {statement.text: i for i, statement in reversed(list(enumerate(statements)))}
    chosen: set[int] = set()
    wanted = [(name, len(statements))]
    while wanted:
        word, before = wanted.pop()
        place = next((i for i in reversed(range(before)) if word in statements[i].binds), None)
        if place is None:
            stars = {i for i, statement in enumerate(statements) if "*" in statement.binds}
            if word == name or (not stars and word in known and not hasattr(builtins, word)):
                raise ConfigError(f"{name} needs {word}, which no cell defines: move both to a file and import them")
            chosen |= {first[statements[i].text] for i in stars} if word in known else set()
        elif first[statements[place].text] not in chosen:
            place = first[statements[place].text]
            chosen.add(place)
            # A name that a statement makes anew out of itself, as in `n = n + 1`, is that of an earlier statement.
            own = statements[place].binds
            wanted += [(need, place if need in own else len(statements)) for need in statements[place].needs]
    kept = [statements[i] for i in sorted(chosen)]
    futures = dict.fromkeys(statement.text for statement in statements if statement.is_future)
    lines = [f'"""What {name} {_HEADING}"""', *futures]
    names = sorted({bound for statement in kept for bound in statement.binds} - {"*"})
    return CellSource(text="\n\n".join([*lines, *(s.text for s in kept)]) + "\n", names=tuple(names))


_MEASURING = {"capture", "prun", "time"}
"""Cell magics that run their cell as if they were not there."""


def _beneath_magic(parsed: ast.Module) -> str | None:
    """The cell under `%%time` and its like, as IPython has translated it; None where there is none."""
    match parsed.body:
        case [
            ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(attr="run_cell_magic"),
                    args=[ast.Constant(value=magic), _, ast.Constant(value=str(body))],
                )
            )
        ] if magic in _MEASURING:
            return body
    return None


def _statements(cell: str) -> Iterator[_Statement]:
    try:
        parsed = ast.parse(cell)
    except SyntaxError:  # it was not executed either
        return
    beneath = _beneath_magic(parsed)
    if beneath is not None:
        yield from _statements(beneath)
        return
    lines = cell.splitlines()
    for node in parsed.body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        # Whole lines where the statement has them to itself, so that strings of several lines stay as they are.
        alone = not any(
            other is not node and other.lineno <= (node.end_lineno or 0) and (other.end_lineno or 0) >= first
            for other in parsed.body
        )
        text = "\n".join(lines[first - 1 : node.end_lineno]) if alone else ast.unparse(node)
        yield _Statement(
            text=text,
            binds=frozenset(_bound(node)),
            needs=frozenset(_needed(ast.unparse(node))) | frozenset(_annotated(node)),
            is_future=isinstance(node, ast.ImportFrom) and node.module == "__future__",
        )


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a statement defines in the module; what it defines within a function or class is not the module's."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Store):
            yield node.id
    elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def _needed(text: str) -> Iterator[str]:
    """Names that a statement looks up in the module, now or when its functions are called."""
    module = symtable.symtable(text, "<cell>", "exec")
    yield from (symbol.get_name() for symbol in module.get_symbols() if symbol.is_referenced())
    yield from _globals_of(module.get_children())


def _globals_of(tables: Sequence[SymbolTable]) -> Iterator[str]:
    for table in tables:
        yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_global())
        yield from _globals_of(table.get_children())


def _annotated(node: ast.AST) -> Iterator[str]:
    """Names in annotations, which pydantic looks up, also where Python is told to leave them as texts."""
    for inner in ast.walk(node):
        for annotation in (getattr(inner, "annotation", None), getattr(inner, "returns", None)):
            if isinstance(annotation, ast.AST):
                yield from (name.id for name in ast.walk(annotation) if isinstance(name, ast.Name))
