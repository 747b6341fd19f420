"""Held-out episodes as training would play them: with a checkpoint, or with scripted teachers in the trained seats."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ajet.assemble import make_engine, make_scheduler, workflow_maker
from ajet.assemble.components import make_judge, make_task_source
from ajet.assemble.players import make_episode_parts, make_renderer
from ajet.chat.types import ChatModel
from ajet.config.compose import compose
from ajet.config.model import resolve_model_path
from ajet.config.root import Config
from ajet.config.view import user_view
from ajet.data.randomness import derive_rng
from ajet.evaluate.scores import play_held_out
from ajet.records import EpisodeGroup, Task
from ajet.rollout.judges.base import apply_judge
from ajet.rollout.opponents.scripted import ScriptedPlayersConfig
from ajet.rollout.running_episode import Agent
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.metrics import Metrics
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowTask
from ajet.workflows.loading import load_workflow

SEED_OFFSET = 5_000_000
"""Held-out tasks of their own, apart from those of training and evaluation, where they are seeds."""


def play(overrides: Sequence[str], num_games: int) -> tuple[Metrics, list[EpisodeGroup]]:
    """A checkpoint's held-out episodes, and their metrics."""
    with ExitStack() as opened, RolloutRuntime() as runtime:
        config = _composed(overrides, opened)
        workflow = load_workflow(config.workflow.entry)
        path = resolve_model_path(config.model.path)
        parts = make_episode_parts(config, workflow, make_renderer(path))
        engine = make_engine(config, path)
        opened.callback(engine.close)
        scheduler = make_scheduler(config, parts, path, engine, opened)
        tasks = _held_out_tasks(config, num_games)
        evaluation, groups = runtime.run(play_held_out(scheduler, tasks, repeats=1, collection="eval"))
        return evaluation.metrics, groups


def teachers_success(overrides: Sequence[str], num_games: int, *, sense: float, repeats: int) -> float:
    """How often scripted players of this sense reach their goal in the trained seats, on the same tasks."""
    with ExitStack() as opened, RolloutRuntime() as runtime:
        config = _composed(overrides, opened)
        workflow = load_workflow(config.workflow.entry)
        opponent = config.opponent
        assert isinstance(opponent, ScriptedPlayersConfig)
        make_workflow, judge = workflow_maker(workflow, config), make_judge(config)

        async def succeeds(task: Task, repeat: int) -> bool:
            made = make_workflow()
            players = ScriptedPlayers(
                workflow=workflow,
                params={"sense": sense},
                opponent_params=opponent.params,
                key=("gates", task.task_id, repeat),
            )
            tuner = AjetTuner(
                config=user_view(config),
                trainable_targets=made.trainable_targets,
                reply_source=players.player,
            )
            played = WorkflowTask(task=task, repeat=repeat)
            output = await made.execute(played, tuner)
            return bool((output if judge is None else await apply_judge(judge, played, output)).is_success)

        tasks = _held_out_tasks(config, num_games)
        wins = [runtime.run(succeeds(task, repeat)) for task in tasks for repeat in range(repeats)]
        return sum(wins) / len(wins)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedPlayers:
    """Teachers in the trained seats, the scripted opponent in the others."""

    workflow: type[Workflow]
    params: Mapping[str, float]
    opponent_params: Mapping[str, float]
    key: tuple[str | int, ...]

    def player(self, agent: Agent) -> ChatModel:
        """A teacher, or the opponent."""
        player = self.workflow.scripted_player(
            agent_name=agent.name,
            target_tag=agent.target_tag,
            rng=derive_rng(*self.key, agent.name),
            params=self.params if agent.trained else self.opponent_params,
        )
        assert player is not None, f"{self.workflow.__name__} has no scripted players"
        return player


def _composed(overrides: Sequence[str], opened: ExitStack) -> Config:
    folder = opened.enter_context(tempfile.TemporaryDirectory())
    return compose([*overrides, "logger.console=none"], run_dir=folder)


def _held_out_tasks(config: Config, num_games: int) -> list[Task]:
    offset = SEED_OFFSET if config.data.reader == "seeds" else 0
    return make_task_source(config).held_out_tasks(num_games, offset=offset)
