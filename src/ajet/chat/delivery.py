"""Whether a reply reached the program that asked for it: only then did it happen, to the agent and to the trainer.

A client may hang up, be cancelled or lose patience while its reply is sampled or under way, and then ask again. Whoever
speaks therefore says what is to happen once the reply is there; whoever hands it over says that it is. A request
without a `Delivery` is one whose asker awaits the speaker itself: its reply is there when the speaker is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

Effect = Callable[[], None]


class Delivery:
    """The way of one reply from the models' loop to a program on any thread."""

    def __init__(self) -> None:
        """Nothing is under way yet."""
        self._pending: tuple[asyncio.AbstractEventLoop, Effect] | None = None

    def when_received(self, effect: Effect) -> None:
        """Call once the reply is sampled, on the models' loop; `effect` will run there too, or never."""
        self._pending = asyncio.get_running_loop(), effect

    def confirm(self) -> None:
        """The reply is being handed over. Call from a loop on any thread, before the program can act on it."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        loop, effect = pending
        if asyncio.get_running_loop() is loop:
            effect()
            return
        # What the program does next reaches the models' loop behind this call, its next request and its end included.
        with suppress(RuntimeError):  # that loop is closed: the run is over, and nobody reads its record any more
            loop.call_soon_threadsafe(effect)


def on_delivery(delivery: Delivery | None, effect: Effect) -> None:
    """Let `effect` happen when the reply is received; at once where whoever awaits the speaker receives it."""
    if delivery is None:
        effect()
    else:
        delivery.when_received(effect)
