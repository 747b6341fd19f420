"""Which settings of how a batch is learned from contradict each other: epochs, masks, penalties, references.

In: the algorithm group. Out: nothing, or a `ConfigError`.
"""

from __future__ import annotations

from ajet.config.algorithm import AlgorithmConfig
from ajet.errors import ConfigError


def check_updates(algorithm: AlgorithmConfig) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: what to change.
    """
    if algorithm.scale_rewards == "group" and algorithm.advantage in ("dr_grpo", "rloo"):
        raise ConfigError(
            f"algorithm.scale_rewards=group is what algorithm.advantage=grpo does, and {algorithm.advantage} leaves "
            "out: choose advantage=grpo, or scale_rewards=batch|advantages|none"
        )
    if algorithm.num_epochs > 1 and algorithm.loss == "reinforce":
        raise ConfigError(
            f"algorithm.num_epochs={algorithm.num_epochs} does not go with algorithm.loss=reinforce, which has no "
            "ratio to the policy that sampled: set num_epochs=1 or choose a loss with one, e.g. algorithm.loss=clip"
        )
