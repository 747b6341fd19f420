"""What a run says of metrics that left their sane range: each once a tag, in words that name settings there are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ajet.config.root import Config
from ajet.tracking.metric_names import explanation
from ajet.tracking.sane_ranges import SANE_RANGES, RangeWatch, SaneRange

DOCS = Path(__file__).resolve().parents[2] / "docs"
STEADY = [1.0] * 10
LEAVING = {
    "policy/<tag>/effective_sample_size": [1.0, 0.4, 0.3, 0.45, 0.2, 0.4],
    "policy/grad_norm": [1.0, 1.2, 0.9, 1.1, 1.0, 1.0, 11.0],
    "policy/<tag>/sampled_entropy": [1.0, 0.9, 0.8, 0.9, 0.9, 0.2, 0.1, 0.08, 0.05, 0.04, 0.02],
    "format/<tag>/error_rate": [0.01, 0.02, 0.01, 0.0, 0.01, 0.1, 0.2, 0.2, 0.3, 0.2],
    "policy/<tag>/mismatch_kl": [1e-4, 2e-2],
    "policy/<tag>/clip_fraction": [0.1, 0.35, 0.4, 0.31, 0.5, 0.4],
    "group/<tag>/zero_std_fraction": [0.5, 0.95, 1.0, 0.92, 1.0, 0.95],
    "policy/<tag>/kl_ref": [0.1, 1.1, 1.3, 1.2, 1.6, 2.0],
    "tokens/<tag>/per_call_mean": [10.0, 11.0, 10.0, 9.0, 10.0, 20.0, 35.0, 40.0, 45.0, 45.0],
    "policy/<tag>/grad_weight": [0.5, 0.01, 0.0, 0.0, 0.01, 0.01],
    "episode/success_rate": [0.12, 0.14, 0.11, 0.15, 0.12, 0.2, 0.1, 0.08, 0.05, 0.04, 0.02],
}
HEALTHY = {
    "policy/<tag>/effective_sample_size": [1.0, 0.9, 0.4, 0.95, 0.8, 0.9],
    "policy/grad_norm": [1.0, 3.0, 0.5, 1.1, 1.0, 1.0, 6.0],
    "policy/<tag>/sampled_entropy": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.3, 0.25, 0.2],
    "format/<tag>/error_rate": [0.4, 0.3, 0.2, 0.2, 0.2, 0.15, 0.12, 0.11, 0.12, 0.11],
    "policy/<tag>/mismatch_kl": [1e-12, 1e-4, 2e-3],
    "policy/<tag>/clip_fraction": [0.0, 0.2, 0.35, 0.1, 0.2, 0.35],
    "group/<tag>/zero_std_fraction": [1.0, 0.95, 0.8, 0.95, 1.0, 0.7],
    "policy/<tag>/kl_ref": [0.0, 0.1, 0.3, 1.2, 0.6, 0.4],
    "tokens/<tag>/per_call_mean": [10.0, 11.0, 10.0, 9.0, 10.0, 12.0, 20.0, 25.0, 20.0, 25.0],
    "policy/<tag>/grad_weight": [0.5, 0.01, 0.3, 0.0, 0.4, 0.3],
    "episode/success_rate": [0.12, 0.14, 0.11, 0.15, 0.12, 0.2, 0.1, 0.08, 0.05, 0.04, 0.11],
}
BESIDE = {"episode/success_rate": {"reward/seer/mean": 1.0, "reward/witch/mean": 0.5}}
"""By how much metrics that a range is compared with rise a step while it is left."""


def left(metric: str, values: list[float], rising: Mapping[str, float] | None = None) -> list[str]:
    """The sections that a run with these values of one metric is sent to, and others that rise by so much a step."""
    watch = RangeWatch()
    name = metric.replace("<tag>", "seer")
    others = BESIDE.get(metric, {}) if rising is None else rising
    steps = [{name: value, **{other: by * step for other, by in others.items()}} for step, value in enumerate(values)]
    return [remark.section for step, metrics in enumerate(steps) for remark in watch.remarks(step, metrics)]


@pytest.mark.parametrize("sane", SANE_RANGES, ids=lambda sane: sane.metric)
def test_a_range_that_is_left_is_told_once_and_a_healthy_run_hears_nothing(sane: SaneRange) -> None:
    assert left(sane.metric, [*LEAVING[sane.metric], *LEAVING[sane.metric]]) == [sane.section]
    assert left(sane.metric, HEALTHY[sane.metric]) == []


def test_each_tag_is_told_of_by_itself_and_other_metrics_are_not_mistaken_for_one() -> None:
    watch = RangeWatch()
    metrics = {"policy/seer/mismatch_kl": 0.02, "policy/witch/mismatch_kl": 0.03, "eval/policy/fox/mismatch_kl": 0.5}
    assert [remark.metric for remark in watch.remarks(0, metrics)] == list(metrics)[:2]
    assert watch.remarks(1, metrics) == []


def test_success_that_sinks_is_remarked_on_only_while_every_role_earns_more() -> None:
    """Of hostile sides one earns what the other loses; where all earn less, the run fails, but hacks nothing."""
    metric = "episode/success_rate"
    values = LEAVING[metric]
    assert left(metric, values, {"reward/seer/mean": 1.0, "reward/werewolf/mean": -1.0}) == []
    assert left(metric, values, {"reward/seer/mean": -1.0}) == []
    assert left(metric, values, {}) == []
    assert left(metric, [1 - value for value in values]) == []


def test_where_no_role_learns_anything_none_is_called_the_one_that_does_not() -> None:
    assert left("policy/<tag>/grad_weight", [0.5, *[0.0] * 9]) == []


def test_what_is_not_finite_is_not_looked_at() -> None:
    assert left("policy/<tag>/mismatch_kl", [float("nan"), float("inf"), 0.0]) == []


def test_a_resumed_run_does_not_say_again_what_was_said_before_and_knows_what_it_began_with() -> None:
    values, told = LEAVING["policy/<tag>/sampled_entropy"], list[str]()
    lines = [{"step": float(step), "policy/seer/sampled_entropy": value} for step, value in enumerate(values[:8])]
    watch = RangeWatch(told.append, lines)
    for step, value in enumerate(values[8:], 8):
        watch.log(step, {"policy/seer/sampled_entropy": value})
    assert len(told) == 1
    assert told[0].startswith(
        "note: step 11: policy/seer/sampled_entropy is 0.02: less than a tenth of what it began with"
    )
    RangeWatch(told.append, [*lines, *({"step": 8.0 + n, "policy/seer/sampled_entropy": 0.02} for n in range(3))])
    assert len(told) == 1


@pytest.mark.parametrize("sane", SANE_RANGES, ids=lambda sane: sane.metric)
def test_a_range_is_of_a_metric_that_is_logged_and_names_settings_that_there_are(sane: SaneRange) -> None:
    known = explanation(sane.metric.replace("<tag>", "seer"))
    assert known is not None and known.pattern == sane.metric
    page = (DOCS / "troubleshooting.md").read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-") for line in re.findall("## (.*)", page)
    }
    assert sane.section in headings
    settings = re.findall(r"(algorithm|rollout|model)\.(\w+)", sane.meaning)
    assert settings
    for section, key in settings:
        assert key in {spec.name for spec in dataclasses.fields(getattr(Config(), section))}, f"{section}.{key}"
