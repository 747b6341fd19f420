"""An evaluation's request -> a `PairedEvaluation` of the run that it names."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ajet.assemble.engines import make_engine
from ajet.assemble.players import make_renderer, make_scheduler
from ajet.assemble.policies import load_model
from ajet.assemble.preflight import find_model
from ajet.assemble.tasks import make_task_source
from ajet.config.root import EvaluateConfig
from ajet.evaluate.paired import PairedEvaluation
from ajet.evaluate.setting import played_config
from ajet.rollout.runner import GRACE_S
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.console import make_display
from ajet.train.checkpoint import CheckpointFolder
from ajet.train.lora import merged_state
from ajet.workflows.loading import load_workflow
from ajet.workflows.parameters import workflow_maker


def build_evaluation(request: EvaluateConfig) -> PairedEvaluation:
    """Everything that comparing a run's checkpoint with its starting model needs."""
    run_dir = Path(request.run)
    config = played_config(request)
    workflow = load_workflow(config.workflow.entry)
    make_workflow = workflow_maker(workflow, config)
    model_path = find_model(config)
    renderer = make_renderer(model_path)
    display = make_display(request.console)
    checkpoint = _checkpoint_model(run_dir, request.checkpoint, model_path)
    tasks = make_task_source(config).held_out_tasks(
        request.num_tasks or config.eval.num_tasks, offset=request.seed_offset or config.eval.seed_offset
    )
    display.say("loading the model and the engine")
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)
        return PairedEvaluation(
            name=checkpoint.parent.name if checkpoint != Path(model_path) else "start",
            tasks=tasks,
            repeats=request.repeats or config.eval.repeats,
            confidence=request.confidence or config.eval.confidence,
            take_checkpoint=lambda: engine.update_weights(merged_state(load_model(config, str(checkpoint))).items(), 1),
            runtime=RolloutRuntime(patience_s=config.rollout.timeout_s + GRACE_S),
            scheduler=make_scheduler(
                config, workflow, make_workflow, model_path, engine, opened, renderer=renderer, display=display
            ),
            display=display,
            output_dir=Path(request.output_dir),
            close=opened.pop_all().close,
        )


def _checkpoint_model(run_dir: Path, checkpoint: str | None, model_path: str) -> Path:
    if checkpoint == "start":
        return Path(model_path)
    folder = CheckpointFolder(run_dir, keep=1)
    return (folder.newest() if checkpoint is None else folder.at(int(checkpoint))) / "model"
