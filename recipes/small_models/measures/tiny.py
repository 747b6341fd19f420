"""What `model=tiny` can do: werewolves and signals.

In: a checkpoint. Out, on held-out games against scripted players: replies that cannot be parsed, illegal targets, notes
recited, a known werewolf announced and voted beside how often the teachers do, win rate beside that of a partly
sensible player; for signals the mean reward, whose chance level is one in four.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from statistics import fmean

from recipes.small_models.measures.played import play

from ajet.data.randomness import derive_rng
from ajet.records import Call, EpisodeGroup
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.bare import TOOL_RESULT, BarePlayers
from ajet.workflows.werewolves.game import deal_roles
from ajet.workflows.werewolves.params import scripted_params
from ajet.workflows.werewolves.reading import read
from ajet.workflows.werewolves.scripted import ScriptedPlayer, recited_notes
from ajet.workflows.werewolves.workflow import Werewolves

TEACHER_GAMES = 1000
GOOD, WOLVES = ("seer", "witch"), ("werewolf",)


def measured(model: str, *, num_games: int, sense: float, temperature: float) -> dict[str, float]:
    """Every gate as `<who>/<what>`, rates between 0 and 1.

    Args:
        model: `model.path`, a folder or `builtin:tiny`.
        num_games: held-out games a side; signalling rounds, too.
        sense: the teachers' `sense`, for the rates that the model is to be compared with.
        temperature: of sampling.
    """
    common = [f"model.path={model}", f"rollout.temperature={temperature}"]
    gates: dict[str, float] = {}
    for targets in (GOOD, WOLVES):
        metrics, groups = play(["workflow=werewolves", f"trainable_targets=[{','.join(targets)}]", *common], num_games)
        for tag in targets:
            gates |= {f"{tag}/{name}": value for name, value in reply_rates(groups, tag).items()}
        side = "+".join(targets)
        gates[f"{side}/win_rate"] = metrics["episode/success_rate"]
        gates[f"{side}/win_rate_of_teachers"] = teachers_metrics(targets, sense, others_sense=None)["success"]
        gates[f"{side}/default_moves"] = metrics["workflow/default_moves"] / metrics["workflow/decisions"]
        if targets == GOOD:
            teachers = teachers_metrics(targets, sense, others_sense=sense)
            for name in ("seer_says_known_wolf", "seer_votes_known_wolf"):
                gates[f"seer/{name}"] = metrics[f"workflow/{name}"]
                gates[f"seer/{name}_in_data"] = teachers[name]
    metrics, _ = play(["workflow=signals", "trainable_targets=[speaker,listener]", *common], num_games)
    gates["signals/reward"] = metrics["reward/speaker/mean"]
    gates["signals/illegal_words"] = metrics["workflow/illegal_words"]
    return gates


def reply_rates(groups: Sequence[EpisodeGroup], tag: str) -> dict[str, float]:
    """Of one role's replies: parsed, legal, and opening with the right notes."""
    calls = list(_calls_by_agent(groups, tag))
    asked = [call for calls_of_one in calls for call in calls_of_one if _is_request(call)]
    refused = [
        _was_refused(after) for calls_of_one in calls for call, after in pairwise(calls_of_one) if _is_request(call)
    ]
    unparsed = [
        call.format_error is not None and not (after and _was_refused(after))
        for calls_of_one in calls
        for call, after in zip_longest(calls_of_one, calls_of_one[1:])
    ]
    recited = [call.reply.partition("<tool_call>")[0] == recited_notes(read(call.messages)) for call in asked]
    return {
        "format_errors": fmean(unparsed),
        "illegal_targets": sum(refused) / len(asked),
        "notes_recited": fmean(recited),
        "replies": float(len(unparsed)),
    }


def _calls_by_agent(groups: Sequence[EpisodeGroup], tag: str) -> Iterator[list[Call]]:
    for group in groups:
        for episode in group.episodes:
            for agent in episode.agent_tags:
                if episode.agent_tags[agent] == tag:
                    yield [call for call in episode.calls if call.agent_name == agent]


def _is_request(call: Call) -> bool:
    """Whether the moderator asks, rather than the agent trying again."""
    return call.messages[-1]["role"] == "user" and prompts.MODERATOR in str(call.messages[-1]["content"])


def _was_refused(after: Call) -> bool:
    """Whether this call is another try after a tool call that the agent's toolkit refused."""
    last = after.messages[-1]
    return last["role"] == "tool" and TOOL_RESULT not in str(last["content"])


def teachers_metrics(targets: Sequence[str], sense: float, *, others_sense: float | None) -> Mapping[str, float]:
    """How players of this `sense` fare in the targets' seats, at bare tables; `success` is their side's win rate.

    The others are the scripted opponents, or as sensible as `others_sense`.
    """
    teacher = scripted_params({"sense": sense, "insight": 0.0})
    other = scripted_params({} if others_sense is None else {"sense": others_sense, "insight": 0.0})
    workflow = Werewolves(trainable_targets=list(targets))
    values: dict[str, list[float]] = {}

    async def play_one(number: int) -> None:
        roles = deal_roles(workflow.role_counts(), number)
        players = [
            ScriptedPlayer(rng=derive_rng("gates", number, seat), params=teacher if role in targets else other)
            for seat, role in enumerate(roles)
        ]
        table = BarePlayers(players, [prompts.system_prompt(seat, roles) for seat in range(len(roles))])
        report = await workflow.moderator(roles, table, number).play()
        won = (report.winner == "good") == (targets[0] != "werewolf")
        for name, value in (*report.metrics.items(), ("success", float(won))):
            values.setdefault(name, []).append(value)

    for number in range(TEACHER_GAMES):
        asyncio.run(play_one(number))
    return {name: fmean(numbers) for name, numbers in values.items()}
