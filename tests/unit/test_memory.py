"""Memory by phase: what a phase took for a moment is its own, and the run's peak is the largest of all."""

from __future__ import annotations

import pytest

from ajet.train.memory import PhaseMemory, peak_memory_gib, reset_peak

LARGE = 300 << 20


def take() -> None:
    bytearray(b"x" * LARGE)  # written, so that it is resident


def test_a_phases_peak_is_its_own_and_the_runs_stays() -> None:
    reset_peak()
    small = peak_memory_gib()
    take()
    if peak_memory_gib() < small + 0.9 * LARGE / 2**30:
        pytest.skip("this system does not count touched pages")
    reset_peak()
    if peak_memory_gib() > small + 0.5 * LARGE / 2**30:
        pytest.skip("this Linux does not let the peak be reset")
    memory = PhaseMemory()
    with memory.phase("update"):
        take()
    with memory.phase("sync"):
        pass
    assert memory.step["memory/peak_update"] > small + 0.9 * LARGE / 2**30
    assert memory.step["memory/peak_sync"] < small + 0.5 * LARGE / 2**30
    assert memory.peak_gib() == memory.step["memory/peak_update"]
