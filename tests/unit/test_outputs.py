"""What a workflow returned is kept whole and as plain data, or refused with a sentence that says where."""

from __future__ import annotations

import datetime
import enum
import json
import math
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from ajet.errors import WorkflowError
from ajet.rollout.outputs import MOST_CHARACTERS, kept_output
from ajet.workflow import WorkflowOutput


class Role(enum.Enum):
    SEER = "seer"


@dataclass
class Vote:
    by: str
    weight: Any
    key: str = field(default="secret", repr=False)


class Note(BaseModel):
    text: str
    key: str = Field(default="secret", repr=False)


def kept(value: Any) -> Any:
    return kept_output(WorkflowOutput(reward=1.0, metadata={"it": value})).metadata["it"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({np.int64(1): np.float32(0.5)}, {"1": 0.5}),
        ({1: "a", "1": "b"}, {"1": "a", "'1'": "b"}),
        ({(1, 2): None, Role.SEER: Role.SEER}, {"(1, 2)": None, "Role.SEER": "seer"}),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ((1, {2, 1}, frozenset()), [1, [1, 2], []]),
        (Vote("a", np.int8(3)), {"by": "a", "weight": 3}),
        (Note(text="b"), {"text": "b"}),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (b"raw", "b'raw'"),
        (Decimal("1.5"), "1.5"),
        ([math.nan, -math.inf, True, None], ["nan", "-inf", True, None]),
        ("half \ud83d", "half \\ud83d"),
        (2**64, 2**64),
    ],
)
def test_values_become_plain_data(value: Any, plain: Any) -> None:
    assert kept(value) == plain
    assert json.loads(json.dumps(kept(value), allow_nan=False)) == plain


def circle() -> Any:
    inner: list[Any] = []
    inner.append({"back": inner})
    return inner


def deep() -> Any:
    value: Any = 0
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (circle(), r"metadata\.it\[0\]\.back contains itself"),
        (deep(), "more than 100 levels deep"),
        ("x" * (MOST_CHARACTERS + 1), "characters"),
        (range(2_000_000), "more than 1000000 values"),
        (10**5000, "more than 4096 bits"),
    ],
    ids=["circle", "deep", "long", "many", "huge"],
)
def test_what_cannot_be_kept_is_refused_by_its_place(value: Any, words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        kept(value)


def test_what_a_user_changes_afterwards_changes_nothing_that_is_kept() -> None:
    votes = [1]
    output = WorkflowOutput(reward=1.0, metadata={"votes": votes})
    plain = kept_output(output)
    votes.append(2)
    output.metadata["late"] = 3
    assert plain.metadata == {"votes": [1]}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("reward", "good", "The output's reward.* is 'good'"),
        ("reward", 10**400, "reward"),
        ("reward", {"seer": None}, "The output's reward"),
        ("is_success", "perhaps", "The output's is_success is 'perhaps'"),
        ("metadata", ["a"], "metadata is a mapping, not list"),
        ("log_metrics", {"score": None}, r"The output's log_metrics\.score is None"),
        ("log_metrics", 3, "The output's log_metrics is 3"),
    ],
)
def test_a_field_that_was_assigned_late_is_checked_as_well(name: str, value: Any, words: str) -> None:
    output = WorkflowOutput(reward=1.0)
    setattr(output, name, value)
    with pytest.raises(WorkflowError, match=words):
        kept_output(output)


def test_numbers_of_any_library_are_numbers() -> None:
    output = WorkflowOutput()
    output.reward = {"a": np.float32(0.5), "b": Fraction(1, 4), "c": np.int64(2), "d": True}  # type: ignore[dict-item]
    output.is_success = np.bool_(True)  # type: ignore[assignment]
    plain = kept_output(output)
    assert plain.reward == {"a": 0.5, "b": 0.25, "c": 2.0, "d": 1.0} and plain.is_success is True


def test_metrics_in_mappings_get_names_with_slashes() -> None:
    output = WorkflowOutput(reward=1.0, log_metrics={"day": {"votes": [1, 3], 2: {"x": 1}}, "n": 4})
    assert output.log_metrics == {"day/votes": 2.0, "day/2/x": 1.0, "n": 4.0}
    output.log_metrics["late"] = {"a": np.float64(5)}  # type: ignore[assignment]
    assert kept_output(output).log_metrics == {"day/votes": 2.0, "day/2/x": 1.0, "n": 4.0, "late/a": 5.0}
    output.log_metrics["late"] = output.log_metrics  # type: ignore[assignment]
    with pytest.raises(WorkflowError, match="holds itself"):
        kept_output(output)


def test_names_of_metrics_are_legible_and_each_has_its_own() -> None:
    output = WorkflowOutput(log_metrics={"half \ud800": 1, "two\nlines": {"tab\t": 2}, "é ☃": 3})
    assert output.log_metrics == {"half \\ud800": 1, "two\\nlines/tab\\t": 2, "é ☃": 3}
    assert kept_output(output).log_metrics == output.log_metrics


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"a/b": 1, "a": {"b": 2}}, "two metrics whose names read 'a/b'"),
        ({1: 1, "1": 2}, "two metrics whose names read '1'"),
        ({"\ud800": 1, "\\ud800": 2}, "two metrics whose names read"),
        ({"": 1}, "a metric has an empty name"),
        ({"a": {"": 1}}, "a metric has an empty name in 'a/'"),
        ({"x" * 100_000: 1}, "more than 1000 characters"),
        ({"score/not_finite": 1}, "'score/not_finite' is taken"),
    ],
)
def test_a_metric_whose_name_would_hide_another_or_say_nothing_is_refused(metrics: Any, words: str) -> None:
    output = WorkflowOutput()
    output.log_metrics = metrics
    with pytest.raises(WorkflowError, match=words):
        kept_output(output)


@pytest.mark.parametrize(
    "values", [[math.inf, -math.inf], [1e308, 1e308], [10**400, 1], [1, math.nan], 10**400, -(10**400), math.inf]
)
def test_a_metric_without_a_finite_mean_is_not_finite(values: Any) -> None:
    (kept_metric,) = kept_output(WorkflowOutput(log_metrics={"it": values})).log_metrics.values()
    assert not math.isfinite(kept_metric)


KEYS = st.one_of(st.text(), st.integers(), st.tuples(st.integers()), st.none(), st.booleans(), st.floats())
LEAVES = st.one_of(KEYS, st.binary(), st.dates(), st.decimals(), st.complex_numbers(), st.sets(st.integers()))
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


@given(TREES)
def test_whatever_is_kept_can_be_written_and_read_again(value: Any) -> None:
    try:
        plain = kept(value)
    except WorkflowError as error:
        assert "two keys" in str(error)
        return
    written = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    assert json.loads(written.encode()) == plain
