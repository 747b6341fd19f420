"""Event loops: the rollouts', on which they repeat exactly, and that of an episode on a thread of its own.

Agents and the engine share one thread, so the order of everything is that of the loop's ready queue, and depends
on no clock, except where a program sleeps: AgentScope's ReActAgent sleeps a millisecond after every reply, and
which requests meet in one batch would then depend on the machine's mood. Sleeps shorter than ten milliseconds only
mean "let others run", and here do just that.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

_MOMENT_S = 0.01
Ts = TypeVarTuple("Ts")


class RolloutLoop(asyncio.SelectorEventLoop):
    """A selector loop whose momentary timers fire on its next turn."""

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, with delays under ten milliseconds counted as none."""
        return super().call_later(delay if delay >= _MOMENT_S else 0.0, callback, *args, context=context)


def episode_loop() -> asyncio.AbstractEventLoop:
    """A loop for one episode, of which a run may have hundreds: `poll` watches its few sockets without a descriptor."""
    return asyncio.SelectorEventLoop(selectors.PollSelector())
