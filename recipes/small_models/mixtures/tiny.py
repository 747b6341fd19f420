"""The mixture of `model=tiny`: werewolves and signals.

Every werewolves decision is sensible or random by a coin, so good and bad ones lie side by side; in some of the games
players slip and go on.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from recipes.small_models.fitting import FitSettings
from recipes.small_models.mixtures.mixture import Mixture, Part
from recipes.small_models.slips import Slips, wrong_call

from ajet.workflow import Workflow
from ajet.workflows.loading import load_workflow
from ajet.workflows.signals.game import DIALECTS

SENSE = 0.35
"""Probability that a teacher's decision is sensible: the model starts as a partly sensible player."""
SLIP = 0.06
"""Probability that a teacher answers wrongly, in the games with slips."""
DIALECT = 0.4
"""How often a signalling teacher keeps to its dialect, beyond chance: what is said depends on what is shown."""
PHRASES = (
    "<history>\n",
    "\n</history>",
    "Successfully generated response.",
    "generate_response(",
    '{"name": "generate_response", "arguments": {"target": "',
    '{"name": "generate_response", "arguments": {"say": "',
    '{"name": "generate_response", "arguments": {"save": ',
    '", "target": "',
    '"}}',
    "Moderator: ",
)
"""What AgentScope and the moderator write around every decision, one token each."""


def werewolves_table(rng: random.Random) -> Workflow:
    """Mostly the nine-player table, sometimes smaller ones."""
    sizes: tuple[dict[str, Any], ...] = (
        {},
        {},
        {},
        {"num_werewolves": 2, "num_villagers": 2, "has_hunter": False},
        {"num_werewolves": 2, "num_villagers": 1},
    )
    return load_workflow("werewolves")(**rng.choice(sizes), trainable_targets=["seer"])


def signals_table(rng: random.Random) -> Workflow:
    """Any number of objects and words."""
    return load_workflow("signals")(num_objects=rng.randint(2, 8), num_words=rng.randint(2, 8))


def werewolves_params(tag: str, rng: random.Random) -> dict[str, float]:
    """Every role decides sensibly with the same probability, and for reasons that its own notes show."""
    return {"sense": SENSE, "insight": 0.0}


def signals_params(tag: str, rng: random.Random) -> dict[str, float]:
    """Each side keeps to a dialect of its own now and then, and the two agree no more often than chance."""
    return {"accuracy": DIALECT, "code": DIALECTS}


WEREWOLVES = Part(
    make_workflow=werewolves_table,
    make_params=werewolves_params,
    slips=Slips(share=0.0, spoil=wrong_call, tools_only=True),
    num_games=1300,
)
TINY = Mixture(
    parts={
        "werewolves": WEREWOLVES,
        "werewolves-slips": replace(WEREWOLVES, slips=replace(WEREWOLVES.slips, share=SLIP), num_games=500),
        "signals": Part(
            make_workflow=signals_table, make_params=signals_params, slips=WEREWOLVES.slips, num_games=2500
        ),
    },
    tokenizer_parts=("werewolves", "signals"),
    num_tokenizer_games=40,
    vocab_size=640,
    phrases=PHRASES,
    sense=SENSE,
    num_copying_rows=20_000,
    copying_share=0.15,
    fit=FitSettings(
        num_steps=2200,
        tokens_per_step=8192,
        learning_rate=3e-3,
        matrix_learning_rate=0.02,
        warmup_steps=50,
        save_every=100,
        seed=0,
    ),
)
