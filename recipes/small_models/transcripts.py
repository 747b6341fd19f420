"""Transcripts to imitate: scripted players in the real workflows, recorded as the tokens a model would have read and
written.

In: a workflow, a tokenizer with a template, a number of games, how well each role is to play. Out: texts with what to
predict at each token of the replies: not only the reply that was drawn, but how probable the others were, which teaches
a decision from far fewer games. The games run through the same AgentScope agents, prompts and renderer as training
does, so that the model learns the very format that it will be asked for. Left out: choosing the mixture (that is the
recipe's).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from recipes.small_models.slips import Slips

from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.tool_calls import reply_as_text
from ajet.chat.types import ChatReply, ChatRequest
from ajet.config.view import user_view
from ajet.data.randomness import derive_rng
from ajet.errors import PolicyError
from ajet.records import Call, Episode, Task, TrainingSample
from ajet.rollout.running_episode import Agent, RunningEpisode
from ajet.rollout.runtime import RolloutRuntime
from ajet.train.timeline import build_samples
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ajet.config.root import Config

ParamsMaker = Callable[[str, random.Random], Mapping[str, float]]
"""(target_tag, rng of the game) -> the scripted player's parameters in this game."""
TaskMaker = Callable[[str, int], Task]
"""(id, a number that nothing else was drawn from) -> the game's task."""


Odds = tuple[tuple[int, float], ...]
"""(token id, probability) of what may come next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What one agent read and wrote in one game, or a part of it.

    Example: ids (7, 8, 9) where 8 and 9 are a reply that might as well have begun with 5 have odds
    (None, ((8, 0.5), (5, 0.5)), ((9, 1.0),)).
    """

    token_ids: tuple[int, ...]
    odds: tuple[Odds | None, ...]
    """What to predict at each position; None where the agent only read."""
    target_tag: str


@runtime_checkable
class TeachingPlayer(Protocol):
    """A scripted player that tells all it might do."""

    def choices(self, request: ChatRequest) -> Sequence[tuple[ChatReply, float]]:
        """Every possible reply and its probability."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Speaks for one agent as its scripted player does, and records the tokens of doing so."""

    player: TeachingPlayer
    agent: Agent
    tokenizer: PreTrainedTokenizerBase
    renderer: ChatRenderer
    taught: RunningEpisode
    """Where the calls are kept, tokens included; the tuner's own keeps them as text."""
    conversation: Conversation
    odds_after: dict[tuple[int, ...], tuple[Odds, ...]]
    """By prompt: the odds at each token of the reply that was given; filled while playing."""
    slips: Slips
    rng: random.Random

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Draw one of the player's replies; write it as the model should."""
        prompt_ids = self.renderer.prompt_ids(request, self.conversation)
        replies, weights = zip(*self.player.choices(request), strict=True)
        texts = [reply_as_text(reply) for reply in replies]
        (text,) = self.rng.choices(texts, weights)
        slips = self.slips.happens(request, self.rng)
        if slips:
            ids = self._ids(self.slips.spoil(text, request, self.rng))
        else:
            ids = self._ids(text)
            self.odds_after[prompt_ids] = odds_along(ids, [self._ids(other) for other in texts], weights)
        reply = self.renderer.finish(request, prompt_ids, ids, self.conversation)
        self.taught.add(
            Call(
                index=0,
                agent_name=self.agent.name,
                target_tag=self.agent.target_tag,
                trained=not slips,
                messages=request.messages,
                reply=self.renderer.reply_text(ids),
                prompt_ids=prompt_ids,
                sampled_ids=ids,
                logprobs=(0.0,) * len(ids),
                format_error=reply.format_error,
            )
        )
        return ChatReply(content=reply.content, tool_calls=reply.tool_calls, format_error=reply.format_error)

    def _ids(self, text: str) -> tuple[int, ...]:
        return (*self.tokenizer.encode(text, add_special_tokens=False), self.renderer.turn_end_id)


