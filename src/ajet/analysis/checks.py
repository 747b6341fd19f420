"""Whether what a run directory says of itself is of the kinds that readers of runs rely on: plain data in and out.

A run directory may be damaged, or another user's. What is not calculated with is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ajet.tracking.files.reading import damaged

_KINDS: Mapping[str, tuple[type, ...]] = {
    "total_steps": (int,),
    "seed": (int,),
    "workflow.entry": (str,),
    "trainable_targets": (list, type(None)),
    "eval.confidence": (float,),
}


def checked_config(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Settings by dotted key.

    Raises:
        RunDirectoryError: one has a value of another kind.
    """
    for key, kinds in _KINDS.items():
        if key in settings and not isinstance(settings[key], kinds):
            raise damaged(path, f"{key} is {settings[key]!r}")
    if not 0 < settings.get("eval.confidence", 0.5) < 1:
        raise damaged(path, f"eval.confidence is {settings['eval.confidence']}")
    return settings


def checked_summary(summary: dict[str, Any], path: Path) -> dict[str, Any]:
    """The content of `summary.json`.

    Raises:
        RunDirectoryError: a part of it is of another kind.
    """
    if not isinstance(summary.get("num_steps", 0), int):
        raise damaged(path, "num_steps is not a whole number")
    if not _are_numbers(summary.get("wall_time_s", {})):
        raise damaged(path, "wall_time_s is not seconds by phase")
    for name in ("before", "after"):
        if name not in summary:
            continue
        evaluation = summary[name]
        if not isinstance(evaluation, dict) or not _are_numbers(evaluation.get("scores")):
            raise damaged(path, f"{name} has no scores by task")
        rewards = evaluation.setdefault("rewards", {})
        if not isinstance(rewards, dict) or not all(map(_are_numbers, rewards.values())):
            raise damaged(path, f"{name} has no rewards by tag and task")
    return summary


def checked_provenance(entries: list[Any], path: Path) -> Sequence[Mapping[str, Any]]:
    """The content of `provenance.json`.

    Raises:
        RunDirectoryError: a part of it is of another kind.
    """
    for entry in entries:
        inner = [entry, *(entry.get(name, {}) for name in ("machine", "versions"))] if isinstance(entry, dict) else [0]
        if not all(isinstance(part, dict) for part in inner):
            raise damaged(path, "an entry is not a mapping")
    return entries


def _are_numbers(values: object) -> bool:
    if not isinstance(values, dict):
        return False
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
