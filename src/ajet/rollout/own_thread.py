"""Which programs need a thread of their own, and running them there, with an event loop where they need one: a program
that blocks its own thread holds up no other.

In: a function, plain or asynchronous. Out: its result on the loop that asked, or its exception. A thread cannot be
killed: on cancellation its coroutine is cancelled, and one that is blocked or not asynchronous runs on until it ends by
itself. Its models have stopped answering by then, and as a daemon it does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from ajet.rollout.boundary import ProgramResult, run_isolated
from ajet.rollout.event_loop import EpisodeLoop, IsolatedEventLoop

if TYPE_CHECKING:
    from ajet.workflow import Workflow

CLOSING_S = 5.0
"""For what a program has left running on its thread's loop."""
ASKING = "as_oai_baseurl_apikey"
MOST_ITEMS = 1000
"""Of a list or mapping, beyond which it holds data rather than agents."""
MOST_HELD = 20_000
"""Items of all lists and mappings together that one look takes, about 20 ms."""
_LIBRARIES = (*sysconfig.get_paths().values(), str(Path(__file__).resolve().parents[1]))
"""Where code lies that is not the user's: Python's, installed packages', ajet's."""


def needs_own_thread(workflow: Workflow, known: dict[type[Workflow], bool]) -> bool:
    """Whether an episode of this workflow may block its thread, on which otherwise all others run, too.

    A plain function may, and so may one that asks for a URL, since most clients of a URL block. It must be known before
    `execute` begins, which can neither be moved to another thread half-way nor begun twice: who writes it says it
    (`Workflow.own_thread`), or it is read from the code without running any.

    Args:
        workflow: an episode's, whose fields are as its run's parameters made them.
        known: what was read in this run, by class, and is not read again: each look holds all other episodes up.
    """
    if not inspect.iscoroutinefunction(workflow.execute):
        return True
    if workflow.own_thread is not None:
        return workflow.own_thread
    kind = type(workflow)
    if kind not in known:
        known[kind] = _class_asks(kind) or names_asking(vars(workflow).values())
    return known[kind]


@functools.cache
def _class_asks(workflow: type[Workflow]) -> bool:
    package = workflow.__module__.partition(".")[0]
    return names_asking([workflow], package="" if package == "ajet" else package)


def names_asking(beginnings: Iterable[Any], *, package: str = "") -> bool:
    """Whether these functions and classes, or others of the user's that they name, name `as_oai_baseurl_apikey`.

    What lies nearest is looked at first. Lists and mappings are opened up to `MOST_HELD` items in all: behind these
    there is data, while functions and classes, of which there are as many as were written, are all looked at.

    Args:
        beginnings: where to look first; any other values are looked at for what they are instances of.
        package: the top-level package that is the user's even where it is installed.
    """
    left, num_held = deque(beginnings), 0
    # A user's values may have no hash, so that they are known by their ids, and `seen` keeps them alive.
    seen, known = list[Any](), set[int]()
    while left:
        value = left.popleft()
        if id(value) in known:
            continue
        known.add(id(value))
        seen.append(value)
        # By exact types: `isinstance` would ask a user's objects for their `__class__`, which may do anything.
        kind = type(value)
        if kind is str:
            if value == ASKING:
                return True
        elif kind is FunctionType:
            is_own = bool(package) and str(value.__module__).partition(".")[0] == package
            if is_own or not value.__code__.co_filename.startswith(_LIBRARIES):
                left += _named_values(value)
        elif kind in (list, tuple, set, frozenset, dict):
            if len(value) <= min(MOST_ITEMS, MOST_HELD - num_held):
                num_held += len(value)
                left += value.values() if kind is dict else value
        elif kind in (staticmethod, classmethod, MethodType):
            left.append(value.__func__)
        elif kind is functools.partial:
            left.append(value.func)
        elif kind is property:
            left += [value.fget, value.fset]
        elif issubclass(kind, type):
            for base in value.__mro__:
                left += vars(base).values()
        elif kind is not ModuleType and kind.__module__ != "builtins":
            left.append(kind)
    return False


def _named_values(function: FunctionType) -> Iterator[Any]:
    """What a function names: text, globals, parts of modules, what it closes over and what it wraps."""
    names = set[str]()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [const for const in code.co_consts if type(const) is CodeType]
        yield from (const for const in code.co_consts if type(const) in (str, tuple, frozenset))
    yield from names
    reached = [function.__globals__[name] for name in names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            reached.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    for value in reached:
        yield value
        if type(value) is ModuleType:
            yield from (vars(value)[name] for name in names if name in vars(value))
    yield from vars(function).values()


async def run_on_own_thread(program: Callable[[], Any]) -> Any:
    """Run it there and wait for it here; on cancellation, too, until it has ended or is no longer waited for.

    Raises:
        BaseException: whatever the program raised.
    """
    return await _OwnThread(program).result()


class _OwnThread:
    def __init__(self, program: Callable[[], Any]) -> None:
        self._program = program
        self._asking = asyncio.get_running_loop()
        self._done: asyncio.Future[ProgramResult[Any]] = self._asking.create_future()
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._unwanted = False

    async def result(self) -> Any:
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="ajet-episode", daemon=True).start()
        try:
            await asyncio.wait({self._done})
        except asyncio.CancelledError:
            self._cancel()
            await asyncio.wait({self._done})
            raise
        return self._done.result().result()

    def _cancel(self) -> None:
        """From the asking loop's thread."""
        with self._lock:
            self._unwanted = True
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    def _run(self) -> None:
        """The thread. Hands the result over before its loop is torn down, which may take its time."""
        try:
            loop = EpisodeLoop()
        except OSError as error:  # too many files are open
            self._deliver(ProgramResult(error=error))
            return
        asyncio.set_event_loop(loop)  # for plain functions that drive a loop themselves
        try:
            self._deliver(self._ended(loop))
        finally:
            loop.close_within(CLOSING_S)

    def _ended(self, loop: IsolatedEventLoop) -> ProgramResult[Any]:
        try:
            # A plain function does all its work here, outside of any running loop, so that it may run one itself.
            made = self._program()
        except BaseException as error:  # the boundary to code that users write
            return ProgramResult(error=error)
        if not inspect.isawaitable(made):
            return ProgramResult(value=made)
        task = loop.create_task(run_isolated(lambda: made))
        with self._lock:
            if self._unwanted:
                task.cancel()
            self._running = loop, task
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError as error:  # before its first step
            return ProgramResult(error=error)
        finally:
            with self._lock:
                self._running = None

    def _deliver(self, ended: ProgramResult[Any]) -> None:
        def unless_abandoned() -> None:
            if not self._done.done():
                self._done.set_result(ended)

        try:
            self._asking.call_soon_threadsafe(unless_abandoned)
        except RuntimeError:
            return  # the asking loop is closed: the run was over before this program
