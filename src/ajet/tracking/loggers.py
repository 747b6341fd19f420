"""Where metrics go: `metrics.jsonl` always, Weights & Biases (`weights_and_biases.py`) as configured.

Each logger takes one dict of numbers a step; `CompositeLogger` hands it to all. Left out: deciding what to measure.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ajet.records import EpisodeGroup
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.files.writing import flush_open, write_text, writing


class MetricLogger(Protocol):
    """Takes the metrics of one step."""

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Write one step; `groups` are its episodes, for samples to read."""
        ...

    def close(self) -> None:
        """Finish writing; `log` is not called after it."""
        ...


class JsonlLogger:
    """`metrics.jsonl`: one JSON object a step, `step` first, flushed as it is written."""

    def __init__(self, path: Path, *, keep_below_step: int | None = None) -> None:
        """Append to `path`; on resume, lines from `keep_below_step` on are dropped first, they are run again."""
        if keep_below_step is not None:
            kept = [line for line in read_metric_lines(path) if line["step"] < keep_below_step]
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path = path
        with writing(path):
            # Unbuffered: what could not be written must not come after all when the file is closed.
            self._file = path.open("ab", buffering=0)

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Append one line; a number that is not finite becomes null, as JSON has no other word for it.

        Raises:
            StorageError: it cannot be written; the file is as it was before.
        """
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        left = memoryview((json.dumps(line) + "\n").encode())
        with writing(self._path):
            end = self._file.seek(0, os.SEEK_END)
            try:
                while left:
                    left = left[self._file.write(left) :]
                flush_open(self._file.fileno())
                if os.fstat(self._file.fileno()).st_nlink == 0:  # deleted, and written to nobody's use
                    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            except OSError:
                with suppress(OSError):
                    self._file.truncate(end)
                raise

    def close(self) -> None:
        """Close the file; every line is on the disk already."""
        self._file.close()


class CompositeLogger:
    """Hands every step to several loggers."""

    def __init__(self, loggers: Sequence[MetricLogger]) -> None:
        """The loggers, in the order in which they are called."""
        self._loggers = list(loggers)

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """Hand the step to each logger in turn; the first that raises keeps it from the others."""
        for logger in self._loggers:
            logger.log(step, metrics, groups)

    def close(self) -> None:
        """Close each logger, in their order."""
        for logger in self._loggers:
            logger.close()
