"""The learning rule: advantages, loss, its corrections, and the optimizer's settings."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from ajet.config.fields import one_of, ruled
from ajet.config.user_code.finding import FORMS, check_entry, split_entry
from ajet.errors import ConfigError

OPTION_FOLDERS = {"loss": "losses", "advantage": "advantages", "aggregation": "aggregations"}
"""Setting -> the folder of `train/algorithms` whose files are its built-in values."""
_READ_BY = {"clip_low": "loss", "clip_high": "loss", "dr_grpo_max_length": "aggregation"}
"""Keys of `algorithm` that nothing reads but an option with a parameter of that name."""
_ALGORITHMS = Path(__file__).resolve().parents[1] / "train" / "algorithms"


@dataclass
class AlgorithmConfig:
    """The algorithm group. Null switches a correction off."""

    loss: str = "clip"
    """The loss of a sampled token: `clip`, the clipped surrogate, or code of one's own, `path/file.py->name` or
    `package.module:name` (docs/extend/loss.md)."""
    loss_args: dict[str, Any] = field(default_factory=dict)
    """Settings of a loss of one's own, checked against its parameters."""
    advantage: str = "grpo"
    """Baseline within a group: `grpo` (R - mean) / std, `dr_grpo` R - mean, `rloo` R - mean of the others, or code of
    one's own (docs/extend/advantage.md)."""
    advantage_args: dict[str, Any] = field(default_factory=dict)
    """Settings of an advantage of one's own."""
    aggregation: str = "grpo"
    """How token losses add up: `grpo` mean over sequences of token means, `dapo` token mean over the global batch,
    `dr_grpo` sum over sequences x `dr_grpo_max_length`, or code of one's own (docs/extend/aggregation.md)."""
    aggregation_args: dict[str, Any] = field(default_factory=dict)
    """Settings of an aggregation of one's own."""
    baseline_per: str = one_of("tag", "tag", "task")
    """Whose rewards make a baseline: those of the same `tag`, or of all trained tags of the `task`. Where roles play
    against each other the latter is always half a win, whoever is favoured."""
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
    the format drifts away unnoticed. In units of reward: in a group whose rewards are all the same, a penalty of .01
    acts as a hundredth of a reward that is 1 lower; where rewards differ, it counts as what it takes from them."""
    max_grad_norm: float = ruled(1.0, above=0)
    """Gradients are scaled down to this global norm."""
    num_minibatches: int = ruled(1, at_least=1)
    """Optimizer steps a training step; must divide the tasks of a step."""
    tis_cap: float | None = ruled(None, above=0)
    """Truncated importance sampling: weight min(pi_old / mu, cap). With `mis_low` or `mis_high`, inside their band."""
    mis_low: float | None = ruled(None, at_least=0)
    """Masked importance sampling: weight pi_old / mu, but tokens where it is below this are dropped."""
    mis_high: float | None = ruled(None, above=0)
    """Masked importance sampling: weight pi_old / mu, but tokens where it is above this are dropped."""
    max_pack_tokens: int = ruled(2048, at_least=1)
    """Most tokens in one forward pass; attention costs grow with its square."""
    dr_grpo_max_length: int | None = ruled(None, at_least=1)
    """The constant length that `aggregation=dr_grpo` divides by, in sampled tokens; null for others."""

    @property
    def corrects_sampling(self) -> bool:
        """Whether pi_old / mu is used, so that pi_old has to be computed apart from mu."""
        return any(bound is not None for bound in (self.tis_cap, self.mis_low, self.mis_high))


STALE_TIS_CAP = 2.0
"""Where episodes may be older than the policy that learns from them, and nothing else was chosen."""


def correct_staleness(algorithm: AlgorithmConfig) -> None:
    """Weigh tokens by how much likelier they have become since they were sampled, unless another way was chosen."""
    if not algorithm.corrects_sampling:
        algorithm.tis_cap = STALE_TIS_CAP


def check_algorithm(algorithm: AlgorithmConfig) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: what to change.
    """
    for kind in OPTION_FOLDERS:
        _check_option(algorithm, kind)
    if algorithm.aggregation == "dr_grpo" and algorithm.dr_grpo_max_length is None:
        raise ConfigError("algorithm.aggregation=dr_grpo needs algorithm.dr_grpo_max_length, e.g. 512")
    _check_sampling_correction(algorithm)
    if algorithm.kl_schedule != "constant" and not algorithm.kl_coef:
        raise ConfigError(
            f"algorithm.kl_schedule={algorithm.kl_schedule} has no effect with algorithm.kl_coef=0: set kl_coef"
        )


