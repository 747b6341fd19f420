"""What a workflow returned as its reward -> a reward for every trained agent of the episode.

In: the reward, who was trained, and what replies were given by themselves. Out: a finite number an agent. Left out:
judges, which give a reward where a workflow returned none (`rollout.judges`), and what rewards teach (`ajet.train`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ajet.errors import WorkflowError
from ajet.records import MOST_REWARD, Call


def rewards_by_agent(
    reward: float | Mapping[str, float] | None,
    trained_agents: Mapping[str, str],
    calls: Sequence[Call] = (),
    given: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Every trained agent's reward: the episode's, plus those of its calls.

    Args:
        reward: the episode's: one number for all, or numbers by target_tag or agent name (the name wins).
        trained_agents: target_tag by agent name.
        calls: all of the episode.
        given: what else agents were given, by name.

    Raises:
        WorkflowError: no reward, one that is not finite, or a trained agent without one.
    """
    if reward is None:
        raise WorkflowError(
            "The workflow returned no reward and no judge is configured: return a number (0 where the rewards of calls "
            "are all there is), or choose a judge (`--help` lists those of judge=...)."
        )
    rewards: dict[str, float] = {}
    for name, tag in trained_agents.items():
        value = reward.get(name, reward.get(tag)) if isinstance(reward, Mapping) else reward
        if value is None:
            raise WorkflowError(f"The reward mapping has neither agent {name!r} nor its target_tag {tag!r}.")
        value += sum(call.reward for call in calls if call.trained and call.agent_name == name)
        value += (given or {}).get(name, 0.0)
        if not math.isfinite(value) or abs(value) > MOST_REWARD:
            raise WorkflowError(f"The reward of agent {name!r} is {value}: rewards must be finite 32-bit numbers.")
        rewards[name] = float(value)
    return rewards
