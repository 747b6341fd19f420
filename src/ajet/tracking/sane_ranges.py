"""Metrics that have left their sane range, and what that usually means.

In: the metrics of a run's steps, in order. Out: one `Remark` a range and tag, the first time that it is left. A range
is wide on purpose: what is remarked on is worth a look in nearly every run, and what is not may still be wrong. Each
range has a section of docs/troubleshooting.md, which says how it looks in plots. Left out: doing anything about it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from ajet.records import EpisodeGroup

TAG = "<tag>"
NUM_BEFORE_SPIKE = 5
"""Steps that a spike is told from; fewer say nothing of what is usual."""
NUM_COMPARED = 5
"""Steps whose means are compared where single steps are noisy."""

Values = Sequence[float]
"""A metric's by step, the newest last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What the reader is told."""

    step: int
    metric: str
    value: float
    meaning: str
    """Sentences: what it usually means, and which settings answer it."""
    section: str
    """Of docs/troubleshooting.md."""

    def __str__(self) -> str:
        """In one line, for the console."""
        return (
            f"step {self.step + 1}: {self.metric} is {self.value:.3g}: {self.meaning} "
            f"(docs/troubleshooting.md#{self.section})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SaneRange:
    """When a metric, or a family of one for each tag, is out of its range."""

    metric: str
    """A logged name, with `<tag>` where there is one a tag."""
    is_left: Callable[[Values], bool]
    meaning: str
    section: str
    only_while: tuple[str, Callable[[Values], bool]] | None = None
    """Other metrics, named as `metric` is, and what must be true of each of them for the range to count as left."""

    def tag_in(self, name: str) -> str | None:
        """The tag that a logged name is of, empty for a metric without; None where it is another metric."""
        return _tag_in(self.metric, name)

    def counts(self, values_by_name: Mapping[str, Values]) -> bool:
        """Whether `only_while` holds; not where there is no such metric."""
        if self.only_while is None:
            return True
        pattern, holds = self.only_while
        others = [values for name, values in values_by_name.items() if _tag_in(pattern, name) is not None]
        return bool(others) and all(map(holds, others))


def _tag_in(metric: str, name: str) -> str | None:
    found = re.fullmatch(re.escape(metric).replace(re.escape(TAG), "([^/]+)"), name)
    return None if found is None else "".join(found.groups())


def above(bound: float) -> Callable[[Values], bool]:
    """The newest value is above the bound."""
    return lambda values: values[-1] > bound


def below(bound: float) -> Callable[[Values], bool]:
    """The newest value is below the bound."""
    return lambda values: values[-1] < bound


def stays_above(bound: float) -> Callable[[Values], bool]:
    """All of the newest `NUM_COMPARED` are above the bound."""
    return lambda values: len(values) >= NUM_COMPARED and min(values[-NUM_COMPARED:]) > bound


def stays_below(bound: float) -> Callable[[Values], bool]:
    """All of the newest `NUM_COMPARED` are below the bound, and not all of them 0, as where nobody learns anything."""
    return lambda values: len(values) >= NUM_COMPARED and 0 < max(values[-NUM_COMPARED:]) < bound


def fell_to(share: float) -> Callable[[Values], bool]:
    """The newest `NUM_COMPARED` lie in the mean below this share of the first as many."""
    return lambda values: (
        len(values) >= 2 * NUM_COMPARED and fmean(values[-NUM_COMPARED:]) < share * fmean(values[:NUM_COMPARED])
    )


def rose(*, by: float, above: float = 0.0) -> Callable[[Values], bool]:
    """The newest `NUM_COMPARED` lie in the mean above this multiple of the first as many, and above a floor."""

    def has_risen(values: Values) -> bool:
        if len(values) < 2 * NUM_COMPARED:
            return False
        late = fmean(values[-NUM_COMPARED:])
        return late > above and late > by * fmean(values[:NUM_COMPARED])

    return has_risen


def climbed(values: Values) -> bool:
    """Each of the newest `NUM_COMPARED` is above all of the first as many, whatever their unit."""
    return len(values) >= 2 * NUM_COMPARED and min(values[-NUM_COMPARED:]) > max(values[:NUM_COMPARED])


def sank(values: Values) -> bool:
    """Each of the newest `NUM_COMPARED` is below all of the first as many, whatever their unit."""
    return climbed([-value for value in values])


def jumped(*, by: float) -> Callable[[Values], bool]:
    """The newest is more than this multiple of the median of what was before."""
    return lambda values: len(values) > NUM_BEFORE_SPIKE and values[-1] > by * median(values[:-1]) > 0


SANE_RANGES: tuple[SaneRange, ...] = (
    SaneRange(
        metric="policy/grad_norm",
        is_left=jumped(by=10),
        meaning=(
            "more than ten times what is usual in this run. A single spike is cut by algorithm.max_grad_norm; if they "
            "come again, lower algorithm.learning_rate or raise rollout.num_tasks"
        ),
        section="loss-spikes",
    ),
    SaneRange(
        metric="policy/<tag>/sampled_entropy",
        is_left=fell_to(0.1),
        meaning=(
            "less than a tenth of what it began with, so hardly anything new is tried any more. If the reward is not "
            "where it should be: algorithm.entropy_coef (not with a Tinker server), a larger algorithm.clip_high "
            "or a lower algorithm.learning_rate"
        ),
        section="entropy-collapse",
    ),
    SaneRange(
        metric="format/<tag>/error_rate",
        is_left=rose(by=2, above=0.1),
        meaning=(
            "the format drifts, mostly because a malformed reply costs nothing or is asked for again: "
            "algorithm.format_penalty, algorithm.kl_coef or a lower algorithm.learning_rate"
        ),
        section="format-drift",
    ),
    SaneRange(
        metric="policy/<tag>/mismatch_kl",
        is_left=above(0.01),
        meaning=(
            "engine and trainer compute different probabilities for the same weights, most often by their number "
            "formats: algorithm.tis_cap or algorithm.mis_high, or the same model.dtype on both sides"
        ),
        section="mismatch",
    ),
    SaneRange(
        metric="policy/<tag>/clip_fraction",
        is_left=stays_above(0.3),
        meaning=(
            "the policy moves so far within a step that much of the batch no longer counts: lower "
            "algorithm.learning_rate or algorithm.num_minibatches"
        ),
        section="clipping",
    ),
    SaneRange(
        metric="policy/<tag>/effective_sample_size",
        is_left=stays_below(0.5),
        meaning=(
            "so few of the tokens carry the update that half of the batch counts for nothing: the policy is far from "
            "what it was sampled with: a lower rollout.max_steps_off_policy, algorithm.learning_rate or "
            "algorithm.num_minibatches"
        ),
        section="clipping",
    ),
    SaneRange(
        metric="group/<tag>/zero_std_fraction",
        is_left=stays_above(0.9),
        meaning=(
            "in nearly all groups every episode has the same reward, which teaches nothing: tasks that are neither "
            "always solved nor never, a larger rollout.group_size, a reward with more steps, or other tasks in their "
            "place (rollout.max_resamples)"
        ),
        section="silent-groups",
    ),
    SaneRange(
        metric="policy/<tag>/kl_ref",
        is_left=stays_above(1.0),
        meaning=(
            "the policy is far from the model that it started from: a larger algorithm.kl_coef or a lower "
            "algorithm.learning_rate"
        ),
        section="drift-from-the-start",
    ),
    SaneRange(
        metric="tokens/<tag>/per_call_mean",
        is_left=rose(by=3),
        meaning=(
            "replies are three times as long as they were; whether that earns reward or only takes time, episodes "
            "tell (python -m ajet.view): rollout.max_tokens, or algorithm.aggregation=dr_grpo, which does not favour "
            "length"
        ),
        section="growing-replies",
    ),
    SaneRange(
        metric="policy/<tag>/grad_weight",
        is_left=stays_below(0.02),
        meaning=(
            "this role has nearly no part in the updates: its rewards hardly differ within a group, or it speaks far "
            "less than others: credit=per_tag, algorithm.aggregation=grpo, or a run of its own"
        ),
        section="a-role-that-learns-nothing",
    ),
    SaneRange(
        metric="episode/success_rate",
        is_left=sank,
        only_while=("reward/<tag>/mean", climbed),
        meaning=(
            "fewer episodes succeed than at first while every role earns more: the reward pays for something else "
            "than success. Read episodes (python -m ajet.view) for what it pays, and change the workflow's reward; "
            "algorithm.kl_coef only slows it"
        ),
        section="reward-hacking",
    ),
)


def _is_watched(name: str) -> bool:
    watched = (metric for sane in SANE_RANGES for metric in (sane.metric, *(sane.only_while or ())[:1]))
    return any(_tag_in(metric, name) is not None for metric in watched)


class RangeWatch:
    """Watches the metrics of one run, step by step; as a `MetricLogger` it tells what it remarks."""

    def __init__(
        self, tell: Callable[[str], None] | None = None, earlier: Iterable[Mapping[str, float | None]] = ()
    ) -> None:
        """A watch.

        Args:
            tell: is given each remark of `log`, in a line; None: nobody is told.
            earlier: lines of `metrics.jsonl` that a resumed run starts from; what they left was told then.
        """
        self._tell = tell
        self._values: dict[str, list[float]] = defaultdict(list)
        self._said: set[tuple[str, str]] = set()
        self.read(earlier)

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[EpisodeGroup] = ()) -> None:
        """As `MetricLogger.log`."""
        for remark in self.remarks(step, metrics):
            if self._tell is not None:
                self._tell(f"note: {remark}")

    def close(self) -> None:
        """Nothing is kept open."""

    def read(self, lines: Iterable[Mapping[str, float | None]]) -> list[Remark]:
        """The remarks on all steps of a `metrics.jsonl`."""
        known = [{name: value for name, value in line.items() if value is not None} for line in lines]
        return [remark for line in known for remark in self.remarks(int(line["step"]), line)]

    def remarks(self, step: int, metrics: Mapping[str, float]) -> list[Remark]:
        """What left its range in this step for the first time in the run.

        Args:
            step: from 0; each once, in order.
            metrics: by their logged names; a value that is not finite is not looked at.
        """
        finite = {name: value for name, value in metrics.items() if math.isfinite(value) and _is_watched(name)}
        for name, value in finite.items():
            self._values[name].append(value)
        now = {name: self._values[name] for name in finite}
        found: list[Remark] = []
        for name, value in finite.items():
            for sane in SANE_RANGES:
                tag = sane.tag_in(name)
                if tag is None or (sane.section, tag) in self._said:
                    continue
                if sane.is_left(now[name]) and sane.counts(now):
                    self._said.add((sane.section, tag))
                    found.append(
                        Remark(step=step, metric=name, value=value, meaning=sane.meaning, section=sane.section)
                    )
        return found
