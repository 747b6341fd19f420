"""Exceptions as the user who wrote a workflow, a judge or tasks reads them: from their own lines on, without ajet's.

In: an exception with its traceback. Out: text. Lines of libraries stay where the user's code called them. An
exception's class, its `__str__` and all its attributes are the user's code, too: nothing that they raise comes out.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from ajet.errors import UserInterrupt
from ajet.tracking.files.legible import escape_control_characters

PACKAGE = Path(__file__).resolve().parents[2]
"""Where ajet lies."""
_NOT_OWN = tuple(f"{place}/" for place in (PACKAGE, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")))
_WORKFLOWS = f"{PACKAGE / 'workflows'}/"
"""Workflows that ship with ajet are shown like a user's."""
MOST_CHARACTERS = 2000
"""Of a message: some libraries put whole documents into theirs."""
_NAME = type.__dict__["__name__"]
"""Of a class, past whatever its metaclass answers."""


def one_line(error: BaseException) -> str:
    """`Type: message (file:line)`: the innermost line of the user's; of any code's, where none is theirs.

    Of a group it is the first exception's, for the group says nothing.
    Example: `KeyError: 'word' (/home/me/my_agent.py:12)`, also where the KeyError came up in a library below.
    """
    try:
        return _one_line(error)
    except UserInterrupt:
        raise
    except BaseException:  # the boundary to code that users write
        return f"{_class_name(error)}: it cannot be read"


def _one_line(error: BaseException) -> str:
    outer, error = error, _first(error)
    # A group's first exception may never have been raised by itself, and what Python makes of a StopIteration has its
    # lines in its cause.
    tracebacks = [e.__traceback__ for e in (error, outer, error.__cause__) if e is not None]
    stacks = [list(traceback.extract_tb(tb)) for tb in tracebacks]
    own = next(filter(None, ([frame for frame in stack if _is_own(frame)] for stack in stacks)), stacks[0])
    # The message of a syntax error says where it is.
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own and not isinstance(error, SyntaxError) else ""
    said = _message(error)
    return f"{_class_name(error)}{': ' if said else ''}{said}{escape_control_characters(where)}"


def user_traceback(error: BaseException) -> str:
    """The traceback from the user's first line on, causes first; the user's innermost line stands at the end."""
    try:
        return _user_traceback(error)
    except UserInterrupt:
        raise
    except BaseException:  # as above
        return one_line(error)


def _user_traceback(error: BaseException) -> str:
    told = traceback.TracebackException.from_exception(error)
    own = [frame for frame in traceback.extract_tb(_first(error).__traceback__) if _is_own(frame)]
    _shorten(told)
    text = "".join(told.format())
    return f"{text}at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else text


def _message(error: BaseException) -> str:
    """What it says, on one line; users write `__str__`, too."""
    try:
        said = str.__str__(str(error))  # of a subclass of str, a plain one
    except UserInterrupt:
        raise
    except BaseException as failure:
        return f"its message cannot be read: __str__ raised {_class_name(failure)}"
    shown = said if len(said) <= MOST_CHARACTERS else f"{said[:MOST_CHARACTERS]}…"
    return escape_control_characters(shown.replace("\n", " "))


def _class_name(error: BaseException) -> str:
    return escape_control_characters(str.__str__(_NAME.__get__(type(error))))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _shorten(told: traceback.TracebackException) -> None:
    left: list[traceback.TracebackException | None] = [told]
    while left:  # chains of causes are longer than Python recurses
        one = left.pop()
        if one is not None:
            first = next((i for i, frame in enumerate(one.stack) if _is_own(frame)), 0)
            one.stack = traceback.StackSummary.from_list(list(one.stack)[first:])
            left += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _is_own(frame: traceback.FrameSummary) -> bool:
    name = frame.filename
    if name.startswith(_WORKFLOWS):
        return True
    return not (name.startswith(("<frozen", *_NOT_OWN)) or "/site-packages/" in name)


def user_place(frames: Sequence[traceback.FrameSummary]) -> str:
    """`file:line` of the innermost frame that is a user's; of any code's, where none is theirs."""
    frame = next((frame for frame in reversed(frames) if _is_own(frame)), frames[-1])
    return f"{frame.filename}:{frame.lineno}"
