"""docs/reference and docs/design.md are what the code says, and every metric has an explanation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from recipes.reference.__main__ import DOCS, pages
from recipes.reference.docstrings import field_docstrings
from recipes.reference.settings import settings

from ajet.config.store import SCHEMAS
from ajet.tracking.metric_names import EVAL, METRIC_NAMES, explanation
from ajet.tracking.store import COLUMNS, SCHEMA

SOURCE = DOCS.parent / "src" / "ajet"
SPACES = {metric.pattern.partition("/")[0] for metric in METRIC_NAMES}
LOGGING = ("tracking/metrics.py", "train/", "evaluate/")
"""Where metrics are measured."""
EXAMPLES = [
    metric.pattern.replace("<tag>", "seer").replace("<k>", "4").replace("<name>", "days").replace("<phase>", "update")
    for metric in METRIC_NAMES
]
UNLOGGED_PHASES = {"save"}
"""Phases that end after their step was logged; `summary.json` has their seconds."""


@pytest.mark.parametrize("path, content", [pytest.param(*page, id=page[0].name) for page in pages()])
def test_a_page_is_what_the_code_says(path: Path, content: str) -> None:
    assert path.read_text() == content, "run `python -m recipes.reference`"


def test_every_setting_says_what_it_means() -> None:
    for schema in SCHEMAS.values():
        assert [setting.key for setting in settings(schema) if not setting.meaning] == []


def test_docstrings_of_fields_include_those_of_bases() -> None:
    assert field_docstrings(SCHEMAS["play"])["seed"] == "Every random stream of the run derives from it."
    assert "num_episodes" in field_docstrings(SCHEMAS["play"])


def test_every_column_of_the_trajectory_files_is_explained() -> None:
    assert list(COLUMNS) == SCHEMA.names


def names_in(tree: ast.AST) -> Iterator[str]:
    """Texts that look like metrics, as patterns in which `.+` stands for what is filled in."""
    inner = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in node.values]
            text = "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            text = re.escape(node.value)
        else:
            continue
        if "/" in text and text.partition("/")[0] in SPACES and " " not in text:
            yield text


def phases_in(tree: ast.AST) -> Iterator[str]:
    """Phases whose seconds are added up: `clock.phase("rollout")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("clock.phase"):
            yield ast.literal_eval(node.args[0])


def test_every_metric_that_the_source_names_is_explained() -> None:
    paths = [path for path in SOURCE.rglob("*.py") if str(path.relative_to(SOURCE)).startswith(LOGGING)]
    trees = [ast.parse(path.read_text()) for path in paths]
    found = {name for tree in trees for name in names_in(tree)}
    assert len(found) > 30
    assert [name for name in sorted(found) if not any(re.fullmatch(name, example) for example in EXAMPLES)] == []
    phases = {phase for tree in trees for phase in phases_in(tree)} - UNLOGGED_PHASES
    assert [phase for phase in sorted(phases) if explanation(f"time/{phase}") is None] == []


def test_a_name_is_explained_by_its_own_pattern_and_by_no_others() -> None:
    for metric, example in zip(METRIC_NAMES, EXAMPLES, strict=True):
        assert explanation(example) is metric
        assert (explanation(f"{EVAL}{example}") is metric) == metric.held_out
    assert explanation("reward/mean") is None
    assert explanation("workflow/one/of/mine/not_finite") is not explanation("workflow/one/of/mine")


def test_the_map_names_nothing_that_is_not_there() -> None:
    design = (DOCS / "design.md").read_text()
    named = {name for name in re.findall(r"`([\w/.]+(?:/|\.py|\.md|\.yml))`", design) if "/" in name}
    assert len(named) > 20
    assert [name for name in sorted(named) if not any((root / name).exists() for root in (DOCS.parent, SOURCE))] == []
