"""Clocks and memory of a device, what it is called, and how fast its matrices multiply at best."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version

import torch

from ajet.train.memory import peak_gpu_memory_gib, peak_memory_gib, reset_peak

DATASHEET_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
"""Dense bf16 products by the maker's datasheet (SXM boards), by a word in the card's name."""
PACKAGES = ("torch", "triton", "transformers", "accelerate", "vllm", "trl")


def device_name(device: torch.device) -> str:
    """The card's name, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def versions() -> dict[str, str | None]:
    """Of what the numbers depend on; None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def synchronize(device: torch.device) -> None:
    """Wait for what the device still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, to the end of what it left to the device."""
    synchronize(device)
    started = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - started


def in_turns(sides: Mapping[str, Callable[[], object]], device: torch.device, *, rounds: int) -> dict[str, float]:
    """Median seconds of each side, measured in turns behind a round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 1):
        for name, function in sides.items():
            seconds = seconds_of(function, device)
            if i:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak_gib_of(function: Callable[[], object], device: torch.device) -> float:
    """The most that was allocated on the device during a call, what lay there before included; on a CPU, the most that
    the process held."""
    synchronize(device)
    reset_peak()
    function()
    synchronize(device)
    return peak_gpu_memory_gib() if device.type == "cuda" else peak_memory_gib()


def measured_flops(device: torch.device, *, side: int) -> float:
    """Operations a second of one large product of bf16 matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * side**3 / in_turns({"": lambda: a @ b}, device, rounds=10)[""]


def datasheet_flops(name: str) -> float | None:
    """Of the card, if it is known."""
    return next((tflops * 1e12 for word, tflops in DATASHEET_TFLOPS.items() if word in name), None)


def give_back(device: torch.device) -> None:
    """Let the device have what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
