"""What an evaluation plays: its request in, the evaluated runs' configs with the request's changes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from ajet.config.authors.known_code import require_known_code
from ajet.config.compose import load
from ajet.config.logger import WandbConfig
from ajet.config.opponent import OpponentConfig
from ajet.config.root import BASE, Config, EvaluateConfig, MatrixConfig
from ajet.config.sweeps.records import read_job
from ajet.config.unread import why_no_opponent
from ajet.config.validate import validate
from ajet.errors import ConfigError

SHARED = (
    "workflow.entry",
    "workflow.params",
    "data",
    "judge",
    "model.path",
    "model.dtype",
    "model.max_context",
    "rollout.temperature",
    "rollout.max_tokens",
)
"""In what the runs of a matrix must agree, or their scores would differ for another reason than training."""


def played_config(request: EvaluateConfig) -> Config:
    """The run's config with the requested opponent, roles and display, and without W&B.

    Raises:
        ConfigError: no such run directory, roles that its workflow has not, or an opponent that cannot play it.
    """
    config = load(Path(request.run))
    require_known_code(
        config,
        Path(request.run),
        setting=f"run={request.run}",
        trusted=request.trust_code,
        own_opponent=request.opponent is None,
    )
    if request.opponent is not None:
        config.opponent = request.opponent
    if request.trainable_targets is not None:
        config.trainable_targets = request.trainable_targets
    _refuse_idle([request.opponent.name] if request.opponent else [], [config])
    return _for_play(config, request.console)


def _refuse_idle(opponents: Sequence[str], configs: Sequence[Config]) -> None:
    reasons = [why_no_opponent(config) for config in configs]
    if opponents and None not in reasons:
        raise ConfigError(f"opponent={','.join(opponents)} has no effect: {reasons[0]}")


def _for_play(config: Config, console: str) -> Config:
    config.logger.console = console
    config.logger.wandb = WandbConfig(mode="disabled")
    validate(config)
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One cell to play: a policy, its roles and an opponent."""

    name: str
    """How the table calls it."""
    run: str
    """Its run directory, or `base`."""
    config: Config
    reference: str | None
    """The name of the entry that it is compared with; None for that one itself."""


def matrix_entries(request: MatrixConfig) -> list[Entry]:
    """The cells of a matrix, an opponent's before the next one's.

    A run plays the roles that it trained. `base` plays them too, once for each choice of roles among the runs, so that
    the comparison is between policies alone. All else is as the first run had it, the seed included.

    Raises:
        ConfigError: runs that cannot be compared, or an opponent that cannot play their workflow.
    """
    runs = [run for run in request.runs if run != BASE]
    configs = [load(Path(run)) for run in runs]
    for run, config in zip(runs, configs, strict=True):
        require_known_code(
            config,
            Path(run),
            setting=f"runs={run}",
            trusted=request.trust_code,
            own_opponent=config.opponent.name in (request.opponents or [config.opponent.name]),
        )
    _check_alike(runs, configs)
    roles = [_roles(config) for config in configs]
    by_roles = dict(zip(roles, configs, strict=True))
    bases = {key: BASE if len(by_roles) == 1 else f"{BASE} ({key})" for key in by_roles}
    names = _names(runs, roles, taken=[BASE, *bases.values()])
    policies = [(name, run, key) for name, run, key in zip(names, runs, roles, strict=True)]
    references = dict.fromkeys(roles, names[0])
    if BASE in request.runs:
        references = bases
        policies = [*((name, BASE, key) for key, name in bases.items()), *policies]
    _refuse_idle(request.opponents or [], configs)
    return [
        Entry(
            name=name,
            run=run,
            config=_played(configs[0], by_roles[key], opponent, request.console),
            reference=None if references[key] == name else references[key],
        )
        for opponent in request.opponents or [configs[0].opponent.name]
        for name, run, key in policies
    ]


def _check_alike(runs: Sequence[str], configs: Sequence[Config]) -> None:
    for run, config in zip(runs, configs, strict=True):
        for key in SHARED:
            if attrgetter(key)(config) != attrgetter(key)(configs[0]):
                raise ConfigError(
                    f"runs={run} and {runs[0]} differ in {key}, so their scores cannot be compared: "
                    "evaluate them apart with run="
                )


def _played(first: Config, config: Config, opponent: str, console: str) -> Config:
    """The first run's config, with the roles of `config` against an opponent."""
    played = deepcopy(first)
    played.trainable_targets = config.trainable_targets
    if opponent != first.opponent.name:
        if opponent == "openai":
            raise ConfigError("opponent=openai has settings of its own: evaluate against it with run=, a run at a time")
        played.opponent = OpponentConfig(name=opponent)
    return _for_play(played, console)


def _roles(config: Config) -> str:
    return "+".join(config.trainable_targets or ["all"])


def _names(runs: Sequence[str], roles: Sequence[str], *, taken: Sequence[str]) -> list[str]:
    """What a sweep's jobs chose, other folders' own names; whole paths where these are not different or taken."""
    names = [_choices(Path(run), played) or Path(run).name for run, played in zip(runs, roles, strict=True)]
    counts = Counter([*taken, *names])
    return [name if counts[name] == 1 else run for name, run in zip(names, runs, strict=True)]


def _choices(run: Path, roles: str) -> str:
    """`seer, seed 1` of a job `seed=1 trainable_targets=[seer]`; empty where no sweep made the run."""
    if not (run / "job.json").is_file():
        return ""
    choices = read_job(run).choices
    # The seed last: it tells the least.
    keys = sorted(choices, key=lambda key: key == "seed")
    return ", ".join(
        roles if key == "trainable_targets" else f"{key.rpartition('.')[2]} {choices[key]}" for key in keys
    )
