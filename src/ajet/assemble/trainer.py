"""A validated config -> a `Trainer`, the state of a resumed run included."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from accelerate import Accelerator

from ajet.algorithms.aggregation import BatchTotals
from ajet.assemble.engines import make_engine
from ajet.assemble.loggers import make_logger
from ajet.assemble.players import make_renderer, make_scheduler
from ajet.assemble.policies import make_policy
from ajet.assemble.tasks import make_task_source
from ajet.config.model import resolve_model_path
from ajet.config.root import Config
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.console import make_display
from ajet.tracking.loggers import CompositeLogger
from ajet.tracking.provenance import write_provenance
from ajet.tracking.store import TrajectoryStore
from ajet.training.batch import BatchSettings
from ajet.training.checkpoint import CheckpointFolder, load_trainer_state
from ajet.training.loop import Trainer
from ajet.workflows.loading import load_workflow
from ajet.workflows.parameters import workflow_maker


def build_trainer(config: Config) -> Trainer:
    """Everything a training run needs, the state of the resumed run included."""
    workflow = load_workflow(config.workflow.entry)
    make_workflow = workflow_maker(workflow, config)
    model_path = resolve_model_path(config.model.path)
    renderer = make_renderer(model_path)
    tasks = make_task_source(config)
    tasks.train_tasks(0, config.rollout.num_tasks)
    if config.eval.first or config.eval.last or config.eval.every:
        tasks.held_out_tasks(config.eval.num_tasks, offset=config.eval.seed_offset)
    display = make_display(config.logger.console)
    display.say("loading the model and the engine")
    accelerator = make_accelerator(config)
    run_dir = Path(config.run_dir)
    write_provenance(run_dir)
    checkpoints = CheckpointFolder(run_dir, keep=config.checkpoint.keep)
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)
        scheduler = make_scheduler(
            config, workflow, make_workflow, model_path, engine, opened, renderer=renderer, display=display
        )
        policy = make_policy(config, model_path, accelerator)
        if policy.why_chains_only:
            display.say(f"rows are trained one by one, without sharing their prefixes: {policy.why_chains_only}")
        trainer = Trainer(
            config=config,
            tasks=tasks,
            runtime=RolloutRuntime(),
            scheduler=scheduler,
            engine=engine,
            policy=policy,
            batch_settings=batch_settings(config, accelerator, branching_packs=policy.why_chains_only is None),
            checkpoints=checkpoints,
            store=TrajectoryStore(run_dir / "trajectories"),
            logger=CompositeLogger([]),
            display=display,
            close=opened.pop_all().close,
        )
    if config.resume is not None:
        trainer.restore(load_trainer_state(checkpoints.newest()))
    trainer.logger = make_logger(config, resumed_at=trainer.num_steps_done if config.resume else None)
    return trainer


def make_accelerator(config: Config) -> Accelerator:
    """Accelerate on the configured device."""
    return Accelerator(cpu=config.hardware.device == "cpu", mixed_precision=config.hardware.mixed_precision)


def batch_settings(config: Config, accelerator: Accelerator, *, branching_packs: bool) -> BatchSettings:
    """How batches are made; totals are added up over ranks."""

    def sum_over_ranks(totals: BatchTotals) -> BatchTotals:
        pair = torch.tensor([totals.num_sequences, totals.num_tokens], device=accelerator.device)
        num_sequences, num_tokens = accelerator.reduce(pair, reduction="sum").tolist()
        return BatchTotals(num_sequences=num_sequences, num_tokens=num_tokens)

    algorithm = config.algorithm
    return BatchSettings(
        loss=algorithm.loss,  # type: ignore[arg-type]
        advantage=algorithm.advantage,  # type: ignore[arg-type]
        baseline_per=algorithm.baseline_per,  # type: ignore[arg-type]
        format_penalty=algorithm.format_penalty,
        num_minibatches=algorithm.num_minibatches,
        max_pack_tokens=algorithm.max_pack_tokens,
        branching_packs=branching_packs,
        dr_grpo_max_length=algorithm.dr_grpo_max_length,
        keep_zero_advantage=algorithm.kl_coef > 0 or algorithm.entropy_coef > 0,
        sum_over_ranks=sum_over_ranks,
    )
