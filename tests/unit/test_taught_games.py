"""The games that the shipped small models learned from: what is played and told must not change unseen.

A digest that differs means that prompts, replies or draws of scripted play did; then the checkpoint no longer is what
its recipe makes, and has to be made again.
"""

from __future__ import annotations

import hashlib

import pytest
from recipes.small_models.mixtures import MIXTURES
from recipes.small_models.tokenizer import train_tokenizer
from recipes.small_models.transcripts import play_transcripts

from ajet.config.root import Config

NUM_GAMES = 5
DIGESTS = {
    ("tiny", "werewolves"): "6bf08772e963",
    ("tiny", "werewolves-slips"): "1185686021c3",
    ("tiny", "signals"): "3dfafeffe6c2",
    ("tiny_tasks", "math"): "3547651bbe63",
    ("tiny_tasks", "countdown"): "9153b61dead3",
    ("tiny_tasks", "frozenlake"): "306a6ba990df",
    ("tiny_tasks", "guess_number"): "142038f49651",
    ("tiny_tasks", "debate"): "97cad6fd4ec2",
    ("tiny_tasks", "math-slips"): "d0b18b60c50f",
    ("tiny_tasks", "countdown-slips"): "4d552ab598c2",
    ("tiny_tasks", "frozenlake-slips"): "912e09cc37d5",
    ("tiny_tasks", "guess_number-slips"): "04df557b9430",
    ("tiny_tasks", "debate-slips"): "81cdb0ebf9e7",
}


@pytest.mark.parametrize(("mixture", "name"), DIGESTS)
def test_scripted_games_are_those_that_the_models_learned_from(mixture: str, name: str) -> None:
    part = MIXTURES[mixture].parts[name]
    rows = play_transcripts(
        part.make_workflow,
        config=Config(),
        tokenizer=train_tokenizer([], vocab_size=300, max_context=4096),
        make_params=part.make_params,
        make_task=part.make_task,
        games=range(NUM_GAMES),
        stream=f"recipe-{name}",
        slips=part.slips,
    )
    told = repr([(row.token_ids, row.odds) for row in rows])
    assert hashlib.sha256(told.encode()).hexdigest()[:12] == DIGESTS[mixture, name]


def test_every_part_is_held() -> None:
    assert list(DIGESTS) == [(mixture, name) for mixture in MIXTURES for name in MIXTURES[mixture].parts]
