"""A validated config -> a `Trainer`, the state of a resumed run included."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoTokenizer

from ajet.assemble.engines import make_engine
from ajet.assemble.loggers import make_logger
from ajet.assemble.players import make_renderer, make_scheduler
from ajet.assemble.policies import make_policy
from ajet.assemble.preflight import check_training, find_model
from ajet.assemble.tasks import make_task_source
from ajet.config.root import Config
from ajet.errors import RunDirectoryError
from ajet.rollout.runner import GRACE_S
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.console import Display, make_display
from ajet.tracking.files.checkpoints import TOKENIZER, damage, seal
from ajet.tracking.files.provenance import write_provenance
from ajet.tracking.files.reading import read_metric_lines
from ajet.tracking.files.writing import writing
from ajet.tracking.loggers import CompositeLogger
from ajet.tracking.metrics import Metrics
from ajet.tracking.store import TrajectoryStore
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.weights import BatchTotals
from ajet.train.checkpoint import CheckpointFolder, load_trainer_state
from ajet.train.loop import Trainer
from ajet.train.model_card import model_card
from ajet.train.policy import TrainablePolicy
from ajet.workflows.loading import load_workflow
from ajet.workflows.parameters import workflow_maker


def build_trainer(config: Config) -> Trainer:
    """Everything a training run needs, the state of the resumed run included."""
    workflow = load_workflow(config.workflow.entry)
    make_workflow = workflow_maker(workflow, config)
    rule = learning_rule(config.algorithm)
    model_path = find_model(config)
    check_training(config, model_path)
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
    checkpoints = CheckpointFolder(run_dir, keep=config.checkpoint.keep, describe=partial(model_card, config))
    checkpoint = _newest_of(checkpoints, display) if config.resume is not None else None
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)
        scheduler = make_scheduler(
            config, workflow, make_workflow, model_path, engine, opened, renderer=renderer, display=display
        )
        policy = make_policy(config, model_path, accelerator, rule)
        if policy.why_chains_only:
            display.say(f"rows are trained one by one, without sharing their prefixes: {policy.why_chains_only}")
        _check_space(config, checkpoints, policy)
        _keep_tokenizer(model_path, run_dir / TOKENIZER)
        trainer = Trainer(
            config=config,
            tasks=tasks,
            runtime=RolloutRuntime(patience_s=config.rollout.timeout_s + GRACE_S),
            scheduler=scheduler,
            engine=engine,
            policy=policy,
            rule=rule,
            sum_over_ranks=partial(sum_over_ranks, accelerator),
            checkpoints=checkpoints,
            store=TrajectoryStore(run_dir / "trajectories"),
            logger=CompositeLogger([]),
            display=display,
            close=opened.pop_all().close,
        )
    try:
        state = None if checkpoint is None else _restored(trainer, checkpoint)
        trainer.logger = make_logger(config, resumed_at=trainer.num_steps_done if config.resume else None)
        trainer.log_what_was_not(_not_logged_since(state["unlogged"] if state else [], run_dir))
    except BaseException:
        trainer.close()
        raise
    return trainer


def _newest_of(checkpoints: CheckpointFolder, display: Display) -> Path | None:
    """None of a run that was killed before its first checkpoint: it begins again.

    Raises:
        RunDirectoryError: there are checkpoints, and none can be resumed.
    """
    if not checkpoints.are_there():
        display.say("the run has no checkpoint yet: it begins again")
        return None
    return checkpoints.newest()


def _not_logged_since(unlogged: list[tuple[int, Metrics]], run_dir: Path) -> list[tuple[int, Metrics]]:
    """Without the steps that an earlier resume logged, after which it was killed before it saved its state."""
    there = {line["step"] for line in read_metric_lines(run_dir / "metrics.jsonl")}
    return [(step, metrics) for step, metrics in unlogged if step not in there]


def _restored(trainer: Trainer, checkpoint: Path) -> dict[str, Any]:
    """The state that the trainer now has."""
    state = load_trainer_state(checkpoint)
    try:
        trainer.restore(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        words = str(error).partition("\n")[0]
        raise RunDirectoryError(f"{checkpoint} does not fit the run's config.yaml ({words})") from error
    return state


def _keep_tokenizer(model_path: str, folder: Path) -> None:
    """Keep the model's tokenizer with the run, so that tokens have texts before there is a checkpoint."""
    if damage(folder) is None:
        return
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    with writing(folder):
        tokenizer.save_pretrained(folder)
        seal(folder)


def _check_space(config: Config, checkpoints: CheckpointFolder, policy: TrainablePolicy) -> None:
    """The model as it is saved, what is trained and its two moments, as often as they will lie there."""
    every, steps = config.checkpoint.every, config.total_steps
    num_saves = (steps // every if every else 0) + 1
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in policy.model.parameters())
    trained = (parameter for parameter in policy.model.parameters() if parameter.requires_grad)
    num_bytes += sum(3 * parameter.numel() * parameter.element_size() for parameter in trained)
    checkpoints.check_space(num_bytes, num_saves)


def make_accelerator(config: Config) -> Accelerator:
    """Accelerate on the configured device."""
    return Accelerator(cpu=config.hardware.device == "cpu", mixed_precision=config.hardware.mixed_precision)


def sum_over_ranks(accelerator: Accelerator, totals: BatchTotals) -> BatchTotals:
    """This rank's totals and those of all others, added up."""
    pair = torch.tensor([totals.num_sequences, totals.num_tokens], device=accelerator.device)
    num_sequences, num_tokens = accelerator.reduce(pair, reduction="sum").tolist()
    return BatchTotals(num_sequences=num_sequences, num_tokens=num_tokens)
