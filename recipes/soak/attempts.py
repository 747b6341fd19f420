"""One start of a run, watched from outside and ended by a signal, as a scheduler, a full memory or a user would end it.

In: a command and its run directory. Out: which phase the run is in, as far as its screen and its directory show it, and
what is left of its processes. Nothing of the run knows of it. Linux alone, whose `/proc` names processes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ENDS_WITHIN_S = 30.0
"""For all processes of a run, once one of them was killed; SIGTERM lets each finish its piece of work."""
LOOK_S = 0.003
"""Between two looks."""
_DRAWN = re.compile(rb"\x1b\[1m(starting|eval|rollout|packing|update)\b")
"""The phase in the line that a terminal shows."""
_PHASES = {
    b"starting": "start",
    b"eval": "evaluation",
    b"rollout": "play",
    b"packing": "packing",
    b"update": "update",
}
_FILES = {"checkpoints": "save", "metrics.jsonl": "log", "trajectories": "log"}
"""What a phase writes; whatever else changes in a run directory belongs to the start."""
_SAVED = re.compile(r"checkpoints/step_\d+/checksums\.json")
Listing = Mapping[str, tuple[int, int]]
"""Path in the run directory -> when it changed and its size."""


class Attempt:
    """A run's processes: a single one, or a launcher's with the ranks that it started."""

    def __init__(self, process: subprocess.Popen[bytes], screen: Path, run_dir: Path, num_ranks: int) -> None:
        """`screen`: where everything goes that the processes say."""
        self.phase = "start"
        """The latest that was seen; the screen is drawn ten times a second."""
        self.loop_begun: float | None = None
        """When the training loop was first seen, by `time.monotonic`."""
        self.num_saved = 0
        """Steps whose checkpoint has been seen to come."""
        self.step_begun = float("inf")
        """When the latest of them came, or the loop began."""
        self.ranks: list[int] = []
        """Process ids by rank, once they are there."""
        self.process = process
        self._screen = screen
        self._run_dir = run_dir
        self._num_ranks = num_ranks
        self._drawn = b""
        self._listing = _listing(run_dir)

    def look(self) -> bool:
        """See what has changed; returns whether anything in the run directory has."""
        if len(self.ranks) < self._num_ranks:
            self.ranks = _ranks(self.process.pid, self._num_ranks)
        drawn = _DRAWN.findall(self._screen.read_bytes()[-4000:])
        if drawn and drawn[-1] != self._drawn:
            self._drawn = drawn[-1]
            self.phase = _PHASES[self._drawn]
            if self.loop_begun is None:
                self.loop_begun = self.step_begun = time.monotonic()
        before, self._listing = self._listing, _listing(self._run_dir)
        changed = [path for path, state in self._listing.items() if before.get(path) != state]
        if changed:
            newest = max(changed, key=lambda path: self._listing[path])
            self.phase = _FILES.get(newest.partition("/")[0], self.phase)
        if any(_SAVED.fullmatch(path) for path in self._listing.keys() - before.keys()):
            self.num_saved += 1
            self.step_begun = time.monotonic()
        return bool(changed) or before.keys() != self._listing.keys()

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def send(self, signum: int, pids: Sequence[int]) -> None:
        """Send the signal to some of the run's processes."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def pids(self) -> list[int]:
        """Of the launcher and its ranks, or of the one process."""
        return list(dict.fromkeys([self.process.pid, *self.ranks]))

    def children(self) -> list[int]:
        """Processes that the ranks have started, e.g. servers."""
        return [child for rank in self.ranks for child in _children(rank)]

    def left_after(self, pids: Sequence[int], seconds: float) -> list[int]:
        """Wait that long for processes to end; returns those that have not."""
        deadline = time.monotonic() + seconds
        while True:
            self.process.poll()
            left = [pid for pid in pids if _is_alive(pid)]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)

    def last_words(self) -> str:
        """The last lines that it said."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._screen.read_text(errors="replace"))
        return "\n".join(line for line in text.splitlines()[-30:] if line.strip())


@contextmanager
def started(command: Sequence[str], screen: Path, run_dir: Path, num_ranks: int) -> Iterator[Attempt]:
    """Start the command; whatever of it is alive at the end of the block is killed."""
    # Rich draws for a terminal, or where it is told that it has one: by what is drawn a phase is known.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "COLUMNS": "120"}
    with screen.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    attempt = Attempt(process, screen, run_dir, num_ranks)
    try:
        yield attempt
    finally:
        attempt.send(signal.SIGKILL, [pid for pid in attempt.pids() if _is_alive(pid)])
        process.wait()


def _ranks(launcher: int, num_ranks: int) -> list[int]:
    """Process ids by rank, all of them or none; a single process is its own."""
    if num_ranks == 1:
        return [launcher]
    found: dict[int, int] = {}
    with suppress(OSError):  # some process ended while it was looked at
        for child in _children(launcher):
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            found |= {int(each[5:]): child for each in variables if each.startswith(b"RANK=")}
    return [found[rank] for rank in sorted(found)] if len(found) == num_ranks else []


def _children(pid: int) -> list[int]:
    """Of a process's main thread; none of one that has ended."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be asked how it ended does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _listing(folder: Path) -> Listing:
    found: dict[str, tuple[int, int]] = {}
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # renamed meanwhile
                state = os.stat(os.path.join(inner, name))
                found[os.path.relpath(os.path.join(inner, name), folder)] = (state.st_mtime_ns, state.st_size)
    return found
