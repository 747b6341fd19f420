"""YAML files hold what differs from the dataclasses, where each default stands once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ajet.config.options import GROUPS, options
from ajet.config.root import Config, EvaluateConfig, PlayConfig

CONF = Path(__file__).parents[2] / "conf"
ROOTS = {"train": Config, "play": PlayConfig, "evaluate": EvaluateConfig}
OVERRIDING = ("experiment", "debug", "hydra", "launcher")
"""What takes back what other files have set, and what is Hydra's."""


def defaults_of(path: Path) -> Mapping[str, Any]:
    group = path.parent.name
    if path.parent == CONF:
        return asdict(ROOTS[path.stem]())
    if "@package _global_" in path.read_text():
        return asdict(Config())
    kind = options(group).get(path.stem) if group in GROUPS else type(getattr(Config(), group, None))
    return asdict(kind()) if kind is not None and is_dataclass(kind) else {}


def repeated(content: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        if key in ("defaults", "hydra") or key not in defaults:
            continue
        if isinstance(value, dict) and isinstance(defaults[key], dict):
            yield from repeated(value, defaults[key], f"{prefix}{key}.")
        elif value == defaults[key]:
            yield f"{prefix}{key}: {value}"


FILES = [p for p in sorted(CONF.rglob("*.yaml")) if not {*p.relative_to(CONF).parts}.intersection(OVERRIDING)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_no_file_repeats_a_default(path: Path) -> None:
    content = yaml.safe_load(path.read_text()) or {}
    assert [line for line in repeated(content, defaults_of(path)) if not line.endswith("???")] == []
