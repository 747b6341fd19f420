"""An evaluation's request -> a `MatrixEvaluation` of the runs that it names."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ajet.assemble.components import make_engine, make_task_source
from ajet.assemble.players import EpisodeParts, make_episode_parts, make_renderer, make_scheduler
from ajet.assemble.policies import load_model, use_trained
from ajet.assemble.preflight import find_model
from ajet.config.root import BASE, EvaluateConfig
from ajet.evaluate.entries import Entry, evaluation_entries
from ajet.evaluate.matrix import MatrixEvaluation
from ajet.rollout.runner import GRACE_S
from ajet.rollout.runtime import RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
from ajet.tracking.console import make_display
from ajet.train.checkpoint import CheckpointFolder
from ajet.train.lora import merged_state
from ajet.workflows.loading import load_workflow

START = "start"
"""Names the starting model among checkpoints."""


def build_evaluation(request: EvaluateConfig) -> MatrixEvaluation:
    """Everything that playing the entries needs; one engine serves all policies, one after the other.

    Raises:
        RunDirectoryError: a run has no sound checkpoint.
    """
    entries = evaluation_entries(request)
    config = entries[0].config
    workflow = load_workflow(config.workflow.entry)
    model_path = find_model(config.model, config.engine, config.hardware)
    renderer = make_renderer(model_path)
    display = make_display(request.console)
    checkpoints = {entry.run: _checkpoint(entry.run, request.checkpoint) for entry in entries}
    tasks = make_task_source(config).held_out_tasks(
        request.num_tasks or config.eval.num_tasks, offset=request.seed_offset or config.eval.seed_offset
    )
    parts: dict[tuple[str, str], EpisodeParts] = {}
    for entry in entries:
        if entry.played not in parts:
            parts[entry.played] = make_episode_parts(entry.config, workflow, renderer)
    display.say("loading the model and the engine")
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)

        def take_weights(entry: Entry) -> None:
            checkpoint = checkpoints[entry.run]
            if config.engine.trains:
                use_trained(engine, checkpoint)
                return
            path = model_path if checkpoint is None else str(checkpoint / "model")
            engine.update_weights(merged_state(load_model(entry.config.model, entry.config.hardware, path)), 0)

        def open_scheduler(entry: Entry, opened: ExitStack) -> RolloutScheduler:
            return make_scheduler(entry.config, parts[entry.played], model_path, engine, opened, display=display)

        return MatrixEvaluation(
            entries=entries,
            checkpoints=[START if (path := checkpoints[entry.run]) is None else path.name for entry in entries],
            take_weights=take_weights,
            open_scheduler=open_scheduler,
            tasks=tasks,
            repeats=request.repeats or config.eval.repeats,
            confidence=request.confidence or config.eval.confidence,
            runtime=RolloutRuntime(patience_s=config.rollout.timeout_s + GRACE_S),
            display=display,
            output_dir=Path(request.output_dir),
            close=opened.pop_all().close,
        )


def _checkpoint(run: str, asked: str | None) -> Path | None:
    """A checkpoint's folder, checksums verified; None for the starting model."""
    if run == BASE or asked == START:
        return None
    folder = CheckpointFolder(Path(run), keep=1)
    return folder.newest() if asked is None else folder.at(int(asked))
