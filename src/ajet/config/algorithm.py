"""The learning rule: advantages, loss, its corrections, and the optimizer's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ajet.config.fields import one_of, ruled

CORRECTION_BOUNDS = ("mis_low", "tis_floor", "tis_cap", "mis_high")
"""Keys that bound pi_old / mu, each below the next."""
BATCH_SCALES = ("batch", "advantages")
"""Values of `scale_rewards` that go by a whole training step."""
HAS_NO_RATIO = "reinforce"
"""The loss that takes what it is given for the policy's own."""
CORRECTS_ITSELF = "vespo"
"""The loss whose own weight is the ratio to the sampler."""


@dataclass
class AlgorithmConfig:
    """The algorithm group. Null switches a correction off."""

    loss: str = "clip"
    """The loss of a sampled token: `clip`, the clipped surrogate; `dual_clip`, `gspo`, `gspo_token`, `gmpo`, `rloo`,
    `cispo`, `sapo`, `vespo`, `reinforce` (docs/algorithms.md); or code of one's own, `path/file.py->name` or
    `package.module:name` (docs/extend/loss.md)."""
    loss_args: dict[str, Any] = field(default_factory=dict)
    """Settings of the loss that no other key has, such as `cap` of `cispo`, checked against its parameters."""
    advantage: str = "grpo"
    """What rewards that share a baseline (`credit`) give: `grpo` (R - mean) / std, `dr_grpo` R - mean, `rloo` R - mean
    of the others, or code of one's own (docs/extend/advantage.md)."""
    advantage_args: dict[str, Any] = field(default_factory=dict)
    """Settings of an advantage of one's own."""
    scale_rewards: str | None = one_of(None, "group", *BATCH_SCALES, "none")
    """What an advantage is divided by, a `target_tag` at a time (tags that share a baseline together): the deviation of
    the rewards that share its baseline (`group`), of all the tag's rewards of the training step (`batch`) or of all its
    advantages (`advantages`, as REINFORCE++ does; with `credit=critic` less their mean, as PPO does), or nothing
    (`none`). Null: what `advantage` is known for, `group` for `grpo`, which alone does it, `none` for the others."""
    aggregation: str = "grpo"
    """How token losses add up: `grpo` mean over sequences of token means, `dapo` token mean over the global batch,
    `role_mean` the mean over roles of that, `dr_grpo` sum over sequences x `dr_grpo_max_length`, `luspo` mean over
    sequences of token sums, or code of one's own (docs/extend/aggregation.md)."""
    aggregation_args: dict[str, Any] = field(default_factory=dict)
    """Settings of an aggregation of one's own."""
    learning_rate: float = ruled(1e-6, above=0, at_most=1)
    """Peak learning rate of AdamW. It belongs to the model: every file of `conf/model` sets it, and what stands here is
    a careful rate for one that does not."""
    warmup_steps: int = ruled(0, at_least=0)
    """Training steps over which the learning rate rises from 0."""
    lr_schedule: str = one_of("constant", "constant", "linear")
    """After warm-up: stay, or fall to 0 at `total_steps`."""
    weight_decay: float = ruled(0.0, at_least=0, at_most=1)
    """AdamW's decoupled weight decay."""
    clip_low: float = ruled(0.2, at_least=0, below=1)
    """The ratio is clipped below at 1 - clip_low; for `loss=gmpo` its logarithm at -clip_low."""
    clip_high: float = ruled(0.2, at_least=0)
    """The ratio is clipped above at 1 + clip_high; for `loss=gmpo` its logarithm at clip_high."""
    kl_coef: float = ruled(0.0, at_least=0)
    """Weight of the KL penalty to the starting model; 0 keeps no reference model."""
    kl_in: str = one_of("loss", "loss", "reward")
    """Where the penalty is: in the `loss` of each sampled token, or taken from the `reward` of the agent, for its
    advantage only, summed over the tokens of its calls. There a call answers for what it makes later ones of its
    agent cost, unless it is credited by itself (`credit=per_turn`, `agent_turn`, chosen calls of `counterfactual`), and
    a group whose rewards are all the same has advantages; in units of reward, as `format_penalty` is."""
    kl_estimator: str | None = one_of(None, "k1", "k2", "k3")
    """What the penalty is, d = logp - logp_ref: `k3` e^-d + d - 1, `k2` d^2 / 2, or `k1` d. Null is `k3` in the loss
    and `k1` in the reward. As a loss `k2` has the gradient of the KL divergence itself, `k3` one that is close to it
    near the reference, `k1` none that pulls to it (ajet/train/algorithms/kl.py)."""
    kl_bias_correction: bool = False
    """Whether each token's penalty is multiplied by its ratio to the policy before the batch's first optimizer step.
    The ratio has a gradient even where it is 1: with it `k3` and `k1` have the KL divergence's own (DeepSeek-V3.2)."""
    kl_schedule: str = one_of("constant", "constant", "linear")
    """The penalty's weight stays, or falls from `kl_coef` to 0 at `total_steps`: first explore, then commit."""
    ref_sync_every: int = ruled(0, at_least=0)
    """Training steps after which the KL penalty's reference is brought up to the policy, again and again; 0: it stays
    the starting model. Not with adapters."""
    ref_sync_alpha: float = ruled(1.0, above=0, at_most=1)
    """The policy's share of the reference's new weights, the rest being those that it had; 1 makes it the policy as it
    is then. .6 in TR-DPO and TRL."""
    entropy_coef: float = ruled(0.0, at_least=0)
    """Weight of the entropy bonus, which keeps a policy exploring: of each token, as its loss is weighted. With
    `entropy_target` what each tag starts from."""
    entropy_target: float | None = ruled(None, above=0)
    """Mean entropy of a tag's sampled tokens, nats, from which down the bonus is paid. After each optimizer step the
    tag's weight rises by `entropy_coef_delta` where it is there or below, else it falls, not below 0, and the next step
    has no bonus (Skywork-OR1). Null: all tags have `entropy_coef` all the while."""
    entropy_coef_delta: float = ruled(0.005, above=0)
    """Step of that weight; with `entropy_target`."""
    entropy_coef_max: float = ruled(1.0, above=0)
    """Upper bound of that weight; with `entropy_target`."""
    min_entropy: float = ruled(0.0, at_least=0)
    """Sampled tokens whose distribution has less entropy than this, in nats, get no credit (a KL penalty still holds
    them): learn from decisions, not from the format around them. After Wang et al. 2025, "Beyond the 80/20 rule"."""
    top_entropy_quantile: float = ruled(1.0, above=0, at_most=1)
    """The same as a share: only this share of the sampled tokens of an optimizer step, those of most entropy, get
    credit; .2 in that paper, 1 for all. Which they are takes one more forward pass a step, over every row."""
    kl_cov_share: float = ruled(0.0, at_least=0, at_most=1)
    """Share of an optimizer step's sampled tokens, those whose log-probability and advantage go together most, that are
    held where they were before the training step (KL-Cov): these cost most entropy. 2e-3 in that paper, 0 for none;
    none either where all advantages are the same. Needs several optimizer steps a batch."""
    kl_cov_coef: float = ruled(1.0, above=0)
    """Weight of |logp - logp_old| of those tokens."""
    format_penalty: float = ruled(0.0, at_least=0)
    """Taken from an agent's reward, for its advantage only, for each malformed reply: one that cannot be parsed, or
    whose arguments do not fit the tool's parameters. Where such a reply costs nothing, because it is asked for again,
    the format drifts away unnoticed. In units of reward: in a group whose rewards are all the same, a penalty of .01
    acts as a hundredth of a reward that is 1 lower; where rewards differ, it counts as what it takes from them."""
    mask_truncated: bool = False
    """Whether replies that were cut at `rollout.max_tokens`, at what the program allowed, or at the end of the context
    are left out of the loss, KL penalty and entropy bonus included, and cost no KL in the reward. Their episodes'
    rewards count as ever, less what such a reply costs by `format_penalty` and `overlong_penalty`."""
    overlong_penalty: float = ruled(0.0, at_least=0)
    """Taken from an agent's reward, for its advantage only, for each reply of `rollout.max_tokens`; for one that ends
    within the last `overlong_buffer` tokens before, its share of them (DAPO's soft overlong punishment, which has 1).
    In units of reward, as `format_penalty`."""
    overlong_buffer: int | None = ruled(None, at_least=1)
    """Tokens before `rollout.max_tokens` over which `overlong_penalty` rises from 0; at most all of them."""
    max_grad_norm: float = ruled(1.0, above=0)
    """Gradients are scaled down to this global norm."""
    num_minibatches: int = ruled(1, at_least=1)
    """Parts that a step's tasks are cut into, an optimizer step each; must divide the tasks of a step."""
    num_epochs: int = ruled(1, at_least=1)
    """How often a training step goes through its minibatches, in the same order. Ratios are to the policy before the
    first of these optimizer steps, all the while."""
    correction_level: str = one_of("auto", "auto", "token", "sequence", "none")
    """Whose ratio pi_old / mu (mu is what was sampled from) the next four keys bound: a `token`'s, or a `sequence`'s,
    the product over a call's tokens; `none` corrects nothing. `auto` is `token` where one of the four is set. Where
    none is: `token` with `tis_cap` 2 if episodes may be older than the policy (`rollout.max_steps_off_policy`), else
    `sequence` with `mis_high` 3, TRL's default, if engine or trainer compute in less than float32, else `none`. A run's
    config.yaml says what came of it. A correction costs one more forward pass a batch."""
    tis_cap: float | None = ruled(None, above=0)
    """Truncated importance sampling: weight min(pi_old / mu, cap). With `mis_low` or `mis_high`, inside their band."""
    tis_floor: float | None = ruled(None, above=0)
    """Truncated importance sampling from below: weight max(pi_old / mu, floor)."""
    mis_low: float | None = ruled(None, at_least=0)
    """Masked importance sampling: weight pi_old / mu, but tokens where it is below this are dropped."""
    mis_high: float | None = ruled(None, above=0)
    """Masked importance sampling: weight pi_old / mu, but tokens where it is above this are dropped."""
    off_policy_threshold: float | None = ruled(None, above=0)
    """Calls whose sampled tokens have become less likely by more than this, in nats a token on average, teach nothing
    where their advantage is negative (DeepSeek-V3.2); .5 to begin with. For several optimizer steps a batch, data
    older than the policy, or an engine that rounds otherwise."""
    max_pack_tokens: int = ruled(2048, at_least=1)
    """Most tokens in one forward pass; attention costs grow with its square."""
    dr_grpo_max_length: int | None = ruled(None, at_least=1)
    """The constant length that `aggregation=dr_grpo` divides by, in sampled tokens; null for others."""

    @property
    def num_updates(self) -> int:
        """Optimizer steps a training step, the unit of the schedules."""
        return self.num_minibatches * self.num_epochs

    @property
    def kl_in_loss(self) -> bool:
        """Whether the loss holds the policy to a reference."""
        return self.kl_coef > 0 and self.kl_in == "loss"

    @property
    def kl_in_reward(self) -> bool:
        """Whether rewards do."""
        return self.kl_coef > 0 and self.kl_in == "reward"

    @property
    def pays_entropy(self) -> bool:
        """Whether there is, or may come to be, an entropy bonus."""
        return self.entropy_coef > 0 or self.entropy_target is not None

    @property
    def corrects_sampling(self) -> bool:
        """Whether pi_old / mu is used, so that pi_old has to be computed apart from mu."""
        return any(getattr(self, bound) is not None for bound in CORRECTION_BOUNDS)


STALE_TIS_CAP = 2.0
"""Where episodes may be older than the policy that learns from them, and nothing else was chosen."""
FORMATS_MIS_HIGH = 3.0
"""Of a whole call's ratio, where engine and trainer round differently, and nothing else was chosen; TRL's default."""


def settle_correction(algorithm: AlgorithmConfig, *, may_be_stale: bool, formats_differ: bool) -> None:
    """Put what `correction_level=auto` stands for in its place.

    Args:
        algorithm: is changed.
        may_be_stale: whether episodes may be older than the policy that learns from them.
        formats_differ: whether engine and trainer give one token unlike log-probabilities.
    """
    if algorithm.correction_level != "auto":
        return
    corrects_itself = algorithm.loss == CORRECTS_ITSELF
    if algorithm.corrects_sampling:
        algorithm.correction_level = "token"
    elif may_be_stale and not corrects_itself:
        algorithm.correction_level, algorithm.tis_cap = "token", STALE_TIS_CAP
    elif formats_differ and not corrects_itself:
        algorithm.correction_level, algorithm.mis_high = "sequence", FORMATS_MIS_HIGH
    else:
        algorithm.correction_level = "none"
