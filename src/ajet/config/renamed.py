"""Keys that were renamed, understood until 0.2: in overrides, and in the run directories of earlier versions."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

RENAMED: Mapping[str, str] = {
    "workflow.hostile": "workflow.opposing_sides",
    "logger.wandb.sample_games": "logger.wandb.sample_episodes",
}
"""Old key -> new key, in the same section."""


def with_new_keys(overrides: Sequence[str]) -> list[str]:
    """The overrides by today's keys; says once of each old one what it is called now."""
    return [_with_new_key(override) for override in overrides]


def _with_new_key(override: str) -> str:
    key, equals, value = override.partition("=")
    name = key.lstrip("+~")
    if name not in RENAMED:
        return override
    _tell(name)
    return f"{key.removesuffix(name)}{RENAMED[name]}{equals}{value}"


@cache
def _tell(old: str) -> None:
    text = f"note: {old} is called {RENAMED[old]} now; the old key is understood until 0.2"
    print(text, file=sys.stderr, flush=True)


def renamed_sections(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that was read from a file, by today's keys. Where both stand, today's wins."""
    return dict(_renamed(content, ""))


def _renamed(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = RENAMED.get(f"{prefix}{key}", "").rpartition(".")[2] or key
        if name == key or name not in content:
            yield name, dict(_renamed(value, f"{prefix}{key}.")) if isinstance(value, dict) else value
