"""Which settings of what a training step plays and compares contradict each other: its tasks, those that may replace
them, what advantages are divided by, how far from the policy it may be.

In: the configuration. Out: nothing, or a `ConfigError`.
"""

from __future__ import annotations

from ajet.config.algorithm import BATCH_SCALES, HAS_NO_RATIO
from ajet.config.hardware import rank_and_size
from ajet.config.root import Config
from ajet.config.user_options import is_user_entry
from ajet.errors import ConfigError


def check_batch(config: Config) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: what to change.
    """
    num_tasks, minibatches = config.rollout.num_tasks, config.algorithm.num_minibatches
    if num_tasks % minibatches:
        raise ConfigError(
            f"algorithm.num_minibatches={minibatches} does not divide the tasks of a step "
            f"(rollout.num_tasks={num_tasks}): "
            f"choose one of {', '.join(str(n) for n in range(1, num_tasks + 1) if num_tasks % n == 0)}"
        )
    available = config.workflow.num_train_tasks
    if available is not None and available < num_tasks:
        raise ConfigError(
            f"rollout.num_tasks={num_tasks} is more than workflow.num_train_tasks={available}: "
            f"choose at most {available}"
        )
    _check_scale(config)
    _check_values(config)
    _check_resampling(config)
    _check_distance(config)


def _check_scale(config: Config) -> None:
    algorithm = config.algorithm
    if config.credit.has_values:
        if algorithm.scale_rewards == "batch":
            raise ConfigError(
                "algorithm.scale_rewards=batch divides by the deviation of rewards, which credit=critic compares with "
                "values: choose algorithm.scale_rewards=advantages or none"
            )
    elif config.credit.has_own_baselines and algorithm.scale_rewards in BATCH_SCALES:
        raise ConfigError(
            f"algorithm.scale_rewards={algorithm.scale_rewards} divides by a deviation within the step, which says "
            f"nothing of the distance to the baselines that credit={config.credit.name} keeps: set it to none"
        )


def _check_values(config: Config) -> None:
    if not config.credit.has_values:
        return
    if config.engine.trains:
        raise ConfigError(
            f"credit=critic trains a value head on the policy's hidden states, and engine={config.engine.name} trains "
            "on a server that gives none: choose another credit, or another engine"
        )
    if config.hardware.data_parallel == "fsdp" and rank_and_size()[1] > 1:
        raise ConfigError(
            "credit=critic needs hardware.data_parallel=ddp, where every process has the whole value head and trunk"
        )


def _check_resampling(config: Config) -> None:
    rollout, available = config.rollout, config.workflow.num_train_tasks
    if not rollout.max_resamples:
        return
    setting = f"rollout.max_resamples={rollout.max_resamples}"
    if config.credit.plays_again:
        raise ConfigError(
            f"{setting} asks of each group whether it teaches anything as soon as it is played, which with credit="
            f"{config.credit.name} its replays tell: set it to 0, or choose another credit"
        )
    if config.credit.has_own_baselines:
        raise ConfigError(
            f"{setting} would replace groups whose rewards are all the same, which teach something with credit="
            f"{config.credit.name}: set it to 0, or choose another credit"
        )
    if available is not None and available < rollout.num_candidates:
        raise ConfigError(
            f"{setting} needs {rollout.num_candidates} different tasks a step, rollout.num_tasks={rollout.num_tasks} "
            f"and as many for each replacement, and there are workflow.num_train_tasks={available}: choose fewer"
        )


def _check_distance(config: Config) -> None:
    """What goes by how far the policy is from the one that sampled."""
    algorithm, stale = config.algorithm, config.rollout.max_steps_off_policy
    if stale and algorithm.loss == HAS_NO_RATIO and algorithm.correction_level == "none":
        raise ConfigError(
            f"rollout.max_steps_off_policy={stale} with algorithm.correction_level=none does not go with "
            f"algorithm.loss={HAS_NO_RATIO}, which has no ratio to the policy that sampled: set "
            "algorithm.correction_level=auto, or choose a loss with one, e.g. algorithm.loss=clip"
        )
    # Of a server and of an engine of the user's nobody knows here how they round.
    may_differ = config.rounds_coarsely or config.engine.trains or is_user_entry(config.engine.name)
    if algorithm.off_policy_threshold is not None and algorithm.num_updates == 1 and not stale and not may_differ:
        raise ConfigError(
            f"algorithm.off_policy_threshold={algorithm.off_policy_threshold:g} has no effect with one optimizer step "
            "a batch, episodes of the policy itself and one number format, where no call is any distance from the "
            "policy: set it to null, or algorithm.num_minibatches, algorithm.num_epochs or rollout.max_steps_off_policy"
        )
