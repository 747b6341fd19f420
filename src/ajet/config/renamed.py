"""Keys that were renamed or dropped, understood until 0.2, in overrides and in run directories of earlier versions.

One value was renamed, too: `algorithm.loss` named the aggregation once. Where a YAML file names it, only the composed
configuration shows it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ajet.config.algorithm import AlgorithmConfig
from ajet.errors import ConfigError

RENAMED: Mapping[str, str] = {
    "workflow.hostile": "workflow.opposing_sides",
    "logger.wandb.sample_games": "logger.wandb.sample_episodes",
}
"""Old key -> new key, in the same section."""
RENAMED_OPTIONS: Mapping[str, str] = {
    "hardware=gpu1": "hardware=gpu_1",
    "hardware=cpu2": "hardware=cpu_2",
    "algorithm.baseline_per=tag": "credit=per_tag",
    "algorithm.baseline_per=task": "credit=per_task",
    "algorithm.baseline_per=tag,task": "credit=per_tag,per_task",
}
"""Old choice of a group, or old value of what is a group by now -> new choice."""
DROPPED = ("engine.placement",)
"""Settings with one choice, which nothing read."""
_LOSS, _AGGREGATION = "algorithm.loss", "algorithm.aggregation"
_ONCE_LOSSES = ("grpo", "dapo", "dr_grpo")
"""Aggregations that `algorithm.loss` could name."""


def with_new_keys(overrides: Sequence[str]) -> list[str]:
    """The overrides by today's keys; says once of each old one what it is called now.

    Raises:
        ConfigError: `algorithm.loss` names an aggregation, and `algorithm.aggregation` does as well.
    """
    parts = [override.partition("=") for override in overrides]
    given = {key.lstrip("+"): value for key, _, value in parts}
    if _is_aggregation(given.get(_LOSS, "")) and _AGGREGATION in given:
        raise _named_twice(given[_LOSS], given[_AGGREGATION])
    return [_with_new_key(*part) for part in parts if not _is_dropped(part[0])]


def _with_new_key(key: str, equals: str, value: str) -> str:
    name = key.lstrip("+~")
    if name == _LOSS and _is_aggregation(value):
        _tell(f"{_LOSS}={value}", f"{_AGGREGATION}={value}")
        return f"{key.removesuffix(name)}{_AGGREGATION}={value}"
    if new := RENAMED_OPTIONS.get(f"{name}{equals}{value}"):
        _tell(f"{name}{equals}{value}", new)
        return f"{key.removesuffix(name)}{new}"
    if name not in RENAMED:
        return f"{key}{equals}{value}"
    _tell(name, RENAMED[name])
    return f"{key.removesuffix(name)}{RENAMED[name]}{equals}{value}"


def _is_dropped(key: str) -> bool:
    name = key.lstrip("+~")
    if name in DROPPED:
        _tell_dropped(name)
    return name in DROPPED


def _is_aggregation(values: str) -> bool:
    """Whether a value of `algorithm.loss`, or each of several that are swept, is an aggregation's name."""
    return all(value in _ONCE_LOSSES for value in values.split(","))


def understand_old_loss(algorithm: AlgorithmConfig) -> None:
    """Move an aggregation that stands in `algorithm.loss`, as it once did, to its own key, and say so once.

    Raises:
        ConfigError: another aggregation is named as well.
    """
    old = algorithm.loss
    if old not in _ONCE_LOSSES:
        return
    if algorithm.aggregation not in (old, AlgorithmConfig.aggregation):
        raise _named_twice(old, algorithm.aggregation)
    algorithm.aggregation, algorithm.loss = old, AlgorithmConfig.loss
    _tell(f"{_LOSS}={old}", f"{_AGGREGATION}={old}")


def _named_twice(old: str, aggregation: str) -> ConfigError:
    return ConfigError(
        f"{_LOSS}={old} is the former name of {_AGGREGATION}={old}, and {_AGGREGATION}={aggregation} is named, too: "
        "drop one of them"
    )


@cache
def _tell(old: str, new: str) -> None:
    text = f"note: {old} is called {new} now; the old key is understood until 0.2"
    print(text, file=sys.stderr, flush=True)


@cache
def _tell_dropped(name: str) -> None:
    text = f"note: there is no {name} any more, and nothing read it; it is passed over until 0.2"
    print(text, file=sys.stderr, flush=True)


def renamed_sections(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that was read from a file, by today's keys. Where both stand, today's wins."""
    sections = dict(_renamed(content, ""))
    algorithm = sections.get("algorithm")
    if isinstance(algorithm, dict) and algorithm.get("loss") in _ONCE_LOSSES and "aggregation" not in algorithm:
        sections["algorithm"] = algorithm | {"loss": AlgorithmConfig.loss, "aggregation": algorithm["loss"]}
    return sections | _with_credit(sections)


def _with_credit(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The groups `algorithm` and `credit` of a configuration whose `algorithm` said whose rewards make a baseline."""
    algorithm = sections.get("algorithm")
    if not isinstance(algorithm, dict):
        return {}
    kept = {key: value for key, value in algorithm.items() if key != "baseline_per"}
    name = "per_task" if algorithm.get("baseline_per") == "task" else "per_tag"
    return {"algorithm": kept, "credit": sections.get("credit", {"name": name})}


def _renamed(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if f"{prefix}{key}" in DROPPED:
            continue
        name = RENAMED.get(f"{prefix}{key}", "").rpartition(".")[2] or key
        if name == key or name not in content:
            yield name, dict(_renamed(value, f"{prefix}{key}.")) if isinstance(value, dict) else value
