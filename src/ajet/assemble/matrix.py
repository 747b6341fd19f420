"""A matrix's request -> a `MatrixEvaluation` of the runs that it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ajet.assemble.engines import make_engine
from ajet.assemble.players import make_renderer, make_scheduler
from ajet.assemble.policies import load_model
from ajet.assemble.preflight import find_model
from ajet.assemble.tasks import make_task_source
from ajet.chat.renderer import ChatRenderer
from ajet.config.root import BASE, Config, MatrixConfig
from ajet.engine.base import Engine
from ajet.evaluate.matrix import Contender, MatrixEvaluation, Setting
from ajet.evaluate.setting import Entry, matrix_entries
from ajet.rollout.runner import GRACE_S
from ajet.rollout.runtime import RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
from ajet.tracking.console import Display, make_display
from ajet.train.checkpoint import CheckpointFolder
from ajet.train.lora import merged_state
from ajet.workflows.loading import load_workflow
from ajet.workflows.parameters import workflow_maker


def build_matrix(request: MatrixConfig) -> MatrixEvaluation:
    """Everything that playing the matrix needs; one engine serves all policies, one after the other.

    Raises:
        RunDirectoryError: a run has no sound checkpoint.
    """
    entries = matrix_entries(request)
    config = entries[0].config
    model_path = find_model(config)
    renderer = make_renderer(model_path)
    display = make_display(request.console)
    display.say("loading the model and the engine")
    checkpoints = {entry.run: _checkpoint(entry, model_path) for entry in entries}
    tasks = make_task_source(config).held_out_tasks(
        request.num_tasks or config.eval.num_tasks, offset=request.seed_offset or config.eval.seed_offset
    )
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)
        return MatrixEvaluation(
            settings=_settings(entries, checkpoints, engine, model_path, renderer, display),
            tasks=tasks,
            repeats=request.repeats or config.eval.repeats,
            confidence=request.confidence or config.eval.confidence,
            runtime=RolloutRuntime(patience_s=config.rollout.timeout_s + GRACE_S),
            display=display,
            output_dir=Path(request.output_dir),
            close=opened.pop_all().close,
        )


def _checkpoint(entry: Entry, model_path: str) -> str:
    if entry.run == BASE:
        return model_path
    return str(CheckpointFolder(Path(entry.run), keep=1).newest() / "model")


def _settings(
    entries: Sequence[Entry],
    checkpoints: dict[str, str],
    engine: Engine,
    model_path: str,
    renderer: ChatRenderer,
    display: Display,
) -> list[Setting]:
    """Entries that play the same roles against the same opponent share a scheduler, and with it a frozen opponent."""
    shared: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        shared.setdefault((str(entry.config.trainable_targets), entry.config.opponent.name), []).append(entry)
    return [
        Setting(
            opponent=alike[0].config.opponent.name,
            targets=alike[0].config.trainable_targets,
            contenders=[
                Contender(
                    name=entry.name,
                    take_weights=_weights(entry.config, engine, checkpoints[entry.run]),
                    reference=entry.reference,
                )
                for entry in alike
            ],
            open_scheduler=partial(_open, alike[0].config, engine, model_path, renderer, display),
        )
        for alike in shared.values()
    ]


def _weights(config: Config, engine: Engine, checkpoint: str) -> Callable[[], None]:
    return lambda: engine.update_weights(merged_state(load_model(config, checkpoint)).items(), 0)


def _open(
    config: Config, engine: Engine, model_path: str, renderer: ChatRenderer, display: Display, opened: ExitStack
) -> RolloutScheduler:
    workflow = load_workflow(config.workflow.entry)
    return make_scheduler(
        config,
        workflow,
        workflow_maker(workflow, config),
        model_path,
        engine,
        opened,
        renderer=renderer,
        display=display,
    )
