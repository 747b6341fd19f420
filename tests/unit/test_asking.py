"""A conversation that outgrows the context: whose fault it is."""

from __future__ import annotations

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Run

from ajet.records import Episode, Task
from ajet.workflow import Workflow
from ajet.workflows.countdown.workflow import Countdown
from ajet.workflows.frozenlake.workflow import FrozenLake
from ajet.workflows.guess_number.workflow import GuessNumber
from ajet.workflows.math.workflow import Math

ALONE = [FrozenLake(), GuessNumber(num_guesses=50), Countdown(max_turns=20), Math(max_turns=20)]
"""Workflows with one agent, whose prompts are 150 to 450 bytes long."""


def played(workflow: Workflow, max_context: int) -> Episode:
    """An episode whose agent says up to twelve bytes of nonsense a turn; a token is a byte."""
    run = Run(train_tokenizer([], vocab_size=300, max_context=max_context), max_context=max_context)
    task = Task(task_id="t", main_query="What is 2 + 2?", metadata={"random_number": 1})
    (episode,) = run.play(lambda: workflow, task=task)
    return episode


@pytest.mark.parametrize("workflow", ALONE, ids=lambda workflow: type(workflow).__name__)
def test_who_talks_until_the_context_is_full_has_lost(workflow: Workflow) -> None:
    episode = played(workflow, max_context=600)
    assert episode.status == "policy_error" and set(episode.rewards.values()) == {0.0}
    assert episode.is_success is False and episode.num_context_overflows == 1
    assert len(episode.calls) >= 1 and "conversation is too long" in str(episode.error)


@pytest.mark.parametrize("workflow", ALONE, ids=lambda workflow: type(workflow).__name__)
def test_a_task_that_does_not_fit_is_nobodys_loss(workflow: Workflow) -> None:
    episode = played(workflow, max_context=64)
    assert episode.status == "infra_error" and not episode.calls and episode.rewards == {}
