"""Whether the threads that a run computes with help it now, beside whatever else this machine does.

In: their number. Out: a line where they do not. Measured with products of a sampling step's size, in a fraction of a
second, before anything loads. The run keeps its number all the same: sums of many numbers change in their last digit
with it, and two runs of one seed must not differ by what else ran while they began.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ajet.config.hardware import HardwareConfig
from ajet.engine.stepped import torch_threads

MUCH_SLOWER = 1.5
TURNS, TURN_S = 3, 0.05
"""Times that each number of threads has a turn, and how long it is."""
ROWS, WIDTH = 32, 512


def threads_warning(hardware: HardwareConfig) -> str | None:
    """What to say of the number of threads that a run on this device computes with; None where nothing is wrong."""
    num = max(threads or torch.get_num_threads() for threads in (hardware.sampling_threads, hardware.training_threads))
    if hardware.device != "cpu" or num == 1:
        return None
    one, many = seconds_of_products(1, num)
    return warning_of(num, many / one)


def warning_of(num: int, ratio: float) -> str | None:
    """For `num` threads that take `ratio` times as long as one."""
    if ratio < MUCH_SLOWER:
        return None
    return (
        f"{num} threads compute {ratio:.1f} times slower than one beside what else this machine does now: "
        "hardware.sampling_threads=1 hardware.training_threads=1 would be faster (python -m ajet.tune measures them)"
    )


def seconds_of_products(*numbers: int) -> list[float]:
    """Seconds of one product by each number of threads, in turns."""
    a, b = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, WIDTH)
    taken, counted = [0.0] * len(numbers), [0] * len(numbers)
    for _ in range(TURNS):
        for i, num in enumerate(numbers):
            with torch_threads(num):
                seconds, times = _for_a_while(lambda: a @ b)
            taken[i] += seconds
            counted[i] += times
    return [seconds / times for seconds, times in zip(taken, counted, strict=True)]


def _for_a_while(run: Callable[[], object]) -> tuple[float, int]:
    run()  # wakes threads
    begun, times = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < TURN_S or not times:
        run()
        times += 1
    return passed, times
