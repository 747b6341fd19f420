"""Wall time by phase, for `time/<phase>` and the closing table, and the memory that it took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from ajet.train.memory import PhaseMemory


class PhaseClock:
    """Adds up seconds by phase, of the current step and of the whole run; `memory` is what they held."""

    def __init__(self) -> None:
        """Everything at zero."""
        self.step: dict[str, float] = defaultdict(float)
        """Seconds by phase since `next_step`."""
        self.run: dict[str, float] = defaultdict(float)
        """Seconds by phase since the start; what ran beside another phase is counted there alone."""
        self.overlap_s = 0.0
        """Seconds of the current step's phases that ran beside steps before."""
        self.memory = PhaseMemory()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block, also when it raises."""
        started = time.perf_counter()
        try:
            with self.memory.phase(name):
                yield
        finally:
            elapsed = time.perf_counter() - started
            self.step[name] += elapsed
            self.run[name] += elapsed

    def step_metrics(self, *, num_episodes: int, num_sampled_tokens: float) -> dict[str, float]:
        """`time/<phase>` and `time/step` of the current step, seconds, `rate/*`, a second of its rollout, and
        `memory/*`; `time/overlap` where there was any."""
        metrics = {f"time/{phase}": seconds for phase, seconds in self.step.items()}
        metrics["time/step"] = sum(self.step.values()) - self.overlap_s
        if self.overlap_s:
            metrics["time/overlap"] = self.overlap_s
        metrics["rate/episodes_per_s"] = num_episodes / self.step["rollout"]
        metrics["rate/sampled_tokens_per_s"] = num_sampled_tokens / self.step["rollout"]
        return metrics | self.memory.step

    def next_step(self) -> None:
        """Start the step's sums anew."""
        self.step = defaultdict(float)
        self.overlap_s = 0.0
        self.memory.step = {}

    def add_overlapped(self, phase: str, seconds: float) -> None:
        """Count seconds of a phase in the step though other phases ran meanwhile; the run's time is theirs."""
        self.step[phase] += seconds
        self.overlap_s += seconds
