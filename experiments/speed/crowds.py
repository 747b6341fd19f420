"""What many episodes at once hold: memory of each on the scripted engine, and descriptors of agents by HTTP."""

from __future__ import annotations

import resource
import threading
import time
from pathlib import Path

from experiments.speed.calls import trainer_of

from ajet.train.memory import peak_memory_gib, reset_peak


def memory_of(num_episodes: int) -> float:
    """MiB at the peak beyond what was there, of that many episodes under way together."""
    shape = [f"rollout.num_tasks={num_episodes // 2}", "rollout.group_size=2", f"rollout.concurrency={num_episodes}"]
    with trainer_of("Asks", "engine=scripted", *shape) as trainer:
        reset_peak()
        before = peak_memory_gib()
        trainer.play.training_step(0)
        return (peak_memory_gib() - before) * 1024


def descriptors_of(num_agents: int) -> float:
    """Most descriptors open at once by that many agents that ask by HTTP, each."""
    _raise_limit()
    shape = [f"rollout.num_tasks={num_agents // 2}", "rollout.group_size=2", f"rollout.concurrency={num_agents}"]
    most, ended = [0], threading.Event()

    def count() -> None:
        while not ended.is_set():
            most[0] = max(most[0], len(list(Path("/proc/self/fd").iterdir())))
            time.sleep(0.02)

    with trainer_of("AsksHttp", "engine=scripted", *shape) as trainer:
        before = len(list(Path("/proc/self/fd").iterdir()))
        counting = threading.Thread(target=count)
        counting.start()
        try:
            trainer.play.training_step(0)
        finally:
            ended.set()
            counting.join()
    return (most[0] - before) / num_agents


def _raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
