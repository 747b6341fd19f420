"""What this machine has: memory of the CPU by /proc and the container's limit, of a GPU by torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ajet.plan.parts import GIB

_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""A container's limit, what it has used of it, and the key in `memory.stat` of pages of files that the kernel takes
back, in the two versions of control groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Memory of the device that a process uses, GiB; None where it cannot be told."""

    what: str
    """In words, e.g. `this machine`."""
    total_gib: float | None
    available_gib: float | None
    """Of it, what nothing else holds now."""


def this_machine(device: str, *, num_processes: int = 1) -> Machine:
    """The CPU's memory, of which each process has its share, or that of the first GPU."""
    if device == "cuda":
        return _gpu()
    total, available = memory_of(Path("/proc/meminfo"), _container())
    what = "this machine" if num_processes == 1 else f"each of {num_processes} processes on this machine"
    return Machine(what=what, total_gib=_each(total, num_processes), available_gib=_each(available, num_processes))


def _each(num_bytes: float | None, num_processes: int) -> float | None:
    return None if num_bytes is None else num_bytes / num_processes / GIB


def memory_of(meminfo: Path, container: tuple[int, int] | None) -> tuple[float | None, float | None]:
    """(total, available) bytes.

    Args:
        meminfo: as Linux writes `/proc/meminfo`; another system has none.
        container: its limit and how much of it is used, where there is a limit.
    """
    kib = _numbers(meminfo, separator=":")
    if not {"MemTotal", "MemAvailable"} <= set(kib):
        return None, None
    total, available = kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    if container is not None and container[0] < total:
        limit, used = container
        return float(limit), float(max(0, min(available, limit - used)))
    # Slow, but no reason to refuse.
    swap = kib.get("SwapFree", 0) * 1024
    return float(total + swap), float(available + swap)


def _container() -> tuple[int, int] | None:
    """The limit of this process's container and what is used of it; None where there is none."""
    for folder, limit, used, reclaimed in _GROUPS:
        if (folder / limit).is_file() and (folder / used).is_file():
            text = (folder / limit).read_text().strip()
            kept = int((folder / used).read_text()) - _numbers(folder / "memory.stat").get(reclaimed, 0)
            return None if text == "max" else (int(text), kept)
    return None


def _numbers(path: Path, *, separator: str | None = None) -> dict[str, int]:
    """The first number of each line by the name before it; nothing where there is no such file."""
    lines = path.read_text().splitlines() if path.is_file() else []
    words = [line.replace(separator or " ", " ", 1).split() for line in lines]
    return {row[0]: int(row[1]) for row in words if len(row) > 1 and row[1].isdigit()}


def _gpu() -> Machine:
    import torch

    if not torch.cuda.is_available():
        return Machine(what="a GPU (there is none here)", total_gib=None, available_gib=None)
    free, total = torch.cuda.mem_get_info()
    return Machine(what=torch.cuda.get_device_name(), total_gib=total / GIB, available_gib=free / GIB)
