"""One walk over a frozen lake, with one agent, the `walker`.

In: a task's `random_number`, which alone draws the lake and seeds gymnasium's slipping: episodes of a group cross the
same lake and differ only in what the policy samples (the same steps slip alike, whatever `repeat`).
Out: 1 for the goal, 0 for a hole or for too many turns. A reply that is not a move costs its turn; replies so long that
the walk no longer fits into the context are the policy's own fault.
Small lakes recur: seeds of training and evaluation never meet, but of 300 held-out lakes 62% were drawn in 800 training
tasks, too, by default; 11% with size=5, none with size=6.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ajet.chat.types import ChatModel
from ajet.errors import require_extra
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.asking import ask_single_agent, text_of
from ajet.workflows.frozenlake.game import MOVES, Lake, ScriptedWalker, map_text, parse_move, rules, view_text

if TYPE_CHECKING:
    import gymnasium

# Before anything loads rather than in the first episode.
require_extra("gym", needed_by="workflow=frozenlake")


class FrozenLake(Workflow):
    """Walk from the upper left to the lower right corner; holes end the walk."""

    target_tags: ClassVar[tuple[str, ...]] = ("walker",)
    has_own_models: ClassVar[bool] = False
    size: int = Field(default=4, ge=3, le=8)
    """Rows and columns."""
    slippery: bool = False
    """Whether two steps of three go to a side of where they should."""
    hole_share: float = Field(default=0.2, ge=0, le=0.6)
    """Probability that a cell is a hole; lakes without a safe path are drawn again."""
    max_turns: int | None = Field(default=None, ge=1, le=200)
    """Turns in a walk; None: 3 a row, and 10 a row where it is slippery. A turn is about 40 tokens of the small model:
    the longest of these walks, size=8 on slippery ice, is 3,300 long and fits into its context of 4,096."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Walk until the goal, a hole or the last turn: 1 for the goal, else 0."""
        max_turns = self.max_turns or (10 if self.slippery else 3) * self.size
        number = workflow_task.task.metadata["random_number"]
        lake, env = self._lake(number)
        model = tuner.as_agentscope_model(agent_name="walker", target_tag="walker")
        messages = [{"role": "system", "content": rules(slippery=self.slippery, max_turns=max_turns)}]
        said = f"{map_text(lake)}\n"
        moves: list[str | None] = []
        reward, ended = 0.0, False
        with env:
            state, _ = env.reset(seed=number)
            while len(moves) < max_turns and not ended:
                messages.append({"role": "user", "content": said + view_text(lake, divmod(int(state), self.size))})
                reply = text_of(await ask_single_agent(model, messages))
                messages.append({"role": "assistant", "content": reply})
                move = parse_move(reply)
                moves.append(move)
                said = "That is not a move. " if move is None else ""
                if move is not None:
                    state, earned, ended, _, _ = env.step(list(MOVES).index(move))
                    reward = float(earned)
        return WorkflowOutput(
            reward=reward,
            is_success=reward == 1,
            metadata={"lake": list(lake), "moves": moves},
            log_metrics={"fell": float(ended and reward == 0), "illegal_moves": float(moves.count(None))},
        )

    def _lake(self, number: int) -> tuple[Lake, gymnasium.Env[Any, Any]]:
        # Only who plays needs gymnasium: this class is also what checks parameters.
        import gymnasium
        from gymnasium.envs.toy_text.frozen_lake import generate_random_map

        lake = generate_random_map(self.size, 1 - self.hole_share, number)
        env = gymnasium.make("FrozenLake-v1", desc=lake, is_slippery=self.slippery, disable_env_checker=True)
        return tuple(lake), env

    @classmethod
    def scripted_player(
        cls, *, agent_name: str, target_tag: str, rng: random.Random, params: Mapping[str, float]
    ) -> ChatModel:
        """Takes the best move; `sense` (default 1) is how often, otherwise it takes any of the four."""
        return ScriptedWalker.of(rng, params)
