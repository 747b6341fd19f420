"""How far calls have strayed from the reference, for a run that takes it from rewards: `algorithm.kl_in=reward`.

In: a step's groups. Out: what each call costs its agent, a coefficient times the sum over its sampled tokens of

    log mu - log ref

with mu, what was sampled from, as the engine reported it: k1 of `algorithms.kl`, whose mean over tokens of mu is
KL(mu || ref). In the reward it has the gradient of that, and answers for what it makes later tokens cost, which no
loss of a token does (Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences"; RLOO, Ahmadian et al.
2024). TRL's `RLOOTrainer` and verl's `use_kl_in_reward` take the trainer's log-probabilities of before the update in
mu's place; between the two lies what engine and trainer round, and updates where episodes are older than the policy.

A cost is its own call's, as a malformed reply's is (`Outcome.penalty`): credit by agent adds up all that an agent said
in the episode, credit by turn gives each turn its own, and no teammate pays. No reward that is reported contains it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from ajet.config.root import Config
from ajet.records import Call, CallKey, EpisodeGroup
from ajet.train.algorithms.kl import k1, k3
from ajet.train.learner import Learner
from ajet.train.masks import ReplyMasks, row_masks
from ajet.train.optimizer import kl_factor
from ajet.train.packing import Pack, build_packs, shared_out
from ajet.train.ranks import Ranks
from ajet.train.timeline import build_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCosts:
    """What the calls of a step cost their agents."""

    of_calls: Mapping[CallKey, float] = field(default_factory=dict)
    """In units of reward; below 0 for what the reference would have said sooner. Empty where nothing is taken."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`policy/<tag>/kl_ref` and `reward/<tag>/kl_cost_mean`."""


def kl_costs(
    groups: Sequence[EpisodeGroup],
    learner: Learner,
    ranks: Ranks,
    config: Config,
    *,
    step: int,
    reply_masks: ReplyMasks | None,
) -> CallCosts:
    """Ask the reference for every trained call of the step, each rank for its share of them.

    Args:
        groups: of all ranks.
        learner: has the reference.
        ranks: the processes of the run.
        config: the penalty's coefficient with its schedule, and what decides which rows share a pack.
        step: training steps done.
        reply_masks: gives those of replies that were sampled under grammars; None where there are none.

    Returns:
        The same on every rank.

    Raises:
        EngineError: of a server that has the reference; a reply does not keep to its grammar.
    """
    calls = _trained_calls(groups, mask_truncated=config.algorithm.mask_truncated)
    packs = _packs(groups, calls, config, reply_masks, branches=learner.why_chains_only is None)
    own = shared_out(packs, ranks.size, config.hardware.costs)[ranks.rank]
    sums_N2 = np.zeros((len(calls), 2))
    for number, distance, estimate in ranks.together(lambda: _distances(own, learner)):
        sums_N2[number] = distance, estimate
    algorithm = config.algorithm
    coefficient = algorithm.kl_coef * kl_factor(step * algorithm.num_updates, algorithm, config.total_steps)
    of_calls = {key: coefficient * float(distance) for key, distance in zip(calls, sums_N2[:, 0], strict=True)}
    return CallCosts(of_calls=of_calls, metrics=_metrics(groups, calls, of_calls, sums_N2[:, 1]))


def _trained_calls(groups: Sequence[EpisodeGroup], *, mask_truncated: bool) -> dict[CallKey, Call]:
    """All that the policy said in usable episodes, but for cut replies that are left out; a call's number is its
    place."""
    return {
        (episode.task.task_id, episode.repeat, call.index): call
        for group in groups
        for episode in group.episodes
        if episode.usable
        for call in episode.calls
        if call.trained and call.sampled_ids and not (mask_truncated and call.finish_reason == "length")
    }


def _packs(
    groups: Sequence[EpisodeGroup],
    calls: Mapping[CallKey, Call],
    config: Config,
    reply_masks: ReplyMasks | None,
    *,
    branches: bool,
) -> list[Pack]:
    """The calls' rows, packed. Nothing has an advantage yet: in its place each entry has the number of its call."""
    numbers: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(dict)
    for number, ((task_id, repeat, index), call) in enumerate(calls.items()):
        numbers[task_id, repeat][index] = [float(number)] * len(call.sampled_ids)
    rows = [
        row
        for group in groups
        for episode in group.episodes
        if episode.usable
        for row in build_samples(
            episode,
            numbers[episode.task.task_id, episode.repeat],
            mask_truncated=config.algorithm.mask_truncated,
        )
    ]
    return build_packs(
        rows,
        [0.0] * len(rows),
        sorted({row.target_tag for row in rows}),
        max_tokens=config.algorithm.max_pack_tokens,
        branches=branches,
        costs=config.hardware.costs,
        masks=None if reply_masks is None else row_masks(rows, groups, reply_masks),
    )


def _distances(packs: Sequence[Pack], learner: Learner) -> list[tuple[int, float, float]]:
    """For each call of the packs its number, and the sums of k1 and k3 over its tokens."""
    found = []
    for pack, reference_E in zip(packs, learner.reference_logps(packs), strict=True):
        # In double: the difference of two nearly equal numbers is nearly all rounding in float32.
        mu_E, ref_E = torch.from_numpy(pack.logprobs).double(), reference_E.double().cpu()
        sums = [np.bincount(pack.calls, weights=estimate(mu_E, ref_E).numpy()) for estimate in (k1, k3)]
        numbers = pack.advantages[np.unique(pack.calls, return_index=True)[1]]
        found += [(int(number), float(a), float(b)) for number, a, b in zip(numbers, *sums, strict=True)]
    return found


def _metrics(
    groups: Sequence[EpisodeGroup],
    calls: Mapping[CallKey, Call],
    of_calls: Mapping[CallKey, float],
    estimates_N: NDArray[np.float64],
) -> dict[str, float]:
    """By tag: the estimate of the divergence a token, and what an agent pays for an episode, in the mean."""
    nats: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    paid: dict[tuple[str, int, str], float] = defaultdict(float)
    for (key, call), estimate in zip(calls.items(), estimates_N, strict=True):
        nats[call.target_tag] += float(estimate)
        tokens[call.target_tag] += len(call.sampled_ids)
        paid[*key[:2], call.agent_name] += of_calls[key]
    of_agents: dict[str, list[float]] = defaultdict(list)
    for group in groups:
        for episode in group.episodes:
            for agent in episode.rewards if episode.usable else ():
                tag = episode.agent_tags[agent]
                of_agents[tag].append(paid[episode.task.task_id, episode.repeat, agent])
    means = {f"reward/{tag}/kl_cost_mean": fmean(of_tag) for tag, of_tag in of_agents.items()}
    return means | {f"policy/{tag}/kl_ref": nats[tag] / tokens[tag] for tag in tokens}
