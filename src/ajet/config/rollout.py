"""How episodes are played: how many, how many at once, for how long, and how tokens are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import ruled


@dataclass
class RolloutConfig:
    """How many episodes a step plays and how their tokens are drawn: by temperature alone, as filters would change the
    distribution."""

    num_tasks: int = ruled(16, at_least=1)
    """Tasks (groups) a step."""
    group_size: int = ruled(8, at_least=2)
    """Episodes of one task; the baseline is computed over them."""
    concurrency: int = ruled(64, at_least=1)
    """Episodes played at once."""
    timeout_s: float = ruled(120.0, above=0)
    """Wall time of one attempt at an episode, seconds."""
    max_retries: int = ruled(2, at_least=0)
    """New attempts after an infrastructure failure or a timeout."""
    max_lost_fraction: float = ruled(0.5, at_least=0, at_most=1)
    """A training step that lost more of its episodes, retries included, stops the run."""
    temperature: float = ruled(1.0, above=0)
    """Logits are divided by it; also in the trainer's log-probabilities."""
    max_tokens: int = ruled(128, at_least=1)
    """Most tokens sampled a call."""
    policy_error_reward: float = 0.0
    """Reward of an episode that the workflow ended with `PolicyError`."""
