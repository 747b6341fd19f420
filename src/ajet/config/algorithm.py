"""The learning rule: advantages, loss, its corrections, and the optimizer's settings."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError


@dataclass
class AlgorithmConfig:
    """The algorithm group. Null switches a correction off."""

    loss: str = one_of("grpo", "grpo", "dapo", "dr_grpo")
    """How token losses are averaged: `grpo` mean over sequences of token means, `dapo` token mean over the
    global batch, `dr_grpo` sum over sequences x `dr_grpo_max_length`."""
    advantage: str = one_of("grpo", "grpo", "dr_grpo", "rloo")
    """Baseline within a group: `grpo` (R - mean) / std, `dr_grpo` R - mean, `rloo` R - mean of the others."""
    baseline_per: str = one_of("tag", "tag", "task")
    """Whose rewards make a baseline: those of the same `tag`, or of all trained tags of the `task`. Where roles play
    against each other the latter is always half a win, whoever is favoured."""
    learning_rate: float = ruled(3e-4, above=0)
    """Peak learning rate of AdamW."""
    warmup_steps: int = ruled(0, at_least=0)
    """Steps over which the learning rate rises from 0."""
    lr_schedule: str = one_of("constant", "constant", "linear")
    """After warm-up: stay, or fall to 0 at `total_steps`."""
    weight_decay: float = ruled(0.0, at_least=0)
    """AdamW's decoupled weight decay."""
    clip_low: float = ruled(0.2, at_least=0, below=1)
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: float = ruled(0.2, at_least=0)
    """The ratio is clipped above at 1 + clip_high."""
    kl_coef: float = ruled(0.0, at_least=0)
    """Weight of the KL penalty (k3) to the starting model; 0 keeps no reference model."""
    kl_schedule: str = one_of("constant", "constant", "linear")
    """The penalty's weight stays, or falls from `kl_coef` to 0 at `total_steps`: first explore, then commit."""
    entropy_coef: float = ruled(0.0, at_least=0)
    """Weight of the entropy bonus, which keeps a policy exploring."""
    min_entropy: float = ruled(0.0, at_least=0)
    """Sampled tokens whose distribution has less entropy than this, in nats, get no credit (a KL penalty still holds
    them): learn from decisions, not from the format around them. After Wang et al. 2025, "Beyond the 80/20 rule"."""
    format_penalty: float = ruled(0.0, at_least=0)
    """Taken from an agent's reward, for its advantage only, for each malformed reply: one that cannot be parsed, or
    whose arguments do not fit the tool's parameters. Where such a reply costs nothing, because it is asked for again,
    the format drifts away unnoticed."""
    max_grad_norm: float = ruled(1.0, above=0)
    """Gradients are scaled down to this global norm."""
    num_minibatches: int = ruled(1, at_least=1)
    """Optimizer steps a training step; must divide the tasks of a step."""
    tis_cap: float | None = ruled(None, above=0)
    """Truncated importance sampling: weight min(pi_old / mu, cap)."""
    mis_low: float | None = ruled(None, at_least=0)
    """Masked importance sampling: tokens with pi_old / mu below this are dropped."""
    mis_high: float | None = ruled(None, above=0)
    """Masked importance sampling: tokens with pi_old / mu above this are dropped."""
    max_pack_tokens: int = ruled(2048, at_least=1)
    """Most tokens in one forward pass; attention costs grow with its square."""
    dr_grpo_max_length: int | None = ruled(None, at_least=1)
    """The constant length that `loss=dr_grpo` divides by, in sampled tokens; null for other losses."""


def check_algorithm(algorithm: AlgorithmConfig) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: what to change.
    """
    if algorithm.loss == "dr_grpo" and algorithm.dr_grpo_max_length is None:
        raise ConfigError("algorithm.loss=dr_grpo needs algorithm.dr_grpo_max_length, e.g. 512")
    if algorithm.loss != "dr_grpo" and algorithm.dr_grpo_max_length is not None:
        raise ConfigError(
            f"algorithm.dr_grpo_max_length has no effect with algorithm.loss={algorithm.loss}: "
            "set it to null or choose algorithm.loss=dr_grpo"
        )
    low, high = algorithm.mis_low, algorithm.mis_high
    if (low is None) != (high is None):
        raise ConfigError("algorithm.mis_low and algorithm.mis_high go together: set both or neither")
    if low is not None and high is not None:
        if low >= high:
            raise ConfigError(f"algorithm.mis_low={low} must be below algorithm.mis_high={high}")
        if algorithm.tis_cap is not None:
            raise ConfigError(
                "algorithm.tis_cap and algorithm.mis_low/mis_high correct the same thing: set one of them"
            )
    if algorithm.kl_schedule != "constant" and not algorithm.kl_coef:
        raise ConfigError(
            f"algorithm.kl_schedule={algorithm.kl_schedule} has no effect with algorithm.kl_coef=0: set kl_coef"
        )