def _check_option(algorithm: AlgorithmConfig, kind: str) -> None:
    name, args = getattr(algorithm, kind), getattr(algorithm, f"{kind}_args")
    if is_built_in(kind, name):
        own = _parameters(kind, name) - {spec.name for spec in fields(AlgorithmConfig)}
        unknown = [arg for arg in args if arg not in own]
        if unknown:
            raise ConfigError(
                f"algorithm.{kind}_args.{unknown[0]}: algorithm.{kind}={name} has no such setting; "
                f"it has {', '.join(sorted(own)) or 'none of its own'}"
            )
        check_read(algorithm, kind, _parameters(kind, name))
    elif not all(split_entry(name)):
        raise ConfigError(
            f"algorithm.{kind} must be one of {', '.join(built_in(kind))}, or code of your own as {FORMS}, not {name}"
        )


def check_read(algorithm: AlgorithmConfig, kind: str, parameters: Collection[str]) -> None:
    """Refuse a key that only an option with a parameter of its name reads, where the chosen one has none.

    Args:
        algorithm: the settings.
        kind: `loss`, `advantage` or `aggregation`.
        parameters: names of the chosen option's.

    Raises:
        ConfigError: what to change.
    """
    for name, reader in _READ_BY.items():
        value, default = getattr(algorithm, name), getattr(AlgorithmConfig(), name)
        if reader != kind or name in parameters or value == default:
            continue
        readers = [f"algorithm.{kind}={option}" for option in built_in(kind) if name in _parameters(kind, option)]
        raise ConfigError(
            f"algorithm.{name}={value} has no effect with algorithm.{kind}={getattr(algorithm, kind)}, which has no "
            f"parameter of that name: set it to {json.dumps(default)} or choose {' or '.join(readers)}"
        )


@cache
def _parameters(kind: str, name: str) -> frozenset[str]:
    """The keyword-only parameters of a built-in option, its settings; its file is read, for running it loads torch."""
    parsed = ast.parse((_ALGORITHMS / OPTION_FOLDERS[kind] / f"{name}.py").read_text(encoding="utf-8"))
    return frozenset(
        argument.arg
        for node in parsed.body
        if isinstance(node, ast.FunctionDef) and node.name == name
        for argument in node.args.kwonlyargs
    )


@cache
def built_in(kind: str) -> tuple[str, ...]:
    """The short names that `algorithm.<kind>` may have: the files of its folder. None is run: they load torch."""
    names = (path.stem for path in (_ALGORITHMS / OPTION_FOLDERS[kind]).glob("*.py"))
    return tuple(sorted(name for name in names if name != "__init__"))


def is_built_in(kind: str, name: str) -> bool:
    """Whether a value of `algorithm.<kind>` is a short name, and not code of the user's."""
    return name in built_in(kind)


def user_functions(algorithm: AlgorithmConfig) -> Iterator[tuple[str, str]]:
    """(setting, entry) of each option that is code of the user's, e.g. `("algorithm.loss", "my_file.py->my_loss")`."""
    for kind in OPTION_FOLDERS:
        name = getattr(algorithm, kind)
        if not is_built_in(kind, name):
            yield f"algorithm.{kind}", name


def check_user_functions(algorithm: AlgorithmConfig) -> None:
    """Refuse code of the user's that is not there. Nothing is run: it would load torch.

    Raises:
        ConfigError: no such file or module, or nothing of that name in it.
    """
    for setting, entry in user_functions(algorithm):
        check_entry(entry, setting=setting)


def check_baseline(algorithm: AlgorithmConfig, tags: Sequence[str] | None) -> None:
    """Refuse a common baseline of a single tag: it is that tag's own.

    Args:
        algorithm: the settings.
        tags: those that are trained; empty or None where only play will tell.

    Raises:
        ConfigError: what to change.
    """
    if algorithm.baseline_per == "task" and tags is not None and len(tags) == 1:
        raise ConfigError(
            f"algorithm.baseline_per=task pools the rewards of several tags, but {tags[0]} is trained alone: "
            "choose algorithm.baseline_per=tag"
        )


def _check_sampling_correction(algorithm: AlgorithmConfig) -> None:
    cap, low, high = algorithm.tis_cap, algorithm.mis_low, algorithm.mis_high
    if low is not None and high is not None and low >= high:
        raise ConfigError(f"algorithm.mis_low={low} must be below algorithm.mis_high={high}")
    if cap is not None and high is not None and cap >= high:
        raise ConfigError(
            f"algorithm.tis_cap={cap} has no effect, for tokens above algorithm.mis_high={high} are dropped: "
            "choose a lower cap or set one of them to null"
        )
    if cap is not None and low is not None and low >= cap:
        raise ConfigError(f"algorithm.mis_low={low} must be below algorithm.tis_cap={cap}")
