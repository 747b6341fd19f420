"""Whether a run fits, and the nearest settings that do: a `Config` in, a sentence or None out.

Refused is only what cannot run: parts that are counted and not estimated are more than the machine has in all. What is
offered instead is computed as every plan is, and must be a configuration that is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

from ajet.config.root import Config
from ajet.config.validate import validate
from ajet.errors import ConfigError
from ajet.plan.machine import Machine
from ajet.plan.parts import MemoryPlan

LORA_RANK = 16
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""As the presets of Qwen3 have them; another architecture names its layers when it refuses these."""
LEAST_TOKENS, LEAST_KV_GIB, LEAST_SHARE = 512, 0.25, 0.1

Planned = Callable[[Config], MemoryPlan]
Settings = tuple[tuple[str, object], ...]
"""(key, value) of settings that are changed together."""


def why_not(plan: MemoryPlan, machine: Machine) -> str | None:
    """Why the run cannot fit, in words; None where it may."""
    if machine.total_gib is None or plan.certain_gib <= machine.total_gib:
        return None
    return (
        f"the run needs at least {plan.certain_gib:.1f} GiB of memory for weights, gradients, Adam's moments and the "
        f"engine, and {machine.what} has {machine.total_gib:.1f} GiB"
    )


def refusal_of(config: Config, plan: MemoryPlan, machine: Machine, planned: Planned) -> str | None:
    """`why_not`, and the nearest settings that fit."""
    reason = why_not(plan, machine)
    if reason is None:
        return None
    found = nearest_fitting(config, machine, planned)
    if found is None:
        return f"{reason}; nor does anything smaller fit that ajet knows to try: choose a smaller model"
    settings, gib = found
    return f"{reason}; these settings would fit, with about {gib:.1f} GiB: {' '.join(settings)}"


def nearest_fitting(config: Config, machine: Machine, planned: Planned) -> tuple[list[str], float] | None:
    """Settings to change so that the whole plan fits, estimates included, and what it then needs.

    Args:
        config: valid; stays as it is.
        machine: what there is.
        planned: the plan of a configuration; raises `ConfigError` where there is none.
    """

    def need_of(changes: Sequence[Settings]) -> float | None:
        changed = _changed(config, changes)
        try:
            validate(changed)
            gib = planned(changed).largest_gib
        except ConfigError:
            return None
        return gib if machine.total_gib is not None and gib <= machine.total_gib else None

    ways = list(_smaller(config))
    for steps in ways:
        for step in steps:
            if (gib := need_of([step])) is not None:
                return _written([step]), gib
    # No single one: all at their smallest, then without those that are not needed.
    chosen = [steps[-1] for steps in ways]
    gib = need_of(chosen)
    for step in list(chosen):
        rest = [other for other in chosen if other is not step]
        if (less := need_of(rest)) is not None:
            chosen, gib = rest, less
    return None if gib is None else (_written(chosen), gib)


def _smaller(config: Config) -> Iterable[list[Settings]]:
    """Ways to need less, in the order in which they change what is trained least; of each, ever smaller settings."""
    if not config.hardware.gradient_checkpointing:
        yield [(("hardware.gradient_checkpointing", True),)]
    if config.hardware.device == "cuda" and not config.hardware.offload_optimizer:
        yield [(("hardware.offload_optimizer", True),)]
    yield from _if_any(
        tuple(
            (key, size)
            for key, now in (
                ("algorithm.max_pack_tokens", config.algorithm.max_pack_tokens),
                ("model.max_context", config.model.max_context),
            )
            if size < now
        )
        for size in _halved(max(config.algorithm.max_pack_tokens, config.model.max_context), LEAST_TOKENS)
    )
    if not config.model.lora.rank:
        adapters: Settings = (
            ("model.lora.rank", LORA_RANK),
            ("model.lora.alpha", 2 * LORA_RANK),
            ("model.lora.targets", list(LORA_TARGETS)),
        )
        yield [adapters]
    if config.model.dtype == "float32":
        yield [(("model.dtype", "bfloat16"),)]
    for key, least in (("kv_cache_gib", LEAST_KV_GIB), ("gpu_memory_utilization", LEAST_SHARE)):
        now = getattr(config.engine, key, None)
        if now is not None:
            yield from _if_any(((f"engine.{key}", size),) for size in _halved(now, least))


def _if_any(steps: Iterable[Settings]) -> Iterable[list[Settings]]:
    found = list(steps)
    if found:
        yield found


def _halved(value: float, least: float) -> list[float]:
    """Half of a value, a quarter, and so on, down to the least; whole where the value is."""
    sizes: list[float] = []
    while value / 2 >= least:
        value = value // 2 if isinstance(value, int) else value / 2
        sizes.append(value)
    return sizes


def _changed(config: Config, changes: Sequence[Settings]) -> Config:
    changed = deepcopy(config)
    for key, value in (setting for settings in changes for setting in settings):
        section, _, name = key.rpartition(".")
        owner: object = changed
        for part in section.split("."):
            owner = getattr(owner, part)
        setattr(owner, name, value)
    return changed


def _written(changes: Sequence[Settings]) -> list[str]:
    """As on a command line."""
    return [f"{key}={_value(value)}" for settings in changes for key, value in settings]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else f"{value}"
