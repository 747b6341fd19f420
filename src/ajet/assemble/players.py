"""Who plays and in which order: the config's rollout and opponent groups -> a scheduler of episodes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from ajet.assemble.engines import make_engine
from ajet.assemble.judges import make_judge
from ajet.chat.renderer import ChatRenderer
from ajet.chat.types import ChatModel
from ajet.config.authors.importing import load_object
from ajet.config.root import Config
from ajet.engine.base import Engine
from ajet.errors import ConfigError
from ajet.records import Episode
from ajet.rollout.agents.speakers import SamplingSettings
from ajet.rollout.cast import PlayerMaker, Voices
from ajet.rollout.descriptors import fitting_concurrency
from ajet.rollout.endpoint.endpoint import Endpoint, EndpointSettings
from ajet.rollout.environment import EnvironmentMaker
from ajet.rollout.opponents.random import RandomPlayer
from ajet.rollout.runner import EpisodeRunner
from ajet.rollout.scheduler import RolloutScheduler
from ajet.rollout.unasked import Unasked
from ajet.rollout.watch import Onlooker
from ajet.tracking.console import Display
from ajet.workflow import Workflow


def make_scheduler(
    config: Config,
    workflow: type[Workflow],
    make_workflow: Callable[[], Workflow],
    model_path: str,
    engine: Engine,
    opened: ExitStack,
    *,
    renderer: ChatRenderer,
    display: Display | None = None,
    onlooker: Onlooker | None = None,
) -> RolloutScheduler:
    """The players and the order of play; the endpoint and a frozen opponent's engine are added to `opened`."""
    frozen = None
    if config.opponent.name == "frozen":
        frozen = make_engine(config, model_path)
        opened.callback(frozen.close)
    voices = Voices(
        policy_engine=engine,
        frozen_engine=frozen,
        make_player=player_maker(config, workflow),
        renderer=renderer,
        sampling=SamplingSettings(
            temperature=config.rollout.temperature,
            max_tokens=config.rollout.max_tokens,
            reply_on_overflow=config.endpoint.on_overflow == "reply",
        ),
    )
    unasked = Unasked(config, make_judge(config), print if display is None else display.say)
    endpoint = make_endpoint(config)
    opened.callback(endpoint.close)
    runner = EpisodeRunner(
        config=config,
        make_workflow=make_workflow,
        voices=voices,
        agentscope_adapter=agentscope_model,
        timeout_s=config.rollout.timeout_s,
        policy_error_reward=config.rollout.policy_error_reward,
        endpoint=endpoint,
        judge=unasked.judge,
        make_env=environment_maker(config),
        onlooker=onlooker,
    )

    def on_episode(episode: Episode) -> None:
        unasked.episode(episode)
        if display is not None:
            display.advance()
        if onlooker is not None:
            onlooker.episode(episode)

    return RolloutScheduler(
        runner=runner,
        concurrency=fitting_concurrency(config.rollout.concurrency),
        max_retries=config.rollout.max_retries,
        on_episode=on_episode,
    )


def make_renderer(model_path: str) -> ChatRenderer:
    """The model's chat template, and what ends its replies; made before anything large loads.

    Raises:
        ConfigError: there is no such model, it has no chat template, or one that ends an assistant's turn without a
            token.
    """
    try:
        return ChatRenderer(AutoTokenizer.from_pretrained(model_path), eos_ids=_eos_ids(model_path))
    except OSError as error:
        raise ConfigError(f"model.path={model_path} cannot be loaded: {str(error).splitlines()[0]}") from error


def _eos_ids(model_path: str) -> list[int]:
    """Every id that the model's generation stops at; where that is not said, what its configuration calls its end."""
    ids = None
    try:
        ids = GenerationConfig.from_pretrained(model_path).eos_token_id
    except OSError:  # models need not have such a file; one that they have must be readable
        if (Path(model_path) / "generation_config.json").exists():
            raise
    if ids is None:
        ids = AutoConfig.from_pretrained(model_path).get_text_config().to_dict().get("eos_token_id")
    return list(ids) if isinstance(ids, list | tuple) else [] if ids is None else [ids]


def environment_maker(config: Config) -> EnvironmentMaker | None:
    """The function that `workflow.env` names.

    Raises:
        ConfigError: there is none of that name, or it is no function.
    """
    entry = config.workflow.env
    if entry is None:
        return None
    make_env: EnvironmentMaker = load_object(entry, setting="workflow.env")
    if not callable(make_env):
        raise ConfigError(f"workflow.env={entry} is not a function of a task")
    return make_env


def agentscope_model(model: ChatModel, name: str) -> Any:
    """A model for AgentScope 1, which is loaded only where a workflow asks for one.

    Raises:
        ConfigError: another AgentScope, or none, is installed.
    """
    try:
        from ajet.rollout.agents.agentscope import AgentScopeModel
    except ImportError as error:
        found = "agentscope " + version("agentscope") if find_spec("agentscope") else "no agentscope"
        raise ConfigError(
            f"as_agentscope_model speaks AgentScope 1 and {found} is installed: take as_oai_baseurl_apikey, "
            "which every version's OpenAIChatModel can be given (docs/agentscope.md)"
        ) from error
    return AgentScopeModel(model, name=name)


def make_endpoint(config: Config) -> Endpoint:
    """The endpoint for workflows that ask for a URL; nothing listens before one does."""
    endpoint = config.endpoint
    return Endpoint(
        EndpointSettings(
            host=endpoint.host,
            port=endpoint.port,
            ignore_unsupported=endpoint.unsupported == "ignore",
            max_body_bytes=int(endpoint.max_body_mib * 2**20),
        )
    )


def player_maker(config: Config, workflow: type[Workflow]) -> PlayerMaker | None:
    """Makes the configured opponent for an agent; None where an engine or the workflow itself speaks."""
    opponent = config.opponent
    if opponent.name == "random":
        return lambda name, tag, rng: RandomPlayer(rng)
    if opponent.name == "openai":
        return _openai_player(config)
    if opponent.name != "scripted":
        return None

    def scripted(name: str, tag: str, rng: random.Random) -> ChatModel:
        player = workflow.scripted_player(agent_name=name, target_tag=tag, rng=rng, params=opponent.params)
        if player is None:
            raise ConfigError(
                f"{workflow.__name__} has no scripted players: choose opponent=random, frozen, openai or workflow"
            )
        return player

    return scripted


def _openai_player(config: Config) -> PlayerMaker:
    from openai import AsyncOpenAI

    from ajet.rollout.opponents.openai import OpenAIPlayer

    opponent = config.opponent
    key = os.environ.get(opponent.api_key_env) if opponent.api_key_env else "none"
    if key is None:
        raise ConfigError(f"opponent.api_key_env={opponent.api_key_env} is not set in the environment")
    assert opponent.model is not None
    client = AsyncOpenAI(base_url=opponent.base_url, api_key=key, timeout=opponent.timeout_s)
    player = OpenAIPlayer(
        client, model=opponent.model, temperature=opponent.temperature, max_tokens=opponent.max_tokens
    )
    return lambda name, tag, rng: player
