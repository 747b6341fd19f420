"""What a training step has to do, by settings alone: how often its tokens go through a model and its episodes are
played. Pure.

In: a configuration. Out: `StepWork`. Left out: how many calls an episode has and how many tokens a call, which is the
program's doing, and so what of a step has no advantage and is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.root import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """Counts of one training step.

    Example: 8 tasks, 4 episodes each, `credit=difference` for two roles: 32 episodes, 2 replays of each.
    """

    num_epochs: int
    """Forward and backward passes of the policy over each token."""
    num_forwards: int
    """Forward passes of it besides: to correct for the sampler, before the first epoch; to find the tokens of most
    entropy, in each; for the values of calls, before they are credited."""
    num_reference_forwards: int
    """Forward passes of what a KL penalty holds the policy to."""
    num_episodes: int
    """That are trained on."""
    max_resamples: int
    """How often a group may be replaced that teaches nothing: it is played anew each time."""
    credit: str
    """The rule, which may have episodes played again."""
    most_replays: int | None
    """Of an episode, for its credit; None where a rule of the user's decides."""


def step_work(config: Config) -> StepWork:
    """What a step of a validated configuration has to do."""
    algorithm, rollout = config.algorithm, config.rollout
    epochs = algorithm.num_epochs
    tags = config.workflow.target_tags if config.trainable_targets is None else config.trainable_targets
    return StepWork(
        num_epochs=epochs,
        num_forwards=int(algorithm.corrects_sampling)
        + (epochs if algorithm.top_entropy_quantile < 1 else 0)
        + int(config.credit.has_values),
        # In the loss each epoch asks again, in the reward all is asked once.
        num_reference_forwards=int(algorithm.kl_in_reward) + (epochs if algorithm.kl_in_loss else 0),
        num_episodes=rollout.num_tasks * rollout.group_size,
        max_resamples=rollout.max_resamples,
        credit=config.credit.name,
        most_replays=config.credit.most_replays(num_tags=len(tags or ()) or None),
    )
