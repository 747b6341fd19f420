"""What an evaluation plays: its request in, a policy, its roles and an opponent each out.

One run is compared with the model that it started from: a matrix of two policies and one opponent, like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from ajet.config.fields import COMPARED, marked_keys
from ajet.config.known_code import require_known_code
from ajet.config.model import LoraConfig
from ajet.config.options import option
from ajet.config.root import BASE, Config, EvaluateConfig
from ajet.config.saved import load, with_user_options
from ajet.config.sweeps.records import read_job
from ajet.config.unused import why_no_opponent
from ajet.config.validate import validate
from ajet.engine.tinker import MovedServerConfig, TinkerConfig, TinkerEngineConfig
from ajet.errors import ConfigError
from ajet.rollout.opponents.base import OpponentConfig
from ajet.tracking.weights_and_biases import WandbConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One cell to play: a policy, its roles and an opponent."""

    name: str
    """How tables call the policy."""
    run: str
    """Its run directory, or `base`."""
    config: Config
    """What is played, opponent and roles included; alike for all entries but for these two."""
    reference: str | None
    """The name of the policy that it is compared with; None for that one itself."""

    @property
    def played(self) -> tuple[str, str]:
        """What entries have in common that one scheduler plays: their roles and their opponent."""
        return str(self.config.trainable_targets), self.config.opponent.name


def evaluation_entries(request: EvaluateConfig) -> list[Entry]:
    """The cells to play, one opponent's before the next one's.

    A run plays the roles that it trained, unless the request names others. `base` plays them too, once for each choice
    of roles among the runs, so that the comparison is between policies alone. All else is as the first run had it, the
    seed included.

    Raises:
        ConfigError: runs that cannot be compared, roles that their workflow does not have, or an opponent that cannot
            play it.
    """
    asked = [BASE, request.run] if request.run is not None else list(request.runs or [])
    runs = [run for run in asked if run != BASE]
    configs = [_run_config(request, run) for run in runs]
    _check_alike(runs, configs)
    roles = [_roles(config) for config in configs]
    config_by_roles = dict(zip(roles, configs, strict=True))
    bases = {key: BASE if len(config_by_roles) == 1 else f"{BASE} ({key})" for key in config_by_roles}
    names = _names(runs, roles, taken=[BASE, *bases.values()])
    policies = list(zip(names, runs, roles, strict=True))
    references = dict.fromkeys(roles, names[0])
    if BASE in asked:
        references = bases
        policies = [*((name, BASE, key) for key, name in bases.items()), *policies]
    return [
        Entry(
            name=name,
            run=run,
            config=_played_config(configs[0], config_by_roles[key], opponent, request),
            reference=None if references[key] == name else references[key],
        )
        for opponent in _opponents(request, configs)
        for name, run, key in policies
    ]


def _run_config(request: EvaluateConfig, run: str) -> Config:
    """A run's config with the roles that are played."""
    config = _on_engine(request, load(Path(run)))
    keeps_opponent = request.opponent is None and config.opponent.name in (request.opponents or [config.opponent.name])
    setting = f"{'runs' if request.run is None else 'run'}={run}"
    require_known_code(config, Path(run), setting=setting, trusted=request.trust_code, own_opponent=keeps_opponent)
    config = with_user_options(config, opponent=keeps_opponent, training=False)
    _move_server(request.tinker, config)
    if request.trainable_targets is not None:
        config.trainable_targets = request.trainable_targets
    return config


def _on_engine(request: EvaluateConfig, config: Config) -> Config:
    """A run's config with the engine that the request names, which computes with whole weights on this machine."""
    if request.engine is None:
        return config
    if config.engine.trains:
        config.model.lora, config.tinker = LoraConfig(), TinkerConfig()  # the server's, which is not asked
    config.engine = deepcopy(request.engine)
    return config


def _move_server(moved: MovedServerConfig, config: Config) -> None:
    """Ask the run's server where the request says that it is."""
    if moved == MovedServerConfig():
        return
    if not isinstance(config.engine, TinkerEngineConfig):
        raise ConfigError(
            f"tinker.* has no effect with engine={config.engine.name}: it is of runs that were trained on a server"
        )
    config.tinker = moved.applied_to(config.tinker)
    config.engine.service = deepcopy(config.tinker)


def _opponents(request: EvaluateConfig, configs: Sequence[Config]) -> list[OpponentConfig]:
    """Those that the request names, else the first run's."""
    own = configs[0].opponent
    if request.opponent is None and request.opponents is None:
        return [own]
    named = [request.opponent.name] if request.opponent is not None else list(request.opponents or [])
    # Where every run trains all roles, an opponent would have no agent to play.
    idle = [why_no_opponent(config) for config in configs]
    if None not in idle:
        raise ConfigError(f"opponent={','.join(named)} has no effect: {idle[0]}")
    if request.opponent is not None:
        return [request.opponent]
    if "openai" in named and own.name != "openai":
        raise ConfigError("opponent=openai has settings of its own: name it alone, with opponent.base_url and the like")
    return [own if name == own.name else option("opponent", name)() for name in named]


def _check_alike(runs: Sequence[str], configs: Sequence[Config]) -> None:
    for run, config in zip(runs, configs, strict=True):
        for key in marked_keys(configs[0], COMPARED):
            if attrgetter(key)(config) != attrgetter(key)(configs[0]):
                raise ConfigError(
                    f"runs={run} and {runs[0]} differ in {key}, so their scores cannot be compared: "
                    "evaluate them apart with run="
                )


def _played_config(first: Config, config: Config, opponent: OpponentConfig, request: EvaluateConfig) -> Config:
    """The first run's config with the roles of `config`, an opponent, the request's console and directory, and without
    W&B."""
    played = deepcopy(first)
    # What judges and workflows keep is the evaluation's: no run is changed.
    played.run_dir = str(Path(request.output_dir).absolute())
    played.trainable_targets = config.trainable_targets
    played.opponent = opponent
    played.logger.console = request.console
    played.logger.wandb = WandbConfig(mode="disabled")
    validate(played)
    return played


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
