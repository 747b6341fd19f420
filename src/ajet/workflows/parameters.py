"""`workflow.params` and `opponent.params` -> workflow objects, or an error that says which names and values exist.

Nothing here imports agentscope, torch or an engine, so that a mistake shows at once; a workflow of the user's own may.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from pydantic import ValidationError

from ajet.config.component import check_async
from ajet.config.fields import CODE, marked
from ajet.config.options import options
from ajet.config.root import Config
from ajet.config.user_code.importing import load_callable
from ajet.config.user_code.running import running_user_code
from ajet.errors import ConfigError, require_extra
from ajet.rollout.opponents.scripted import ScriptedPlayersConfig
from ajet.workflow import Workflow
from ajet.workflows.loading import load_workflow
from ajet.workflows.targets import check_targets


def check_parameters(config: Config) -> None:
    """Refuse code of the user's that cannot be loaded, and parameters that the workflow or its players do not take.

    Raises:
        ConfigError: as `load_callable` and `workflow_maker`; or `opponent.params` that scripted players refuse, or an
            opponent of the user's that cannot be made.
    """
    workflow = load_workflow(config.workflow.entry)
    trained = workflow_maker(workflow, config)().trainable_targets
    _check_equipment(config)
    for named in marked(config, CODE):
        if named.key != "workflow.entry":
            load_callable(named.value, setting=named.key)
    is_untrained = {tag: trained is not None and tag not in trained for tag in workflow.target_tags}
    config.opponent.try_own([tag for tag, is_so in is_untrained.items() if is_so or config.credit.asks_opponent])
    if config.credit.asks_opponent:
        _check_replays_opponent(workflow, config)
    if isinstance(config.opponent, ScriptedPlayersConfig):
        for tag in workflow.target_tags:
            with running_user_code(f"workflow.entry={config.workflow.entry}"):
                player = workflow.scripted_player(
                    agent_name=tag, target_tag=tag, rng=random.Random(0), params=config.opponent.params
                )
                if player is not None:
                    check_async(type(player), f"scripted players of {workflow.__name__}", ["chat"])


def _check_replays_opponent(workflow: type[Workflow], config: Config) -> None:
    """Refuse an opponent that has nobody to play trained roles with, which else the first replay would find out."""
    settings = config.workflow
    offered = {
        "scripted": workflow.has_scripted_players() if settings.scripted is None else settings.scripted,
        "has_own_models": workflow.has_own_models if settings.has_own_models is None else settings.has_own_models,
    }
    lacks = config.opponent.lacks(**offered)
    if lacks is not None:
        choices = [name for name, kind in options("opponent").items() if kind().lacks(**offered) is None]
        raise ConfigError(
            f"opponent={config.opponent.name}: {workflow.__name__} has no {lacks}, and credit={config.credit.name} has "
            f"the opponent play trained roles; choose opponent={'|'.join(choices)}"
        )


def _check_equipment(config: Config) -> None:
    """Refuse what would find out only later that its package is not installed, or that there is no key."""
    if config.engine.needs_extras:
        asks = f"engine={config.engine.name}"
        require_extra(*config.engine.needs_extras, needed_by=asks, otherwise="engine=transformers")
    config.engine.check_key()
    if config.judge.needs_extras:
        require_extra(*config.judge.needs_extras, needed_by=f"judge={config.judge.name}")
    if config.data.needs_extras:
        require_extra(*config.data.needs_extras, needed_by=f"data={config.data.reader}")


def workflow_maker(workflow: type[Workflow], config: Config) -> Callable[[], Workflow]:
    """Fresh workflow objects with the config's parameters; its targets win over the class's.

    Raises:
        ConfigError: a parameter the workflow does not have or take, tags that cannot be trained, or a common baseline
            of one tag.
    """
    params = dict(config.workflow.params)
    unknown = sorted(set(params) - set(workflow.model_fields))
    if unknown:
        known = ", ".join(sorted(set(workflow.model_fields) - set(Workflow.model_fields)))
        raise ConfigError(
            f"workflow.params.{unknown[0]} is not a field of {workflow.__name__}; it has {known or 'none'}"
        )
    if config.trainable_targets is not None:
        params["trainable_targets"] = list(config.trainable_targets)
    with running_user_code(f"workflow.entry={config.workflow.entry}"):
        try:
            made = workflow(**params)
        except ValueError as error:
            raise ConfigError(_complaint(error)) from error
    # The class's own targets and, of a program of the user's, its tags and sides are known only now.
    sides = workflow.opposing_sides if config.workflow.opposing_sides is None else ()
    check_targets(made.trainable_targets, tags=workflow.target_tags, opposing_sides=sides)
    config.credit.check(advantage=config.algorithm.advantage, trained_tags=made.trainable_targets)
    return lambda: workflow(**params)


def _complaint(error: ValueError) -> str:
    """One line: the first field that pydantic refused, its value and why."""
    if not isinstance(error, ValidationError):
        return f"workflow.params: {' '.join(str(error).split())}"
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # a rule on several fields, which its message names
        return f"workflow.params: {message}"
    return f"workflow.params.{'.'.join(map(str, first['loc']))}={first['input']}: {message}"
