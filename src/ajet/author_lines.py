"""Exceptions as the author of a workflow, a judge or tasks reads them: from their own lines on, without ajet's.

In: an exception with its traceback. Out: text. Lines of libraries stay where the author's code called them.
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_NOT_OWN = tuple(f"{place}/" for place in (_PACKAGE, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")))
_WORKFLOWS = f"{_PACKAGE / 'workflows'}/"
"""Workflows that ship with ajet have authors, too."""
MOST_CHARACTERS = 2000
"""Of a message: some libraries put whole documents into theirs."""


def one_line(error: BaseException) -> str:
    """`Type: message (file:line)`: the innermost line of the author's; of anybody's, where none is theirs.

    Of a group it is the first exception's, for the group says nothing.
    Example: `KeyError: 'word' (/home/me/my_agent.py:12)`, also where the KeyError came up in a library below.
    """
    outer, error = error, _first(error)
    # A group's first exception may never have been raised by itself, and what Python makes of a StopIteration has its
    # lines in its cause.
    tracebacks = [e.__traceback__ for e in (error, outer, error.__cause__) if e is not None]
    stacks = [list(traceback.extract_tb(tb)) for tb in tracebacks]
    own = next(filter(None, ([frame for frame in stack if _is_own(frame)] for stack in stacks)), stacks[0])
    # The message of a syntax error says where it is.
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own and not isinstance(error, SyntaxError) else ""
    said = _message(error)
    return f"{type(error).__name__}{': ' if said else ''}{said}{where}"


def own_traceback(error: BaseException) -> str:
    """The traceback from the author's first line on, causes first; the author's innermost line stands at the end."""
    told = traceback.TracebackException.from_exception(error)
    own = [frame for frame in traceback.extract_tb(_first(error).__traceback__) if _is_own(frame)]
    _shorten(told)
    text = "".join(told.format())
    return f"{text}at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else text


def _message(error: BaseException) -> str:
    """What it says, on one line that any terminal and file takes; authors write `__str__`, too."""
    try:
        said = str(error)
    except Exception as failure:
        return f"its message cannot be read: __str__ raised {type(failure).__name__}"
    said = said.encode("utf-8", "backslashreplace").decode().replace("\n", " ")
    return said if len(said) <= MOST_CHARACTERS else f"{said[:MOST_CHARACTERS]}…"


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _shorten(told: traceback.TracebackException) -> None:
    first = next((i for i, frame in enumerate(told.stack) if _is_own(frame)), 0)
    told.stack = traceback.StackSummary.from_list(list(told.stack)[first:])
    inner = [told.__cause__, told.__context__, *(told.exceptions or ())]
    for exception in inner:
        if exception is not None:
            _shorten(exception)


def _is_own(frame: traceback.FrameSummary) -> bool:
    name = frame.filename
    if name.startswith(_WORKFLOWS):
        return True
    return not (name.startswith(("<frozen", *_NOT_OWN)) or "/site-packages/" in name)
