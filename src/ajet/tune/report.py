"""A configuration -> what was measured for it on this machine, in words and as settings."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ajet.assemble.policies import make_accelerator, make_policy
from ajet.assemble.preflight import find_model
from ajet.config.hardware import PackCosts
from ajet.config.root import Config
from ajet.engine.stepped import torch_threads
from ajet.train.algorithms.rule import learning_rule
from ajet.train.lora import base_of
from ajet.tune.fitting import best_number, fitted, least_shared
from ajet.tune.measuring import measured_passes, threads_of_sampling, threads_of_updates

LENGTHS = (100, 500, 1000, 2000)
"""Tokens of the rows with which it is said what costs change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What was measured."""

    about: str
    """Model, device and versions."""
    costs: PackCosts
    used: PackCosts
    """The costs of the configuration that was named."""
    updating: Mapping[int, float]
    """Seconds of a pass by number of threads; empty on a GPU."""
    sampling: Mapping[int, float]
    """Of a sampling step; likewise."""

    def words(self) -> str:
        """All of it, for people."""
        costs = self.costs
        lines = [
            f"\n{self.about}",
            "",
            f"costs of packs, in tokens: pair {costs.pair:g}, chain_share {costs.chain_share:g}, start {costs.start:g} "
            f"(set: {self.used.pair:.3g}, {self.used.chain_share:g}, {self.used.start:g})",
            "two rows share a pack from so many common tokens on:",
        ]
        for length in LENGTHS:
            before, after = (_number(least_shared(length, one)) for one in (self.used, costs))
            lines.append(f"  of {length:>5,} tokens: {before} as set, {after} as measured")
        if self.updating:
            lines += ["", "threads   a pass, s   a sampling step, s"]
            lines += [f"{num:>7} {self.updating[num]:>11.3f} {self.sampling[num]:>20.4f}" for num in self.updating]
            lines.append(
                f"fastest: hardware.training_threads={best_number(self.updating)} "
                f"hardware.sampling_threads={best_number(self.sampling)}"
            )
        return "\n".join(lines)

    def yaml(self) -> str:
        """The same as settings of the group `hardware`."""
        costs = self.costs
        lines = ["# @package hardware", f"# Measured by python -m ajet.tune: {self.about}"]
        if self.updating:
            lines.append(f"sampling_threads: {best_number(self.sampling)}")
            lines.append(f"training_threads: {best_number(self.updating)}")
        lines += ["costs:", f"  pair: {costs.pair!r}", f"  chain_share: {costs.chain_share!r}"]
        return "\n".join([*lines, f"  start: {costs.start!r}", ""])


def _number(shared: int | None) -> str:
    return "never" if shared is None else f"{shared:,}"


def measure(config: Config, say: Callable[[str], None]) -> Tuned:
    """Load the configuration's model and measure it; errors as those of a run's start."""
    model_path = find_model(config.model, config.engine, config.hardware)
    accelerator = make_accelerator(config.hardware)
    device = accelerator.device
    policy = make_policy(
        config.model,
        config.hardware,
        model_path,
        accelerator,
        learning_rule(config.algorithm, config.credit, max_tokens=config.rollout.max_tokens),
        temperature=config.rollout.temperature,
        total_steps=config.total_steps,
        seed=config.seed,
    )
    vocabulary = int(base_of(policy.model).config.get_text_config().vocab_size)
    updating: dict[int, float] = {}
    sampling: dict[int, float] = {}
    if device.type == "cpu":
        say("threads, each number in turns")
        updating = threads_of_updates(policy, thread_numbers(), vocabulary=vocabulary)
        sampling = threads_of_sampling(policy.model, thread_numbers(), vocabulary=vocabulary)
    most = min(config.algorithm.max_pack_tokens, config.model.max_context)
    say(f"passes over packs of up to {most:,} tokens")
    with torch_threads(best_number(updating) if updating else None):
        passes = measured_passes(policy, device, vocabulary=vocabulary, most_tokens=most, say=say)
    where = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores, {platform.machine()}"
    )
    return Tuned(
        about=f"{config.model.path} on {where}, torch {torch.__version__}",
        costs=fitted(passes),
        used=config.hardware.costs,
        updating=updating,
        sampling=sampling,
    )


def thread_numbers() -> list[int]:
    """1, 2, 4 ... up to every core that this process may use."""
    most = torch.get_num_threads()
    return sorted({*(1 << i for i in range(most.bit_length())), most})
