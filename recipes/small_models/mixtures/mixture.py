"""What a small model learns from: which workflows, at which tables, with which teachers, how many games of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recipes.small_models.fitting import FitSettings
from recipes.small_models.slips import Slips
from recipes.small_models.transcripts import ParamsMaker, TaskMaker, seed_task

from ajet.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Games of one workflow."""

    make_workflow: Callable[[random.Random], Workflow]
    """A table; its generator is the game's, so that tables of different sizes are mixed."""
    make_params: ParamsMaker
    """The teachers' parameters."""
    slips: Slips
    """Which replies go wrong on purpose."""
    num_games: int
    make_task: TaskMaker = seed_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A small model's parts and the length of its fit."""

    parts: Mapping[str, Part]
    """By name; a part's random stream is named after it."""
    tokenizer_parts: tuple[str, ...]
    """The parts of whose texts the tokenizer is made."""
    num_tokenizer_games: int
    """Games of each of them."""
    vocab_size: int
    """Most entries of the tokenizer before the phrases are added."""
    phrases: tuple[str, ...]
    """What is always written whole, one token each."""
    sense: float
    """The teachers' sense, as the recipe notes it and the gates compare with."""
    num_copying_rows: int
    """Short documents that teach copying before any game."""
    copying_share: float
    """Share of the fit that is these documents alone; the rest is games."""
    fit: FitSettings
