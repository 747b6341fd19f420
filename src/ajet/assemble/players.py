"""Who answers agents, and in which order episodes are played: the config -> a scheduler of episodes.

In two parts: what an episode needs beside an engine, much of it code of the user's that may not work, and then, once an
engine is loaded, the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from ajet.assemble.components import make_engine, make_judge
from ajet.chat.renderer import ChatRenderer
from ajet.config.root import Config
from ajet.config.user_code.importing import load_callable
from ajet.engine.base import Engine
from ajet.errors import ConfigError
from ajet.records import Episode
from ajet.rollout.agent_model import EngineReplies, ReplySource
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.environment import EnvironmentMaker
from ajet.rollout.judges.base import BaseJudge
from ajet.rollout.open_files import fitting_concurrency
from ajet.rollout.opponents.base import OpponentMaker
from ajet.rollout.runner import EpisodeRunner, RolloutCallbacks
from ajet.rollout.running_episode import Agent
from ajet.rollout.scheduler import RolloutScheduler
from ajet.rollout.unused_parts import UnusedParts
from ajet.tracking.console import Display
from ajet.workflow import Workflow
from ajet.workflows.parameters import workflow_maker


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeParts:
    """What the episodes of a config need beside an engine."""

    make_workflow: Callable[[], Workflow]
    renderer: ChatRenderer
    judge: BaseJudge | None
    make_env: EnvironmentMaker | None
    make_opponent: OpponentMaker | None
    """None where the starting model speaks."""


def make_episode_parts(config: Config, workflow: type[Workflow], renderer: ChatRenderer) -> EpisodeParts:
    """Made, and so refused if the user's code cannot work, before the model and an engine load.

    Raises:
        ConfigError: a parameter, a judge, an environment or an opponent that cannot be made.
    """
    return EpisodeParts(
        make_workflow=workflow_maker(workflow, config),
        renderer=renderer,
        judge=make_judge(config),
        make_env=environment_maker(config),
        make_opponent=None if config.opponent.needs_engine else config.opponent.build(workflow=workflow),
    )


def make_scheduler(
    config: Config,
    parts: EpisodeParts,
    model_path: str,
    engine: Engine,
    opened: ExitStack,
    *,
    display: Display | None = None,
    callbacks: RolloutCallbacks | None = None,
    frozen_engine: Engine | None = None,
) -> RolloutScheduler:
    """The agents' models and the order of play; the endpoint and a frozen opponent's engine, unless there is one, are
    added to `opened`."""
    unused = UnusedParts(
        config.judge,
        parts.judge,
        opponent=None if config.credit.asks_opponent else config.opponent.name,
        target_tags=config.workflow.target_tags,
        say=print if display is None else display.say,
    )
    endpoint = Endpoint(config.endpoint)
    opened.callback(endpoint.close)
    callbacks = callbacks or RolloutCallbacks()
    tell = callbacks.on_episode

    def on_episode(episode: Episode) -> None:
        unused.episode(episode)
        if display is not None:
            display.advance()
        tell(episode)

    runner = EpisodeRunner(
        config=config,
        make_workflow=parts.make_workflow,
        reply_source=make_reply_source(config, parts, model_path, engine, opened, frozen_engine),
        endpoint=endpoint,
        judge=unused.judge,
        make_env=parts.make_env,
        callbacks=replace(callbacks, on_episode=on_episode),
        held_up_s=config.engine.held_up_s(engine),
    )

    return RolloutScheduler(
        runner=runner,
        concurrency=fitting_concurrency(config.rollout.concurrency),
        max_retries=config.rollout.max_retries,
    )


def make_reply_source(
    config: Config,
    parts: EpisodeParts,
    model_path: str,
    engine: Engine,
    opened: ExitStack,
    frozen_engine: Engine | None = None,
) -> Callable[[Agent], ReplySource | None]:
    """Who answers an agent: the policy if it is trained, else the configured opponent; None leaves it to the workflow's
    own model.

    Args:
        config: the run's.
        parts: who plays beside the engine.
        model_path: of the starting model.
        engine: the policy's.
        opened: gets the engine of a frozen opponent that needs one of its own.
        frozen_engine: one that samples with the starting model's weights where it is asked to, if there is one.
    """
    policy = EngineReplies(
        engine=engine,
        renderer=parts.renderer,
        temperature=config.rollout.temperature,
        max_tokens=config.rollout.max_tokens,
        reply_on_overflow=config.endpoint.on_overflow == "reply",
        under_grammar=config.rollout.grammar == "tools",
    )
    make_opponent = parts.make_opponent
    if make_opponent is None:
        if frozen_engine is None:
            # Training's settings may have been for one engine alone.
            config.engine.check_second(opponent=config.opponent.name)
            own_engine = make_engine(config, model_path)
            opened.callback(own_engine.close)
            frozen = replace(policy, engine=own_engine)
        else:
            frozen = replace(policy, engine=frozen_engine, is_starting_model=True)
        return lambda agent: policy if agent.trained else frozen
    return lambda agent: policy if agent.trained else make_opponent(agent)


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
        ConfigError: there is none of that name, or it is not a function.
    """
    entry = config.workflow.env
    return None if entry is None else load_callable(entry, setting="workflow.env")
