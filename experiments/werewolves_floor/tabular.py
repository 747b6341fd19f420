"""How many games an ideal learner needs in werewolves: GRPO over a table of situations instead of a language model.

    python experiments/werewolves_floor/tabular.py [--seeds 1 2 3] [--games 2560] [--search 1024] [--held-out 300]

In: nothing but seeds. Out: Markdown tables. The learner has one number for each decision of a trained role and each
kind of note that comes with it: the logit of deciding sensibly, as a scripted player does, rather than at random.
Everybody else is a default scripted player. Left out, and so for free here: format, legal replies, copying, reading.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

import torch
from scipy.stats import binomtest

from ajet.chat.types import ChatModel, ChatReply, ChatRequest
from ajet.config.algorithm import AlgorithmConfig
from ajet.data.randomness import derive_rng
from ajet.data.seeds import SeedTasks
from ajet.evaluate.statistics import paired_difference
from ajet.records import Episode, EpisodeGroup, Task
from ajet.train.algorithms.rule import learning_rule
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.bare import BarePlayers
from ajet.workflows.werewolves.game import Game, deal_roles, side_of
from ajet.workflows.werewolves.params import scripted_params
from ajet.workflows.werewolves.play import Moderator
from ajet.workflows.werewolves.prompts import ATTACKED, CALLED_WEREWOLF, CLAIMED_SEER, PROPOSED, SEEN_WEREWOLF, Decision
from ajet.workflows.werewolves.reading import Memory, read
from ajet.workflows.werewolves.scripted import ScriptedPlayer
from ajet.workflows.werewolves.workflow import Werewolves

NUM_TASKS, GROUP_SIZE = 16, 8
START = 0.35
"""The sense of the small model's teachers."""
GAIN = 0.15
SEARCH_SEEDS = (100, 101)
_SEEN, _CALLED, _CLAIMED = (SEEN_WEREWOLF,), (CALLED_WEREWOLF,), (CLAIMED_SEER,)
NOTICED: Mapping[str, Mapping[Decision, tuple[str, ...]]] = {
    "seer": {"check": (), "say": _SEEN, "last_words": _SEEN, "vote": _SEEN + _CALLED},
    "witch": {"potions": (ATTACKED, CALLED_WEREWOLF), "say": _CALLED, "last_words": _CALLED, "vote": _CALLED},
    "werewolf": {
        "propose": _CLAIMED,
        "attack": (PROPOSED, CLAIMED_SEER),
        "say": _CLAIMED,
        "last_words": _CLAIMED,
        "vote": _CLAIMED,
    },
}
"""The notes that tell situations apart: the first one that names somebody counts."""
SKILLS: Mapping[str, Mapping[str, float]] = {
    "seer": {"insight": 0.0},
    "witch": {"insight": 0.0},
    "werewolf": {"wolf_agreement": 1.0, "wolf_hunt": 1.0},
}
"""What deciding sensibly means, as in experiments/werewolves_room: by one's notes; wolves strike together."""

Situation = tuple[str, str, str]
"""(role, decision, the note that names somebody), e.g. ("seer", "say", "Seen werewolf")."""
NOTHING = "nobody named"


def situations(targets: Sequence[str]) -> list[Situation]:
    """All that these roles can be in."""
    return [
        (role, decision, label)
        for role in targets
        for decision, labels in NOTICED[role].items()
        for label in (*labels, NOTHING)
    ]


