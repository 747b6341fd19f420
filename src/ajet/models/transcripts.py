"""Transcripts to imitate: scripted players in the real workflows, recorded as the tokens a model would have read and
written.

In: a workflow, a tokenizer with a template, a number of games, how well each role is to play. Out: training rows with
the replies marked. The games run through the same AgentScope agents, prompts and renderer as training does, so that the
model learns the very format that it will be asked for. Left out: choosing the mixture (that is the recipe's).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ajet.agents.agentscope import AgentScopeModel
from ajet.agents.speakers import reply_as_text
from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.randomness import derive_rng
from ajet.recording import EpisodeRecorder
from ajet.records import Completion, Episode, Task, TrainingSample
from ajet.rollout.runtime import RolloutRuntime
from ajet.timeline import build_samples
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ajet.config.root import Config

ParamsMaker = Callable[[str, random.Random], Mapping[str, float]]
"""(target_tag, rng of the game) -> the scripted player's parameters in this game."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Speaks for one agent as its scripted player does, and records the tokens of doing so."""

    player: ChatModel
    agent_name: str
    target_tag: str
    tokenizer: PreTrainedTokenizerBase
    renderer: ChatRenderer
    recorder: EpisodeRecorder
    conversation: Conversation
    slip: float
    """Probability of answering wrongly on purpose. A slip is read later and never imitated: what is learned is to go
    on after one."""
    rng: random.Random

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Let the player decide; write its reply as the model should."""
        prompt_ids = self.renderer.prompt_ids(request, self.conversation)
        text = reply_as_text(await self.player.chat(request))
        slips = bool(request.tools) and self.rng.random() < self.slip
        if slips:
            text = slipped(text, self.rng)
        ids = (*self.tokenizer.encode(text, add_special_tokens=False), *self.renderer.stop_ids)
        reply = self.renderer.finish(request, prompt_ids, ids, self.conversation)
        self.recorder.add_sampled(
            agent_name=self.agent_name,
            target_tag=self.target_tag,
            trained=not slips,
            messages=request.messages,
            reply=text,
            prompt_ids=prompt_ids,
            completion=Completion(token_ids=ids, logprobs=(0.0,) * len(ids), finish_reason="stop", policy_version=0),
            format_error=reply.format_error,
        )
        return ChatReply(content=reply.content, tool_calls=reply.tool_calls, format_error=reply.format_error)


def slipped(text: str, rng: random.Random) -> str:
    """A reply gone wrong as a model's may: another name, a call cut short, or no call at all."""
    kind = rng.random()
    if kind < 0.6:
        return re.sub(r'"target": "\w+"', f'"target": "Player{rng.randint(1, 9)}"', text)
    return text[: text.find("<tool_call>")] if kind < 0.8 else text[: rng.randint(len(text) // 2, len(text) - 1)]


@dataclass(slots=True, kw_only=True)
class TeacherCast:
    """Every agent, trained or not, is a teacher."""

    workflow: type[Workflow]
    tokenizer: PreTrainedTokenizerBase
    renderer: ChatRenderer
    recorder: EpisodeRecorder
    make_params: ParamsMaker
    slip: float
    key: tuple[str | int, ...]
    agent_tags: dict[str, str]

    def policy(self, agent_name: str, target_tag: str) -> ChatModel:
        """A teacher for this agent."""
        self.agent_tags[agent_name] = target_tag
        rng = derive_rng(*self.key, agent_name)
        player = self.workflow.scripted_player(
            agent_name=agent_name, target_tag=target_tag, rng=rng, params=self.make_params(target_tag, rng)
        )
        assert player is not None, f"{self.workflow.__name__} has no scripted players"
        return Teacher(
            player=player,
            agent_name=agent_name,
            target_tag=target_tag,
            tokenizer=self.tokenizer,
            renderer=self.renderer,
            recorder=self.recorder,
            conversation=Conversation(),
            slip=self.slip,
            rng=derive_rng(*self.key, agent_name, "slip"),
        )

    def opponent(self, agent_name: str, target_tag: str) -> ChatModel:
        """A teacher for this agent, too."""
        return self.policy(agent_name, target_tag)


def play_transcripts(
    make_workflow: Callable[[random.Random], Workflow],
    *,
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    make_params: ParamsMaker,
    games: Iterable[int],
    stream: str,
    slip: float = 0.0,
) -> list[TrainingSample]:
    """Play one game a number in `games` and return its rows, every agent's.

    `make_workflow` gets the game's generator, so that tables of different sizes can be mixed.
    """
    renderer = ChatRenderer(tokenizer)
    rows: list[TrainingSample] = []
    with RolloutRuntime() as runtime:
        for game in games:
            rng = derive_rng(stream, game)
            workflow = make_workflow(rng)
            recorder = EpisodeRecorder()
            cast = TeacherCast(
                workflow=type(workflow),
                tokenizer=tokenizer,
                renderer=renderer,
                recorder=recorder,
                make_params=make_params,
                slip=slip,
                key=(stream, game),
                agent_tags={},
            )
            tuner = AjetTuner(
                config=config,
                trainable_targets=workflow.trainable_targets,
                cast=cast,
                agentscope_adapter=lambda model, name: AgentScopeModel(model, name=name),
            )
            task = Task(task_id=f"{stream}-{game}", metadata={"random_number": rng.randrange(2**31)})
            runtime.run(workflow.execute(WorkflowTask(task=task), tuner))
            episode = Episode(
                task=task, repeat=0, status="ok", rewards={}, agent_tags=cast.agent_tags, calls=recorder.calls
            )
            rows += build_samples(episode, dict.fromkeys(cast.agent_tags, 1.0))
    return rows
