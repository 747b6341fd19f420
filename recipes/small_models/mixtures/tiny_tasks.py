"""The mixture of `model=tiny_tasks`: math, countdown, frozenlake, guess_number and debate.

Most decisions are sensible or random by a coin, so good and bad ones lie side by side; in some of the games replies go
wrong and players go on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from recipes.small_models.fitting import FitSettings
from recipes.small_models.mixtures.mixture import Mixture, Part
from recipes.small_models.slips import Slips, wrong_words

from ajet.records import Task
from ajet.workflow import Workflow
from ajet.workflows.guess_number.game import num_bisections
from ajet.workflows.loading import load_workflow
from ajet.workflows.math.problems import problem

SENSE = 0.35
"""Probability that a teacher's decision is sensible: the model starts as a partly sensible player."""
SLIP = 0.08
"""Probability that a teacher answers wrongly, in the games with slips."""
SLIP_SHARE = 0.2
"""Games with slips, for each one without."""
GOOD_WALKS, GOOD_SENSE = 0.2, 0.9
"""Share of the walks that mostly go right, and how sensible they are: the others seldom come far."""
PHRASES = ("\\boxed{", '{"name": "calculator", "arguments": {"expression": "', '"}}', "calculator(expression: string)")
"""What is written around answers and calls, one token each."""


def math_table(rng: random.Random) -> Workflow:
    """The default."""
    return load_workflow("math")()


def math_task(task_id: str, random_number: int) -> Task:
    """A problem made from the number, as those in the workflow's files are."""
    return problem(random_number)


def countdown_table(rng: random.Random) -> Workflow:
    """Mostly three numbers; more than one try now and then, so that corrections are read."""
    return load_workflow("countdown")(num_numbers=rng.choice((3, 3, 3, 4)), max_turns=rng.choice((1, 1, 2, 3)))


def frozenlake_table(rng: random.Random) -> Workflow:
    """Every size up to six; a quarter of the lakes is slippery, whose walks are long."""
    return load_workflow("frozenlake")(size=rng.choice((3, 4, 4, 4, 5, 6)), slippery=rng.random() < 0.25)


def guess_number_table(rng: random.Random) -> Workflow:
    """Mostly the default range, sometimes up to a hundred; sometimes guesses to spare."""
    num_numbers = rng.choice((63, 63, 31, 100, rng.randint(8, 100)))
    spare = rng.choice((0, 0, 2))
    return load_workflow("guess_number")(num_numbers=num_numbers, num_guesses=num_bisections(num_numbers) + spare)


def debate_table(rng: random.Random) -> Workflow:
    """Mostly the default table; everybody's games are learned from, whoever is trained."""
    hand_size, num_rounds = rng.choice((3, 4, 4, 4, 5)), rng.choice((1, 2, 2, 2, 3))
    return load_workflow("debate")(hand_size=hand_size, num_rounds=num_rounds, trainable_targets=["judge"])


def partly_sensible(tag: str, rng: random.Random) -> Mapping[str, float]:
    """All of a game's decisions are as likely to be sensible."""
    return {"sense": SENSE}


def walkers(tag: str, rng: random.Random) -> Mapping[str, float]:
    """Partly sensible, and now and then good."""
    return {"sense": GOOD_SENSE if rng.random() < GOOD_WALKS else SENSE}


NO_SLIPS = Slips(share=0.0, spoil=wrong_words)
GAMES = {
    "math": Part(
        make_workflow=math_table, make_params=partly_sensible, make_task=math_task, slips=NO_SLIPS, num_games=6000
    ),
    "countdown": Part(make_workflow=countdown_table, make_params=partly_sensible, slips=NO_SLIPS, num_games=5000),
    "frozenlake": Part(make_workflow=frozenlake_table, make_params=walkers, slips=NO_SLIPS, num_games=3500),
    "guess_number": Part(make_workflow=guess_number_table, make_params=partly_sensible, slips=NO_SLIPS, num_games=4000),
    "debate": Part(make_workflow=debate_table, make_params=partly_sensible, slips=NO_SLIPS, num_games=1500),
}
TINY_TASKS = Mixture(
    parts=GAMES
    | {
        f"{name}-slips": replace(
            part, slips=replace(part.slips, share=SLIP), num_games=round(part.num_games * SLIP_SHARE)
        )
        for name, part in GAMES.items()
    },
    tokenizer_parts=tuple(GAMES),
    num_tokenizer_games=200,
    vocab_size=1000,
    phrases=PHRASES,
    sense=SENSE,
    num_copying_rows=0,
    copying_share=0.0,
    fit=FitSettings(
        num_steps=1500,
        tokens_per_step=8192,
        learning_rate=3e-3,
        matrix_learning_rate=0.02,
        warmup_steps=50,
        save_every=100,
        seed=0,
    ),
)
