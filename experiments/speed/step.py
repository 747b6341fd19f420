"""A whole step against what it cannot do without: the same requests by raw vLLM, and one forward and backward of the
same packs.

In: a configuration that says what to play. Out: for each round its processor time as a share of that limit's, and where
wall time went. A step is all that a run does: play, credit, packs, update, weights to the engine, logs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from experiments.speed.calls import replay

from ajet.assemble.trainer import build_trainer
from ajet.config.compose import compose
from ajet.config.saved import save
from ajet.engine.vllm_engine import VllmEngine
from ajet.records import EpisodeGroup
from ajet.train.batch import build_batch
from ajet.train.clock import PhaseClock
from ajet.train.loop import Trainer
from ajet.train.packing import Pack
from ajet.train.policy import TrainablePolicy


class _KeptPlay:
    """A run's play that keeps what was played last."""

    def __init__(self, play: Any) -> None:
        self._play = play
        self.groups: list[EpisodeGroup] = []

    def training_step(self, step: int) -> list[EpisodeGroup]:
        self.groups = self._play.training_step(step)
        return self.groups

    def __getattr__(self, name: str) -> Any:
        return getattr(self._play, name)


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Of the rounds that count."""

    ratios: list[float]
    """The step's processor time over its limit's, by round."""
    seconds: dict[str, float]
    """Medians of processor time: `step`, and the limit's two parts, `vLLM` and `forward and backward`."""
    wall: dict[str, float]
    """Medians of wall time by the step's phases."""


def step_cost(*overrides: str, rounds: int) -> StepCost:
    """Steps and their limits in turns, behind one round that is not counted."""
    asked = ["logger=quiet", "eval=none", "checkpoint.every=0", f"total_steps={rounds + 1}"]
    ratios: list[float] = []
    taken: dict[str, list[float]] = defaultdict(list)
    wall: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        config = compose([*asked, *overrides], run_dir=folder)
        save(config, Path(folder) / "config.yaml")
        trainer = build_trainer(config)
        play = trainer.play = _KeptPlay(trainer.play)  # type: ignore[assignment]
        trainer.display.start(first_step=0, total_steps=rounds + 1)
        try:
            with trainer.play.runtime:
                for number in range(rounds + 1):
                    seconds = {"step": _seconds(trainer._step)} | _limit(trainer, play.groups)
                    if number:
                        ratios.append(seconds["step"] / (seconds["vLLM"] + seconds["forward and backward"]))
                        for sums, values in ((taken, seconds), (wall, trainer.state.clock.step)):
                            for name, value in values.items():
                                sums[name].append(value)
        finally:
            trainer.display.stop()
            trainer.close()
    return StepCost(ratios=ratios, seconds=_medians(taken), wall=_medians(wall))


def _medians(of: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in of.items()}


def _limit(trainer: Trainer, groups: list[EpisodeGroup]) -> dict[str, float]:
    """Seconds of what no step can do without, with the policy as it is now, and by the run's own settings."""
    engine, policy = trainer.engine, trainer.learner
    assert isinstance(engine, VllmEngine) and isinstance(policy, TrainablePolicy)
    batch = build_batch(
        groups,
        trainer.rule,
        PhaseClock(),
        branching_packs=policy.why_chains_only is None,
        costs=trainer.config.hardware.costs,
    )
    packs = [pack for minibatch in batch.minibatches for pack in minibatch]
    engine._llm.reset_prefix_cache()
    with policy._own_modes():
        bare = _seconds(lambda: _forward_and_backward(policy, packs))
    policy.model.zero_grad()
    sampled = _seconds(lambda: replay(engine, groups, trainer.config.rollout.concurrency))
    return {"vLLM": sampled, "forward and backward": bare}


def _forward_and_backward(policy: TrainablePolicy, packs: list[Pack]) -> None:
    for pack in packs:
        logp_E = policy.forward(pack).logp_E
        (torch.from_numpy(pack.weights * pack.advantages).float() * logp_E).sum().backward()


def _seconds(work: Any) -> float:
    """Of the process's processors."""
    start = time.process_time()
    work()
    return time.process_time() - start