def odds_along(
    ids: tuple[int, ...], alternatives: Sequence[tuple[int, ...]], weights: Sequence[float]
) -> tuple[Odds, ...]:
    """The probability of each next token along `ids`, given the alternatives that agree with it so far.

    Example: along (1, 2) of alternatives (1, 2) and (1, 3) with weights 0.25 and 0.75: ((1, 1.0),) and
    ((2, 0.25), (3, 0.75)).
    """
    agreeing = list(zip(alternatives, weights, strict=True))
    odds: list[Odds] = []
    for depth, token in enumerate(ids):
        mass: dict[int, float] = defaultdict(float)
        for other, weight in agreeing:
            mass[other[depth]] += weight
        total = sum(mass.values())
        odds.append(tuple((t, m / total) for t, m in sorted(mass.items())))
        agreeing = [(other, weight) for other, weight in agreeing if other[depth] == token]
    return tuple(odds)


@dataclass(slots=True, kw_only=True)
class Teachers:
    """Makes a teacher of every agent, trained or not."""

    workflow: type[Workflow]
    tokenizer: PreTrainedTokenizerBase
    renderer: ChatRenderer
    taught: RunningEpisode
    make_params: ParamsMaker
    odds_after: dict[tuple[int, ...], tuple[Odds, ...]]
    slips: Slips
    key: tuple[str | int, ...]

    def teacher(self, agent: Agent) -> Teacher:
        """A teacher for this agent."""
        self.taught.agent_tags[agent.name] = agent.target_tag
        rng = derive_rng(*self.key, agent.name)
        player = self.workflow.scripted_player(
            agent_name=agent.name,
            target_tag=agent.target_tag,
            rng=rng,
            params=self.make_params(agent.target_tag, rng),
        )
        assert isinstance(player, TeachingPlayer), f"{self.workflow.__name__} has no scripted players that teach"
        return Teacher(
            player=player,
            agent=agent,
            tokenizer=self.tokenizer,
            renderer=self.renderer,
            taught=self.taught,
            conversation=Conversation(),
            odds_after=self.odds_after,
            slips=self.slips,
            rng=derive_rng(*self.key, agent.name, "slip"),
        )


def seed_task(task_id: str, random_number: int) -> Task:
    """A task that is nothing but its number."""
    return Task(task_id=task_id, metadata={"random_number": random_number})


def play_transcripts(
    make_workflow: Callable[[random.Random], Workflow],
    *,
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    make_params: ParamsMaker,
    make_task: TaskMaker,
    games: Iterable[int],
    stream: str,
    slips: Slips,
) -> list[Transcript]:
    """Play one game a number in `games` and return its rows, every agent's.

    `make_workflow` gets the game's generator, so that tables of different sizes can be mixed.
    """
    renderer = ChatRenderer(tokenizer)
    rows: list[Transcript] = []
    with RolloutRuntime() as runtime:
        for game in games:
            rng = derive_rng(stream, game)
            workflow = make_workflow(rng)
            taught = RunningEpisode()
            teachers = Teachers(
                workflow=type(workflow),
                tokenizer=tokenizer,
                renderer=renderer,
                taught=taught,
                make_params=make_params,
                odds_after={},
                slips=slips,
                key=(stream, game),
            )
            tuner = AjetTuner(
                config=user_view(config),
                trainable_targets=workflow.trainable_targets,
                reply_source=teachers.teacher,
            )
            task = make_task(f"{stream}-{game}", rng.randrange(2**31))
            # After the policy's own fault nothing follows; what was said before is as good as any.
            with suppress(PolicyError):
                runtime.run(workflow.execute(WorkflowTask(task=task), tuner))
            episode = Episode(
                task=task, repeat=0, status="ok", rewards={}, agent_tags=taught.agent_tags, calls=taught.calls
            )
            # Which tokens were said is all that is asked of the rows.
            no_credit = {call.index: (0.0,) * len(call.sampled_ids) for call in episode.calls}
            samples = build_samples(episode, no_credit)
            rows += [_transcript(sample, teachers.odds_after) for sample in samples]
    return rows


def _transcript(sample: TrainingSample, odds_after: Mapping[tuple[int, ...], tuple[Odds, ...]]) -> Transcript:
    odds: list[Odds | None] = [None] * len(sample.token_ids)
    starts = [i for i in range(1, len(odds)) if sample.loss_mask[i] and not sample.loss_mask[i - 1]]
    for start in starts:
        reply = odds_after[sample.token_ids[:start]]
        odds[start : start + len(reply)] = reply
    return Transcript(token_ids=sample.token_ids, odds=tuple(odds), target_tag=sample.target_tag)
