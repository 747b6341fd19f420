"""What the researcher sees during a run: step, phase, ETA, reward per tag, episodes/s, tokens/s.

`RichDisplay` draws a live line on a terminal, `NotebookDisplay` a bar below a notebook's cell; `PlainDisplay` prints a
line a step, for logs; `Display` itself shows nothing.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Mapping
from html import escape
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

NOTEBOOK_LINES = 8
"""Of the latest steps, in a notebook; all of them are in `run.metrics`."""
NOTEBOOK_REST_S = 0.2
"""Between two drawings in a notebook."""


class Display:
    """What a run tells on its way. This one shows nothing; subclasses show what they override."""

    def start(self, *, first_step: int, total_steps: int) -> None:
        """The run begins, or resumes, at `first_step` (from 0) of `total_steps`."""

    def phase(self, name: str, num_items: int = 0) -> None:
        """A phase of the step begins; `num_items` episodes are expected in it, 0 where they are not counted."""

    def expect(self, num_items: int) -> None:
        """So many more episodes are expected in the phase."""

    def advance(self) -> None:
        """One of the phase's episodes is done."""

    def step_done(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is logged, with these metrics."""

    def say(self, text: str) -> None:
        """A line for the reader that stays."""

    def table(self, table: Table) -> None:
        """A table for the reader that stays."""

    def stop(self) -> None:
        """The run ends, however it does: leave the terminal as it was."""


def step_line(step: int, total_steps: int, metrics: Mapping[str, float]) -> str:
    """One step in a line: `step 3/20  reward seer 0.41 witch 0.41  1.9 episodes/s  2100 tokens/s  34 s`."""
    rewards = [
        f"{name.split('/')[1]} {value:.3f}"
        for name, value in metrics.items()
        if name.startswith("reward/") and name.endswith("/mean")
    ]
    return (
        f"step {step + 1}/{total_steps}  reward {' '.join(rewards)}  "
        f"{metrics['rate/episodes_per_s']:.1f} episodes/s  {metrics['rate/sampled_tokens_per_s']:.0f} tokens/s  "
        f"{metrics['time/step']:.0f} s"
    )


class PlainDisplay(Display):
    """One line a step on standard output."""

    def __init__(self, console: Console) -> None:
        """`console`: where the lines go."""
        self._console = console
        self._total_steps = 0

    def start(self, *, first_step: int, total_steps: int) -> None:
        """Remember the length of the run."""
        self._total_steps = total_steps

    def phase(self, name: str, num_items: int = 0) -> None:
        """Evaluations take long enough to be announced."""
        if name == "eval":
            self.say(f"evaluating on {num_items} held-out episodes")

    def step_done(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the step's line, as `step_line` has it."""
        self.say(step_line(step, self._total_steps, metrics))

    def say(self, text: str) -> None:
        """Print the line as it is: nothing in it is taken for markup, and it wraps where the terminal does."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print the table as wide as the terminal allows."""
        self._console.print(table)


class RichDisplay(PlainDisplay):
    """A live progress bar above the lines of finished steps."""

    def __init__(self, console: Console) -> None:
        """`console` must be a terminal."""
        super().__init__(console)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._steps: TaskID | None = None
        self._items: TaskID | None = None
        self._done = self._num_items = 0
        self._phase_started = 0.0

    def start(self, *, first_step: int, total_steps: int) -> None:
        """Draw the bars of steps and of the current phase."""
        super().start(first_step=first_step, total_steps=total_steps)
        self._progress.start()
        self._steps = self._progress.add_task("steps", total=total_steps, completed=first_step, note="")
        self._items = self._progress.add_task("starting", total=1, note="")

    def phase(self, name: str, num_items: int = 0) -> None:
        """Show the phase, with a bar if its items are counted."""
        self._done, self._num_items, self._phase_started = 0, num_items, time.perf_counter()
        if self._items is not None:
            self._progress.reset(self._items, total=num_items or None, description=name, note="")

    def expect(self, num_items: int) -> None:
        """Make the phase's bar longer."""
        self._num_items += num_items
        if self._items is not None:
            self._progress.update(self._items, total=self._num_items)

    def advance(self) -> None:
        """Move the phase's bar on and show its rate."""
        self._done += 1
        if self._items is not None:
            rate = self._done / max(time.perf_counter() - self._phase_started, 1e-6)
            self._progress.update(self._items, advance=1, note=f"{rate:.1f} episodes/s")

    def step_done(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the step's line and move the bar on."""
        super().step_done(step, metrics)
        if self._steps is not None:
            self._progress.update(self._steps, completed=step + 1)

    def stop(self) -> None:
        """Take the bars away; the lines of the steps stay."""
        self._progress.stop()


class NotebookDisplay(PlainDisplay):
    """One output below the cell that is drawn anew: a bar of steps, the phase, the lines of the latest steps."""

    def __init__(self, console: Console) -> None:
        """`console` is the notebook's."""
        super().__init__(console)
        self._handle: Any = None
        self._lines: deque[str] = deque(maxlen=NOTEBOOK_LINES)
        self._done_steps = 0
        self._phase, self._done, self._num_items = "starting", 0, 0
        self._begun = self._drawn = 0.0
        self._first_step = 0

    def start(self, *, first_step: int, total_steps: int) -> None:
        """Begin the output."""
        from IPython.display import HTML, display  # there is one wherever there is a notebook

        super().start(first_step=first_step, total_steps=total_steps)
        self._first_step = self._done_steps = first_step
        self._begun = time.perf_counter()
        self._handle = display(HTML(self._html()), display_id=True)

    def phase(self, name: str, num_items: int = 0) -> None:
        """Name the phase."""
        self._phase, self._done, self._num_items = name, 0, num_items
        self._draw()

    def expect(self, num_items: int) -> None:
        """Count to more."""
        self._num_items += num_items

    def advance(self) -> None:
        """Count the item."""
        self._done += 1
        self._draw()

    def step_done(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the step's line."""
        self._done_steps = step + 1
        self._lines.append(step_line(step, self._total_steps, metrics))
        self._draw()

    def say(self, text: str) -> None:
        """Print a line, as any cell does."""
        print(text, flush=True)

    def stop(self) -> None:
        """Draw the end."""
        self._phase, self._num_items = "", 0
        self._draw(at_once=True)

    def _draw(self, *, at_once: bool = False) -> None:
        """Draw, unless that was done a moment ago: a browser would fall behind."""
        now = time.perf_counter()
        if self._handle is None or (now - self._drawn < NOTEBOOK_REST_S and not at_once):
            return
        from IPython.display import HTML

        self._drawn = now
        self._handle.update(HTML(self._html()))

    def _html(self) -> str:
        done = self._done_steps - self._first_step
        left = self._total_steps - self._done_steps
        spent = time.perf_counter() - self._begun
        eta = f", {spent / done * left:.0f} s to come" if done and left else ""
        items = f" {self._done}/{self._num_items}" if self._num_items else ""
        head = f"{self._done_steps}/{self._total_steps}{eta}{f' · {self._phase}{items}' if self._phase else ''}"
        bar = f'<progress max="{self._total_steps}" value="{self._done_steps}"></progress>'
        lines = f"<pre>{escape(chr(10).join(self._lines))}</pre>" if self._lines else ""
        return f"<div>{bar} {escape(head)}</div>{lines}"


class _Terminal(Console):
    """Rich's console, which would end the process where whoever read its output is gone."""

    def on_broken_pipe(self) -> None:
        """Leave it to the run to end in good order, without a word where nobody reads."""
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def make_display(kind: str) -> Display:
    """`rich`, `plain` or `none`; `rich` is a bar in a notebook, and `plain` where there is no terminal either."""
    if kind == "none":
        return Display()
    console = _Terminal()
    if kind == "rich" and console.is_jupyter:
        return NotebookDisplay(console)
    return RichDisplay(console) if kind == "rich" and console.is_terminal else PlainDisplay(console)