def situation_of(memory: Memory) -> Situation:
    """The one that a request is about."""
    labels = NOTICED[memory.role][memory.decision]
    return memory.role, memory.decision, next((label for label in labels if memory.notes.get(label)), NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TabularPlayer:
    """Decides sensibly or at random by the table, and keeps what it chose."""

    rng: random.Random
    chances: Mapping[Situation, float]
    sensible: ScriptedPlayer
    blind: ScriptedPlayer
    taken: list[tuple[Situation, bool]] = field(default_factory=list)
    """(situation, whether sensibly), one a decision."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        situation = situation_of(read(request.messages))
        is_sensible = self.rng.random() < self.chances[situation]
        self.taken.append((situation, is_sensible))
        return await (self.sensible if is_sensible else self.blind).chat(request)


Played = tuple[Episode, Mapping[str, TabularPlayer]]
"""One game, for the advantages; its learners by agent name, with what they chose, for the gradient."""


async def play(
    task: Task, repeat: int, targets: Sequence[str], chances: Mapping[Situation, float], seed: int
) -> Played:
    """One game of the default table."""
    workflow = Werewolves(trainable_targets=list(targets))
    number = task.metadata["random_number"]
    roles = deal_roles(workflow.role_counts(), number)
    players: list[ChatModel] = []
    learners: dict[str, TabularPlayer] = {}
    for seat, role in enumerate(roles):
        rng = derive_rng("floor", seed, task.task_id, repeat, seat)
        if role in targets:
            sensible, blind = (
                ScriptedPlayer(rng=rng, params=scripted_params({"sense": sense, **SKILLS[role]}))
                for sense in (1.0, 0.0)
            )
            learner = TabularPlayer(rng=rng, chances=chances, sensible=sensible, blind=blind)
            learners[prompts.player_name(seat)] = learner
            players.append(learner)
        else:
            players.append(ScriptedPlayer(rng=rng, params=scripted_params({})))
    driver = Moderator(
        game=Game(roles=roles, day_limit=workflow.day_limit),
        table=BarePlayers(players, [prompts.system_prompt(seat, roles) for seat in range(len(roles))]),
        random_number=number,
        discussion_rounds=workflow.discussion_rounds,
        public_votes=workflow.public_votes,
        free_speech=workflow.free_speech,
    )
    won = float((await driver.play()).winner == side_of(targets))
    tags = {prompts.player_name(seat): role for seat, role in enumerate(roles) if role in targets}
    rewards = dict.fromkeys(learners, won)
    return Episode(task=task, repeat=repeat, status="ok", rewards=rewards, agent_tags=tags, calls=()), learners


Rule = tuple[Literal["adam", "sgd"], float]
"""An optimizer and its learning rate."""
RULES: list[Rule] = [("adam", 0.1), ("adam", 0.2), ("adam", 0.4), ("sgd", 3)]


class Learner:
    """A table of logits, and how it is trained."""

    def __init__(self, targets: Sequence[str], rule: Rule, seed: int) -> None:
        self.targets, self.seed = targets, seed
        self.situations = situations(targets)
        self.logits = torch.full((len(self.situations),), math.log(START / (1 - START)), dtype=torch.float64)
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule[0]]
        self.optimizer = kind([self.logits], lr=rule[1])
        self.tasks = SeedTasks(run_seed=seed)
        self.credit = learning_rule(AlgorithmConfig(advantage="grpo"))
        self.num_games = 0

    def chances(self) -> dict[Situation, float]:
        """The probability of deciding sensibly, by situation."""
        return dict(zip(self.situations, self.logits.sigmoid().tolist(), strict=True))

    async def step(self) -> float:
        """One step of GRPO; the share of games won in it. The gradient is a mean over games."""
        num_games = NUM_TASKS * GROUP_SIZE
        chances = self.chances()
        slopes = dict.fromkeys(self.situations, 0.0)
        rewards: list[float] = []
        for task in self.tasks.train_tasks(self.num_games // num_games, NUM_TASKS):
            games = [await play(task, repeat, self.targets, chances, self.seed) for repeat in range(GROUP_SIZE)]
            group = EpisodeGroup(task=task, episodes=tuple(episode for episode, _ in games))
            advantages = self.credit.group_advantages(group).of_agents
            for episode, learners in games:
                rewards.append(max(episode.rewards.values()))
                for name, learner in learners.items():
                    for situation, is_sensible in learner.taken:
                        score = is_sensible - chances[situation]
                        slopes[situation] += advantages[episode.repeat, name] * score / num_games
        self.logits.grad = -torch.tensor([slopes[situation] for situation in self.situations], dtype=torch.float64)
        self.optimizer.step()
        self.num_games += num_games
        return fmean(rewards)


async def held_out(targets: Sequence[str], chances: Mapping[Situation, float], num: int) -> dict[str, float]:
    """Won (1) or lost (0) by task; the same games' luck for every table."""
    tasks = SeedTasks(run_seed=0).held_out_tasks(num)
    games = [await play(task, 0, targets, chances, 0) for task in tasks]
    return {episode.task.task_id: max(episode.rewards.values()) for episode, _ in games}


def show(label: str, scores: Mapping[str, float], before: Mapping[str, float]) -> float:
    """One row: win rate with Wilson's interval, gain over the start with the paired t interval. The gain."""
    wins = binomtest(int(sum(scores.values())), len(scores)).proportion_ci(method="wilson")
    gain = paired_difference(before, scores, confidence=0.95)
    rate = f"{fmean(scores.values()):.3f} | {wins.low:.3f} to {wins.high:.3f}"
    print(f"| {label} | {rate} | {gain.mean:+.3f} | {gain.low:+.3f} to {gain.high:+.3f} |", flush=True)
    return gain.mean


async def search(targets: Sequence[str], num_games: int) -> Rule:
    """The rule that wins most in the second half of a short training, over two seeds of its own."""
    print(f"\n### {targets}: win rate in training, games {num_games // 2} to {num_games}\n\n| rule | wins |\n|---|---|")
    num_steps = num_games // (NUM_TASKS * GROUP_SIZE)
    found: dict[Rule, float] = {}
    for rule in RULES:
        wins: list[float] = []
        for seed in SEARCH_SEEDS:
            learner = Learner(targets, rule, seed)
            wins += [await learner.step() for _ in range(num_steps)][num_steps // 2 :]
        found[rule] = fmean(wins)
        print(f"| {rule[0]} {rule[1]:g} | {found[rule]:.3f} |", flush=True)
    return max(RULES, key=lambda rule: found[rule])


async def measure(targets: Sequence[str], rule: Rule, arguments: argparse.Namespace) -> None:
    """The curve of every learner seed, and where it ends up."""
    marks = [mark for mark in (*range(256, 2048, 256), *range(2048, 99999, 512)) if mark <= arguments.games]
    start = Learner(targets, rule, 0)
    before = await held_out(targets, start.chances(), arguments.held_out)
    print(f"\n### {targets}, {rule[0]} {rule[1]:g}: {arguments.held_out} held-out games\n")
    print("| seed: games | wins | 95% | gain | 95%, paired |\n|---|---|---|---|---|")
    show("start", before, before)
    show(
        "ceiling: always sensible",
        await held_out(targets, dict.fromkeys(start.situations, 1.0), arguments.held_out),
        before,
    )
    ends: list[dict[Situation, float]] = []
    needed: dict[int, tuple[int | None, int | None]] = {}
    for seed in arguments.seeds:
        learner = Learner(targets, rule, seed)
        gains: dict[int, float] = {}
        for mark in marks:
            while learner.num_games < mark:
                await learner.step()
            scores = await held_out(targets, learner.chances(), arguments.held_out)
            gains[mark] = show(f"{seed}: {mark}", scores, before)
        reached = [mark for mark in marks if gains[mark] >= GAIN]
        kept = [mark for mark in marks if all(gains[later] >= GAIN for later in marks if later >= mark)]
        needed[seed] = (min(reached, default=None), min(kept, default=None))
        ends.append(learner.chances())
    print(f"\nGames to a gain of {GAIN}, by seed (first time, and from then on): {needed}\n")
    print(f"| situation | sensible at the end, from {START} |\n|---|---|")
    for situation in start.situations:
        print(f"| {', '.join(situation)} | {' '.join(f'{end[situation]:.2f}' for end in ends)} |")


async def run(arguments: argparse.Namespace) -> None:
    """Good side, then werewolves."""
    for targets in (["seer", "witch"], ["werewolf"]):
        await measure(targets, await search(targets, arguments.search), arguments)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--games", type=int, default=2560)
    parser.add_argument("--search", type=int, default=1024)
    parser.add_argument("--held-out", type=int, default=300)
    started = time.perf_counter()
    asyncio.run(run(parser.parse_args()))
    print(f"\n{time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()
