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
from functools import partial
from statistics import fmean

import numpy as np
import torch

from ajet.config.root import Config
from ajet.records import Call, CallKey, EpisodeGroup
from ajet.train.algorithms.kl import k1, k3
from ajet.train.every_call import ask_of_every_call, trained_calls
from ajet.train.learner import Learner
from ajet.train.masks import ReplyMasks
from ajet.train.optimizer import kl_factor
from ajet.train.packing import Pack
from ajet.train.ranks import Ranks


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
    algorithm = config.algorithm
    calls = trained_calls(groups, mask_truncated=algorithm.mask_truncated)
    distances = ask_of_every_call(
        partial(_distances, learner),
        groups,
        ranks,
        config,
        mask_truncated=algorithm.mask_truncated,
        branches=learner.why_chains_only is None,
        reply_masks=reply_masks,
    )
    coefficient = algorithm.kl_coef * kl_factor(step * algorithm.num_updates, algorithm, config.total_steps)
    of_calls = {key: coefficient * distances[key][0] for key in calls}
    return CallCosts(of_calls=of_calls, metrics=_metrics(groups, calls, of_calls, distances))


def _distances(
    learner: Learner, packs: Sequence[Pack], tags: Sequence[str]
) -> list[tuple[CallKey, tuple[float, float]]]:
    """For each call of the packs the sums of k1 and k3 over its tokens."""
    found = []
    for pack, reference_E in zip(packs, learner.reference_logps(packs), strict=True):
        # In double: the difference of two nearly equal numbers is nearly all rounding in float32.
        mu_E, ref_E = torch.from_numpy(pack.logprobs).double(), reference_E.double().cpu()
        k1_C, k3_C = (np.bincount(pack.calls, weights=kl(mu_E, ref_E).numpy()).tolist() for kl in (k1, k3))
        found += list(zip(pack.call_keys, zip(k1_C, k3_C, strict=True), strict=True))
    return found


def _metrics(
    groups: Sequence[EpisodeGroup],
    calls: Mapping[CallKey, Call],
    of_calls: Mapping[CallKey, float],
    distances: Mapping[CallKey, tuple[float, float]],
) -> dict[str, float]:
    """By tag: the estimate of the divergence a token, and what an agent pays for an episode, in the mean."""
    nats: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    paid: dict[tuple[str, int, str], float] = defaultdict(float)
    for key, call in calls.items():
        nats[call.target_tag] += distances[key][1]
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
