"""One game of guessing a number, with one agent, the `guesser`.

In: a task's `random_number`, which alone picks the secret: episodes of a group differ only in what the policy samples.
Out: 1 if the number was found in time, else 0. Any whole number may be guessed; one that was ruled out before, or a
reply that is no number, costs its turn and tells nothing; replies so long that the game no longer fits into the context
are the policy's own fault. All 63 secrets come in training, too, but every game begins the same: there is nothing about
a secret to remember.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from ajet.chat.types import ChatModel
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.asking import ask_single_agent, text_of
from ajet.workflows.guess_number.game import ScriptedGuesser, State, num_bisections, parse_guess, rules


class GuessNumber(Workflow):
    """Find a number in few guesses, told "higher" or "lower" after each."""

    target_tags: ClassVar[tuple[str, ...]] = ("guesser",)
    has_own_models: ClassVar[bool] = False
    num_numbers: int = Field(default=63, ge=2, le=999)
    """The secret is one of 1 to this. Bisection has no guess to spare where it is a power of two less one."""
    num_guesses: int | None = Field(default=None, ge=1, le=50)
    """Guesses in a game; None: as many as bisection needs."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Play one game: the task's number picks the secret."""
        secret = random.Random(workflow_task.task.metadata["random_number"]).randint(1, self.num_numbers)
        num_guesses = self.num_guesses or num_bisections(self.num_numbers)
        model = tuner.as_agentscope_model(agent_name="guesser", target_tag="guesser")
        state = State(low=1, high=self.num_numbers, guesses_left=num_guesses)
        messages = [{"role": "system", "content": rules(self.num_numbers, num_guesses)}]
        guesses: list[int | None] = []
        num_ruled_out = 0
        while state.guesses_left and secret not in guesses:
            messages.append({"role": "user", "content": state.as_text()})
            reply = text_of(await ask_single_agent(model, messages))
            messages.append({"role": "assistant", "content": reply})
            guess = parse_guess(reply)
            guesses.append(guess)
            num_ruled_out += guess is not None and not state.low <= guess <= state.high
            state = state.after(guess, secret)
        found = secret in guesses
        return WorkflowOutput(
            reward=float(found),
            is_success=found,
            metadata={"secret": secret, "guesses": guesses},
            log_metrics={
                "guesses": float(len(guesses)),
                "illegal_replies": float(guesses.count(None)),
                "ruled_out_guesses": float(num_ruled_out),
            },
        )

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """Bisects; `sense` (default 1) is how often, otherwise it guesses any number that is left."""
        return ScriptedGuesser.of(rng, params)
