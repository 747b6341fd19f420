"""How much memory a block of a run has taken, of the process and of its GPU."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What makes Linux start its record of the process's largest resident size anew (proc_pid_clear_refs(5))."""


def peak_memory_gib() -> float:
    """The most memory that this process has held since `reset_peak`, in GiB: resident, engine and data included."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    # Not every container's kernel keeps the record; what it tells instead cannot be reset.
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if kib is None else kib) / 2**20


def peak_gpu_memory_gib(gpu: int | None = None) -> float:
    """The most that torch has allocated on the GPU since `reset_peak`, in GiB; 0 where there is none."""
    return torch.cuda.max_memory_allocated(gpu) / 2**30 if torch.cuda.is_available() else 0.0


def reset_peak(gpu: int | None = None) -> None:
    """Start both records anew; where Linux does not allow it, the process's own goes on from the start.

    Args:
        gpu: which; None for the one that this thread uses.
    """
    with suppress(OSError):
        _RESET.write_text(_RESET_PEAK)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats(gpu)


class PhaseMemory:
    """The most memory by phase of the current step, and of the whole run."""

    def __init__(self) -> None:
        """Nothing of phases yet."""
        self.step: dict[str, float] = {}
        """`memory/peak_<phase>`, and on a GPU `memory/gpu_peak_<phase>`, GiB."""
        self._peak_gib = peak_memory_gib()
        self._gpu_peak_gib = 0.0
        # Of the thread that loads the model: which GPU is in use is each thread's own.
        self._gpu = torch.cuda.current_device() if torch.cuda.is_available() else None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a block; phases follow each other, and one may come several times in a step."""
        self._peak_gib = self.peak_gib()
        reset_peak(self._gpu)
        try:
            yield
        finally:
            self._keep(f"memory/peak_{name}", peak_memory_gib())
            if torch.cuda.is_available():
                self._gpu_peak_gib = max(self._gpu_peak_gib, peak_gpu_memory_gib(self._gpu))
                self._keep(f"memory/gpu_peak_{name}", peak_gpu_memory_gib(self._gpu))

    def peak_gib(self) -> float:
        """The most that the process has held in the whole run so far; GPU memory is not counted."""
        return max(self._peak_gib, peak_memory_gib())

    def gpu_peak_gib(self) -> float:
        """The most that torch has allocated on the GPU in a phase of the run so far; 0 where there is none."""
        return self._gpu_peak_gib

    def _keep(self, name: str, gib: float) -> None:
        self.step[name] = max(self.step.get(name, 0.0), gib)
