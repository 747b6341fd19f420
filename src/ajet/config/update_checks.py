"""Which settings of how a batch is learned from contradict each other: epochs, masks, penalties, references.

In: the algorithm group. Out: nothing, or a `ConfigError`.
"""

from __future__ import annotations

from ajet.config.algorithm import HAS_NO_RATIO, AlgorithmConfig
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
    for name in ("num_minibatches", "num_epochs"):
        if getattr(algorithm, name) > 1 and algorithm.loss == HAS_NO_RATIO:
            raise ConfigError(
                f"algorithm.{name}={getattr(algorithm, name)} does not go with algorithm.loss={HAS_NO_RATIO}, which "
                "has no ratio to the policy that sampled, and the batch's first optimizer step leaves that one: set "
                f"{name}=1, or choose a loss with a ratio, e.g. algorithm.loss=clip"
            )
    _check_overlong(algorithm)
    _check_kl(algorithm)
    _check_entropy(algorithm)
    _check_kl_cov(algorithm)


def _check_overlong(algorithm: AlgorithmConfig) -> None:
    if algorithm.overlong_penalty and algorithm.overlong_buffer is None:
        raise ConfigError(
            f"algorithm.overlong_penalty={algorithm.overlong_penalty} needs algorithm.overlong_buffer, the tokens "
            "before rollout.max_tokens over which it rises, e.g. a fifth of them"
        )
    if algorithm.overlong_buffer is not None and not algorithm.overlong_penalty:
        raise ConfigError(
            f"algorithm.overlong_buffer={algorithm.overlong_buffer} has no effect with algorithm.overlong_penalty=0: "
            "set overlong_penalty, e.g. 1, or drop it"
        )


def check_reference(algorithm: AlgorithmConfig, *, has_adapters: bool, is_sharded: bool, total_steps: int) -> None:
    """Refuse a reference that is to follow where there is none that could.

    Args:
        algorithm: the group.
        has_adapters: whether adapters are trained, on whichever machine.
        is_sharded: whether weights are shared out among processes.
        total_steps: training steps of the run.

    Raises:
        ConfigError: what to change.
    """
    setting = f"algorithm.ref_sync_every={algorithm.ref_sync_every}"
    if algorithm.ref_sync_every and has_adapters:
        raise ConfigError(
            f"{setting} does not go with adapters, whose reference is the model beneath them: set it to 0, or "
            "model.lora.rank=0"
        )
    if algorithm.ref_sync_every and is_sharded:
        raise ConfigError(f"{setting} needs hardware.data_parallel=ddp, where every process has a whole reference")
    if algorithm.ref_sync_every >= total_steps and algorithm.ref_sync_every:
        raise ConfigError(
            f"{setting} is not below total_steps={total_steps}, so that no step has another reference than the "
            "starting model: set it lower, or to 0, or choose more total_steps"
        )


def _check_kl(algorithm: AlgorithmConfig) -> None:
    unset = AlgorithmConfig()
    for name in ("kl_schedule", "kl_in", "kl_estimator", "kl_bias_correction", "ref_sync_every"):
        value = getattr(algorithm, name)
        if not algorithm.kl_coef and value != getattr(unset, name):
            raise ConfigError(
                f"algorithm.{name}={str(value).lower()} has no effect with algorithm.kl_coef=0: set kl_coef"
            )
    if algorithm.ref_sync_alpha != unset.ref_sync_alpha and not algorithm.ref_sync_every:
        raise ConfigError(
            f"algorithm.ref_sync_alpha={algorithm.ref_sync_alpha:g} has no effect with algorithm.ref_sync_every=0: set "
            "ref_sync_every, or leave it out"
        )
    if algorithm.kl_in == "reward":
        _check_kl_in_reward(algorithm)
    elif algorithm.kl_estimator == "k1" and not algorithm.kl_bias_correction:
        raise ConfigError(
            "algorithm.kl_estimator=k1 as a loss pulls nowhere: the mean of its gradient is 0, wherever the reference "
            "is; set algorithm.kl_bias_correction=true or algorithm.kl_in=reward, or choose k2 or k3"
        )
    elif algorithm.kl_estimator == "k2" and algorithm.kl_bias_correction:
        raise ConfigError(
            "algorithm.kl_estimator=k2 has the KL divergence's gradient as it is, and with "
            "algorithm.kl_bias_correction=true another: set that to false, or choose k1 or k3"
        )


def _check_entropy(algorithm: AlgorithmConfig) -> None:
    unset = AlgorithmConfig()
    for name in ("entropy_coef_delta", "entropy_coef_max"):
        value = getattr(algorithm, name)
        if algorithm.entropy_target is None and value != getattr(unset, name):
            raise ConfigError(
                f"algorithm.{name}={value:g} has no effect with algorithm.entropy_target=null: set entropy_target, or "
                "leave it out"
            )
    if algorithm.entropy_target is not None and algorithm.entropy_coef > algorithm.entropy_coef_max:
        raise ConfigError(
            f"algorithm.entropy_coef={algorithm.entropy_coef:g}, which the bonus starts from, is above "
            f"algorithm.entropy_coef_max={algorithm.entropy_coef_max:g}: change one of them"
        )


def _check_kl_cov(algorithm: AlgorithmConfig) -> None:
    if algorithm.kl_cov_share and algorithm.num_updates == 1:
        raise ConfigError(
            f"algorithm.kl_cov_share={algorithm.kl_cov_share:g} has no effect with one optimizer step a batch, before "
            "which no token has moved: set algorithm.num_minibatches or num_epochs, or kl_cov_share=0"
        )
    unset = AlgorithmConfig.kl_cov_coef
    if algorithm.kl_cov_coef != unset and not algorithm.kl_cov_share:
        raise ConfigError(
            f"algorithm.kl_cov_coef={algorithm.kl_cov_coef:g} has no effect with algorithm.kl_cov_share=0: set "
            "kl_cov_share, or leave it out"
        )


def _check_kl_in_reward(algorithm: AlgorithmConfig) -> None:
    if algorithm.kl_estimator in ("k2", "k3"):
        raise ConfigError(
            f"algorithm.kl_estimator={algorithm.kl_estimator} is for the loss: in the reward the gradient of the KL "
            "divergence is that of k1; leave it out, or choose algorithm.kl_in=loss"
        )
    if algorithm.kl_bias_correction:
        raise ConfigError(
            "algorithm.kl_bias_correction=true has no effect with algorithm.kl_in=reward, whose ratio is the loss's "
            "own: set it to false, or choose algorithm.kl_in=loss"
        )
