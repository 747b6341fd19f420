"""Whole episodes on the scripted engine, for tests of what a workflow's program can do and must not.

`Run` is one run's parts, `Program` a workflow that runs a function of its tuner.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import requests
from transformers import PreTrainedTokenizerBase

from ajet.chat.renderer import ChatRenderer
from ajet.chat.types import ChatModel
from ajet.config.root import Config
from ajet.engine.base import Engine
from ajet.engine.scripted import ScriptedEngine
from ajet.records import Episode, Task
from ajet.rollout.agent_model import AgentModel, EngineReplies, ReplySource
from ajet.rollout.endpoint.config import EndpointConfig
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.environment import EnvironmentMaker
from ajet.rollout.event_loop import RolloutLoop
from ajet.rollout.judges.base import BaseJudge
from ajet.rollout.refusals import Refusals
from ajet.rollout.runner import GRACE_S, EpisodeRunner
from ajet.rollout.running_episode import Agent, RunningEpisode
from ajet.rollout.scheduler import RolloutScheduler
from ajet.train.ranks import Ranks
from ajet.tuner import AjetTuner, OpenAIAddress
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

ASK: Any = [{"role": "user", "content": "Speak."}]


class Run:
    """One run's parts; `play` collects on the rollout's loop, as a trainer does."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        opponent: Callable[[str, str, random.Random], ChatModel] | None = None,
        timeout_s: float = 30.0,
        max_context: int = 256,
        endpoint: EndpointConfig | None = None,
        judge: BaseJudge | None = None,
        make_env: EnvironmentMaker | None = None,
        engine: Engine | None = None,
        reply_on_overflow: bool = False,
        grace_s: float = GRACE_S,
        say: Callable[[str], None] = print,
    ) -> None:
        self.task = Task(task_id="t")
        self.said: Any = None
        """What the last program of `one` returned, before it became plain data."""
        self._grace_s = grace_s
        self._say = say
        self._judge = judge
        self._make_env = make_env
        self._config = Config()
        self._config.endpoint = endpoint or EndpointConfig()
        self._config.rollout.timeout_s = timeout_s
        self.endpoint = Endpoint(self._config.endpoint)
        self._opponent = opponent
        self._policy = EngineReplies(
            engine=engine or ScriptedEngine(len(tokenizer), max_context=max_context, seed=1),
            renderer=ChatRenderer(tokenizer),
            temperature=1.0,
            max_tokens=12,
            reply_on_overflow=reply_on_overflow,
        )

    def play(
        self, make_workflow: Callable[[], Workflow], *, group_size: int = 1, task: Task | None = None
    ) -> tuple[Episode, ...]:
        tasks = [task or self.task]
        with asyncio.Runner(loop_factory=RolloutLoop) as loop:
            (group,) = loop.run(self.scheduler(make_workflow).collect(tasks, group_size=group_size, stream="train"))
        return group.episodes

    def scheduler(self, make_workflow: Callable[[], Workflow]) -> RolloutScheduler:
        runner = EpisodeRunner(
            config=self._config,
            make_workflow=make_workflow,
            reply_source=self._reply_source,
            endpoint=self.endpoint,
            judge=self._judge,
            make_env=self._make_env,
            grace_s=self._grace_s,
            say=self._say,
        )
        return RolloutScheduler(runner=runner, concurrency=8, max_retries=0)

    def _reply_source(self, agent: Agent) -> ReplySource | None:
        if agent.trained:
            return self._policy
        return None if self._opponent is None else self._opponent(agent.name, agent.target_tag, agent.rng)

    def one(self, program: Callable[[AjetTuner], Any], **fields: Any) -> Episode:
        async def heard(tuner: AjetTuner) -> Any:
            said = program(tuner)
            if asyncio.iscoroutine(said):
                said = await said
            self.said = said
            return said

        (episode,) = self.play(lambda: Program(program=heard, **fields))
        return episode


class Share(Ranks):
    """A process whose results are looked at before they are gathered."""

    def together(self, work: Callable[[], Sequence[Any]]) -> list[Any]:
        return list(work())


class Program(Workflow):
    """Runs a function of the tuner; what it returns becomes metadata."""

    program: Callable[[AjetTuner], Any]

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        said = self.program(tuner)
        if asyncio.iscoroutine(said):
            said = await said
        return WorkflowOutput(reward=1.0, metadata={"said": said})


def agent_model(
    source: ReplySource,
    *,
    name: str = "P1",
    tag: str = "seer",
    trained: bool = True,
    seed: int = 1,
    episode: RunningEpisode | None = None,
    ignore: bool = False,
) -> AgentModel:
    """The model of one agent that `source` answers."""
    agent = Agent(name=name, target_tag=tag, trained=trained, seed=seed)
    refusals = Refusals(temperature=1.0, ignore=ignore)
    return AgentModel(agent, source, episode=episode or RunningEpisode(), refusals=refusals)


def post(address: OpenAIAddress, **body: Any) -> requests.Response:
    """A blocking request, as a program without any framework makes it."""
    return requests.post(
        f"{address.base_url}/chat/completions",
        json={"model": address.model, "messages": ASK, **body},
        headers={"Authorization": f"Bearer {address.api_key}"},
        timeout=20,
    )


def by_url(tuner: AjetTuner) -> str:
    answer = post(tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")).json()
    return str(answer["choices"][0]["message"]["content"])


async def by_sdk(tuner: AjetTuner) -> str:
    client = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
    return str((await client.chat.completions.create(messages=ASK, model="any")).choices[0].message.content)


async def by_agentscope(tuner: AjetTuner) -> str:
    response = await tuner.as_agentscope_model(agent_name="P1", target_tag="seer")(ASK)
    return "".join(block["text"] for block in response.content)
