"""A validated configuration -> its plan on this machine; the one way for the command and for a run that starts."""

from __future__ import annotations

from functools import cache

from ajet.config.hardware import local_rank_and_size
from ajet.config.model import LoraConfig
from ajet.config.root import Config
from ajet.errors import ConfigError
from ajet.plan.fitting import refusal_of
from ajet.plan.machine import Machine, this_machine
from ajet.plan.parts import MemoryPlan, ModelShape, Sizing
from ajet.plan.setup import setup_of
from ajet.plan.shapes import model_shape
from ajet.plan.words import warning


def sizing_of(config: Config, model_path: str, machine: Machine) -> Sizing:
    """What the configuration's plan is computed from; errors as `model_shape`."""
    lora = config.model.lora
    dtype = config.model.dtype if lora.rank else "float32"  # what is trained is float32, whatever the engine has
    shape = _shape(model_path, lora.rank, lora.alpha, tuple(lora.targets or ()), dtype)
    gpu_gib = machine.total_gib if config.hardware.device == "cuda" else None
    return Sizing(shape=shape, setup=setup_of(config, gpu_memory_gib=gpu_gib))


def plan_of(config: Config, model_path: str, machine: Machine) -> MemoryPlan:
    """The plan for the largest pack that the settings allow."""
    return sizing_of(config, model_path, machine).plan()


def planned(config: Config, model_path: str) -> tuple[Sizing, str | None]:
    """A run's plan before it loads anything, and a warning where memory may not suffice.

    Raises:
        ConfigError: the machine cannot hold it; names the nearest settings that it can.
    """
    machine = this_machine(config.hardware.device, num_processes=local_rank_and_size()[1])
    sizing = sizing_of(config, model_path, machine)
    plan = sizing.plan()
    refusal = refusal_of(config, plan, machine, lambda other: plan_of(other, model_path, machine))
    if refusal is not None:
        raise ConfigError(refusal)
    return sizing, warning(plan, machine)


@cache
def _shape(model_path: str, rank: int, alpha: float | None, targets: tuple[str, ...], dtype: str) -> ModelShape:
    """Kept, for what may fit instead is asked of the same model many times."""
    return model_shape(model_path, LoraConfig(rank=rank, alpha=alpha, targets=list(targets) or None), dtype=dtype)
