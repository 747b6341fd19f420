"""Episodes -> metric names and numbers, per tag, as docs/reference/metrics.md explains them. Pure.

Never averaged across tags under one name. Left out: what training itself measures (it comes from the policy's step
with names of its own).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from ajet.records import EPISODE_STATUSES, Episode, EpisodeGroup, Replay

Metrics = dict[str, float]
MOST_METRIC = 1e300
"""Beyond it a sum over episodes may overflow."""


def episode_metrics(groups: Sequence[EpisodeGroup]) -> Metrics:
    """Counts and means over the episodes of one collection.

    `episode/<status>` and `episode/<tag>/uncalled` are counts; `reward/<tag>/*` are over episodes, each counted once
    however many agents and calls it had; `workflow/<name>` are means over the episodes that reported the name and a
    finite value.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    metrics: Metrics = {
        f"episode/{status}": float(sum(e.status == status for e in episodes)) for status in EPISODE_STATUSES
    }
    metrics["episode/retries"] = float(sum(e.num_attempts - 1 for e in episodes))
    metrics["episode/context_overflows"] = float(sum(e.num_context_overflows for e in episodes))
    metrics["episode/undelivered_calls"] = float(sum(e.num_undelivered_calls for e in episodes))
    usable = [episode for episode in episodes if episode.usable]
    successes = [float(e.is_success) for e in usable if e.is_success is not None]
    if successes:
        metrics["episode/success_rate"] = fmean(successes)
    if usable:
        metrics["episode/turns_mean"] = fmean(sum(call.trained for call in e.calls) for e in usable)
        metrics["episode/calls_mean"] = fmean(len(e.calls) for e in usable)
    metrics |= _uncalled_metrics(usable) | _reward_metrics(usable) | _format_metrics(usable) | _workflow_metrics(usable)
    return metrics


def _uncalled_metrics(usable: Iterable[Episode]) -> Metrics:
    """Trained agents that were handed out and never asked, by tag: they share a reward and teach nothing."""
    metrics: Metrics = {}
    for episode in usable:
        uncalled = episode.uncalled_agents
        for name, tag in sorted(episode.agent_tags.items()):
            key = f"episode/{tag}/uncalled"
            metrics[key] = metrics.get(key, 0.0) + (name in uncalled)
    return metrics


def _reward_metrics(usable: Sequence[Episode]) -> Metrics:
    by_tag: dict[str, list[float]] = defaultdict(list)
    for episode in usable:
        for tag, reward in episode.tag_rewards().items():
            by_tag[tag].append(reward)
    metrics: Metrics = {}
    for tag, rewards in sorted(by_tag.items()):
        metrics[f"reward/{tag}/mean"] = fmean(rewards)
        metrics[f"reward/{tag}/std"] = stdev(rewards) if len(rewards) > 1 else 0.0
    return metrics | _call_reward_metrics(usable)


def _call_reward_metrics(usable: Iterable[Episode]) -> Metrics:
    """What trained agents were given for single replies, by tag, of tags that were given any."""
    by_tag: dict[str, list[float]] = defaultdict(list)
    for call in (call for episode in usable for call in episode.calls if call.trained):
        by_tag[call.target_tag].append(call.reward)
    return {f"reward/{tag}/per_call_mean": fmean(values) for tag, values in sorted(by_tag.items()) if any(values)}


def _format_metrics(usable: Iterable[Episode]) -> Metrics:
    """Shares of sampled replies that could not be parsed, whose arguments could not be checked and that were cut, by
    tag, and their mean length."""
    truncated: dict[str, list[float]] = defaultdict(list)
    unchecked: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, list[float]] = defaultdict(list)
    tokens: dict[str, list[float]] = defaultdict(list)
    for episode in usable:
        for call in episode.calls:
            if call.trained:
                errors[call.target_tag].append(float(call.format_error is not None))
                unchecked[call.target_tag].append(float(call.unchecked))
                truncated[call.target_tag].append(float(call.finish_reason == "length"))
                tokens[call.target_tag].append(float(len(call.sampled_ids)))
    metrics = {f"format/{tag}/error_rate": fmean(values) for tag, values in sorted(errors.items())}
    metrics |= {f"format/{tag}/unchecked_rate": fmean(values) for tag, values in sorted(unchecked.items())}
    metrics |= {f"format/{tag}/truncated_rate": fmean(values) for tag, values in sorted(truncated.items())}
    metrics |= {f"tokens/{tag}/per_call_mean": fmean(values) for tag, values in sorted(tokens.items())}
    return metrics


def _workflow_metrics(usable: Iterable[Episode]) -> Metrics:
    """Means of the finite values; `workflow/<name>/not_finite` counts the others, where there are any."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for episode in usable:
        for name, value in episode.log_metrics.items():
            by_name[name].append(value)
    metrics: Metrics = {}
    for name, values in sorted(by_name.items()):
        finite = [value for value in values if math.isfinite(value) and abs(value) < MOST_METRIC]
        if finite:
            metrics[f"workflow/{name}"] = fmean(finite)
        if len(finite) < len(values):
            metrics[f"workflow/{name}/not_finite"] = float(len(values) - len(finite))
    return metrics


def staleness_metrics(groups: Sequence[EpisodeGroup], step: int) -> Metrics:
    """`tokens/<tag>/steps_off_policy`: how many updates the policy has had since a call was sampled, mean over trained
    calls, when training step `step` (from 0) learns from them."""
    ages: dict[str, list[float]] = defaultdict(list)
    for call in (call for group in groups for e in group.episodes for call in e.calls if call.trained):
        ages[call.target_tag].append(float(step - call.policy_version))
    return {f"tokens/{tag}/steps_off_policy": fmean(values) for tag, values in sorted(ages.items())}


def replay_metrics(replays: Sequence[Replay]) -> Metrics:
    """`credit/*` and `tokens/credit`: what a credit rule has played again in a step, and what of it can be used."""
    num_calls = sum(len(replay.episode.calls) for replay in replays)
    return {
        "credit/replays": float(len(replays)),
        "credit/lost": float(sum(not replay.episode.usable for replay in replays)),
        "credit/not_reproduced": float(sum(replay.episode.usable and not replay.is_reproduced for replay in replays)),
        "credit/given_fraction": sum(replay.num_given for replay in replays) / num_calls if num_calls else 0.0,
        "tokens/credit": float(sum(replay.num_sampled_tokens for replay in replays)),
    }


def token_metrics(groups: Sequence[EpisodeGroup]) -> Metrics:
    """Tokens of the policy's calls: `tokens/sampled`, `tokens/prompt` counted once a call, and by tag how sure it was
    of those that it sampled, `policy/<tag>/sampled_entropy`."""
    calls = [call for group in groups for e in group.episodes for call in e.calls if call.trained]
    logprobs: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        logprobs[call.target_tag] += call.logprobs
    return {
        "tokens/sampled": float(sum(len(call.sampled_ids) for call in calls)),
        "tokens/prompt": float(sum(len(call.prompt_ids) for call in calls)),
        **{f"policy/{tag}/sampled_entropy": -fmean(values) for tag, values in sorted(logprobs.items()) if values},
    }
