"""What the algorithm group's settings name, and which of them contradict each other.

In: the group. Out: nothing, or a `ConfigError`; the short names that a setting may have. Nothing of `train` is run: it
loads torch.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator
from dataclasses import fields
from functools import cache
from itertools import combinations
from pathlib import Path

from ajet.config.algorithm import CORRECTION_BOUNDS, CORRECTS_ITSELF, AlgorithmConfig
from ajet.config.update_checks import check_updates
from ajet.config.user_code.finding import FORMS, check_entry, split_entry
from ajet.errors import ConfigError

OPTION_FOLDERS = {"loss": "losses", "advantage": "advantages", "aggregation": "aggregations"}
"""Setting -> the folder of `train/algorithms` whose files are its built-in values."""
_READ_BY = {"clip_low": "loss", "clip_high": "loss", "dr_grpo_max_length": "aggregation"}
"""Keys of `algorithm` that nothing reads but an option with a parameter of that name."""
_ALGORITHMS = Path(__file__).resolve().parents[1] / "train" / "algorithms"


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
    _check_dual_clip(algorithm)
    if algorithm.top_entropy_quantile < 1 and algorithm.min_entropy:
        raise ConfigError(
            f"algorithm.top_entropy_quantile={algorithm.top_entropy_quantile} and algorithm.min_entropy="
            f"{algorithm.min_entropy} both choose the tokens that are credited: set the one to 1 or the other to 0"
        )
    check_updates(algorithm)


def _check_option(algorithm: AlgorithmConfig, kind: str) -> None:
    name, args = getattr(algorithm, kind), getattr(algorithm, f"{kind}_args")
    if is_built_in(kind, name):
        own = option_settings(kind, name) - {spec.name for spec in fields(AlgorithmConfig)}
        unknown = [arg for arg in args if arg not in own]
        if unknown:
            raise ConfigError(
                f"algorithm.{kind}_args.{unknown[0]}: algorithm.{kind}={name} has no such setting; "
                f"it has {', '.join(sorted(own)) or 'none of its own'}"
            )
        needed = [arg for arg in own & set(_needed(kind, name)) if arg not in args]
        if needed:
            raise ConfigError(f"algorithm.{kind}={name} needs algorithm.{kind}_args.{needed[0]}")
        check_read(algorithm, kind, option_settings(kind, name))
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
        readers = [f"algorithm.{kind}={option}" for option in built_in(kind) if name in option_settings(kind, option)]
        raise ConfigError(
            f"algorithm.{name}={value} has no effect with algorithm.{kind}={getattr(algorithm, kind)}, which has no "
            f"parameter of that name: set it to {json.dumps(default)} or choose {' or '.join(readers)}"
        )


def option_settings(kind: str, name: str) -> frozenset[str]:
    """The keyword-only parameters of a built-in option, its settings."""
    return frozenset(_signature(kind, name))


def _needed(kind: str, name: str) -> list[str]:
    """Those without a default."""
    return [parameter for parameter, has_default in _signature(kind, name).items() if not has_default]


@cache
def _signature(kind: str, name: str) -> dict[str, bool]:
    """The keyword-only parameters of a built-in option, and whether each has a default; its file is read, for running
    it loads torch."""
    parsed = ast.parse((_ALGORITHMS / OPTION_FOLDERS[kind] / f"{name}.py").read_text(encoding="utf-8"))
    return {
        argument.arg: default is not None
        for node in parsed.body
        if isinstance(node, ast.FunctionDef) and node.name == name
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    }


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


def _check_sampling_correction(algorithm: AlgorithmConfig) -> None:
    level = f"algorithm.correction_level={algorithm.correction_level}"
    bounds = [(name, getattr(algorithm, name)) for name in CORRECTION_BOUNDS if getattr(algorithm, name) is not None]
    if bounds and algorithm.correction_level == "none":
        name, value = bounds[0]
        raise ConfigError(f"algorithm.{name}={value} has no effect with {level}: choose token, sequence or auto")
    if not bounds and algorithm.correction_level in ("token", "sequence"):
        raise ConfigError(
            f"{level} bounds nothing: set algorithm.mis_high, e.g. 3, or another of {', '.join(CORRECTION_BOUNDS)}"
        )
    for (low, low_value), (high, high_value) in combinations(bounds, 2):
        if low_value >= high_value:
            raise ConfigError(
                f"algorithm.{low}={low_value} must be below algorithm.{high}={high_value}, or one of them has no "
                "effect: change it, or set one to null"
            )
    if bounds and algorithm.loss == CORRECTS_ITSELF:
        name, value = bounds[0]
        raise ConfigError(
            f"algorithm.{name}={value} would correct for the sampler twice with algorithm.loss={CORRECTS_ITSELF}, "
            "whose weight is the ratio to it: set it to null"
        )


def _check_dual_clip(algorithm: AlgorithmConfig) -> None:
    delta, high = algorithm.loss_args.get("delta"), 1 + algorithm.clip_high
    if algorithm.loss == "dual_clip" and isinstance(delta, int | float) and delta <= high:
        raise ConfigError(
            f"algorithm.loss_args.delta={delta} must be above {high:g}, 1 + algorithm.clip_high, up to where the first "
            "clip leaves a gradient anyway"
        )
