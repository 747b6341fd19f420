"""Whether the statements of a notebook, run anew, make what the notebook holds.

In: an object of the notebook and its namesake of the module that was made from the cells. Out: whether they are the
same program, as far as that can be told. What a pickle would say of both is compared; functions and classes of the
notebook, which a pickle names only, are written out in it: code, defaults, closures, members. Left out: what cannot be
pickled, such as a connection, of which only the type is compared.
"""

from __future__ import annotations

import dis
import functools
import io
import pickle
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

Fingerprint = tuple[object, ...]
_CACHED = type(functools.cache(len))
"""Of functions under `functools.cache` or `lru_cache`; a pickle names them only."""


def is_same(held: object, made: object, *, modules: frozenset[str]) -> bool:
    """Whether two objects of the same statement are alike.

    Args:
        held: what the notebook has.
        made: what the statement made when it ran anew.
        modules: names of the two modules, whose functions and classes are written out.
    """
    if held is made:
        return True
    if type(held).__qualname__ != type(made).__qualname__:
        return False
    contents = [_content(value, modules) for value in (held, made)]
    if None in contents or contents[0] == contents[1]:
        return True
    # Sets of one content may be in two orders.
    return _equal(held, made)


def _content(value: object, modules: frozenset[str], around: Sequence[object] = ()) -> bytes | None:
    """What a pickle says of the value, which stands within `around`; None where there can be none."""
    for keeps_track in (False, True):
        written = io.BytesIO()
        pickler = _Pickler(written, modules, around)
        # Else a pickle also says whether two equal texts are one object, which they may be when cells become one file.
        # What contains itself can only be written so.
        pickler.fast = not keeps_track
        try:
            pickler.dump(value)
        except Exception:  # the boundary to code that users write: any object may refuse, in its own way
            continue
        return written.getvalue()
    return None


def _equal(held: object, made: object) -> bool:
    if isinstance(held, FunctionType | type):
        return False
    try:
        return (held == made) is True
    except Exception:  # as above: `==` is the user's, too
        return False


class _Pickler(pickle.Pickler):
    """A pickle in which functions and classes of some modules are written out."""

    def __init__(self, file: io.BytesIO, modules: frozenset[str], around: Sequence[object]) -> None:
        super().__init__(file, protocol=5)
        self._modules = modules
        self._written = list(around)

    def persistent_id(self, obj: object) -> Fingerprint | None:
        """The content of a function, class or descriptor; None for anything else, and for what was written already."""
        if isinstance(obj, property):
            return "property", obj.fget, obj.fset, obj.fdel
        if isinstance(obj, staticmethod | classmethod):
            return type(obj).__name__, obj.__func__
        if isinstance(obj, _CACHED):
            return "cached", obj.__wrapped__
        if not isinstance(obj, FunctionType | type) or not self._is_written_out(obj):
            return None
        if any(obj is other for other in self._written):
            return "again", obj.__qualname__
        self._written.append(obj)
        return _of_function(obj) if isinstance(obj, FunctionType) else self._of_class(obj)

    def _is_written_out(self, obj: FunctionType | type) -> bool:
        """Whether it is of the two modules, or a function that no module has under its name, as decorators make."""
        if obj.__module__ in self._modules or isinstance(obj, type):
            return obj.__module__ in self._modules
        return getattr(sys.modules.get(obj.__module__), obj.__qualname__, None) is not obj

    def _of_class(self, cls: type) -> Fingerprint:
        members = {}
        for name, member in vars(cls).items():
            # Special names that are no methods are what Python, a metaclass or a decorator made of the rest.
            if not name.startswith("__") or isinstance(member, FunctionType | staticmethod | classmethod | property):
                known = isinstance(member, FunctionType | type | staticmethod | classmethod | property)
                members[name] = (
                    member if known else _content(member, self._modules, self._written) or type(member).__qualname__
                )
        return cls.__qualname__, cls.__bases__, members


def _of_function(function: FunctionType) -> Fingerprint:
    cells = [_cell(cell) for cell in function.__closure__ or ()]
    code = tuple(_of_code(function.__code__))
    return function.__qualname__, code, function.__defaults__, function.__kwdefaults__, cells, vars(function)


def _cell(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


_HOW = {"CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME"}
"""Instructions that say how and not what. How an attribute is called depends on whether the same file, or cell, imports
the name in front of it (CPython's compiler)."""


def _of_code(code: CodeType) -> Iterator[object]:
    """What code does, without where it stands and how the compiler put it."""
    yield from (code.co_varnames, code.co_freevars, code.co_flags)
    yield from (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    for step in dis.get_instructions(code):
        if step.opname in _HOW:
            continue
        if isinstance(step.argval, CodeType):
            yield tuple(_of_code(step.argval))
        else:
            # Where a jump leads counts every instruction.
            is_jump = step.opcode in dis.hasjrel or step.opcode in dis.hasjabs
            yield step.opname.replace("LOAD_METHOD", "LOAD_ATTR"), None if is_jump else repr(step.argval)
