"""A validated config -> a `Trainer`, the state of a resumed run included."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from transformers import AutoTokenizer

from ajet.assemble.components import make_engine, make_logger, make_own_logger, make_task_source
from ajet.assemble.players import make_episode_parts, make_renderer, make_scheduler
from ajet.assemble.policies import make_learner
from ajet.assemble.preflight import check_training, find_model
from ajet.assemble.threads import threads_warning
from ajet.chat.renderer import ChatRenderer
from ajet.config.adapters import engine_adapters, engine_keeps_start, why_merged
from ajet.config.root import Config
from ajet.data.source import TaskSource
from ajet.engine.base import Engine
from ajet.engine.grammars import token_grammars
from ajet.plan.planning import planned
from ajet.rollout.runner import GRACE_S
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.console import Display, make_display
from ajet.tracking.files.checkpoints import TOKENIZER, damage, seal, step_of
from ajet.tracking.files.provenance import write_provenance
from ajet.tracking.files.writing import write_json, writing
from ajet.tracking.loggers import CompositeLogger, MetricLogger
from ajet.tracking.store import TrajectoryStore
from ajet.train.algorithms.rule import LearningRule
from ajet.train.algorithms.trying import tried_rule
from ajet.train.checkpoint import CheckpointFolder
from ajet.train.learner import Learner
from ajet.train.loop import Trainer
from ajet.train.masks import ReplyMasks
from ajet.train.model_card import model_card
from ajet.train.play import Play, step_candidates
from ajet.train.ranks import ALONE, Ranks
from ajet.train.state import RunState
from ajet.workflows.loading import load_workflow


def build_trainer(config: Config, ranks: Ranks = ALONE) -> Trainer:
    """Everything a training run needs, the state of the resumed run included.

    Args:
        config: the same on every rank.
        ranks: this process among those that run together.

    In this order: what can be refused within a second, code of the user's included; the engine and who plays on it; the
    policy, and the state that it starts from; the loggers that ship with ajet.
    """
    workflow = load_workflow(config.workflow.entry)
    rule = tried_rule(config.algorithm, config.credit, max_tokens=config.rollout.max_tokens)
    model_path = find_model(config.model, config.engine, config.hardware)
    check_training(config.algorithm, config.model.lora, model_path)
    sizing, warning = (None, None) if config.engine.trains else planned(config, model_path)
    parts = make_episode_parts(config, workflow, make_renderer(model_path))
    tasks = _tried_tasks(config)
    display = make_display(config.logger.console if ranks.is_first else "none")
    if warning is not None:
        display.say(warning)
    checkpoints, checkpoint = _open_run_dir(config, model_path, display, ranks)
    if ranks.is_first and sizing is not None:
        write_json(Path(config.run_dir) / "plan.json", sizing.to_json())
    with ExitStack() as opened:
        own_logger = _own_logger(config, checkpoint, opened) if ranks.is_first else None
        display.say("loading the model and the engine")
        computes_here = not config.engine.trains
        if ranks.is_first and computes_here and (slow := threads_warning(config.hardware)) is not None:
            display.say(slow)
        adapters = engine_adapters(config)
        if (reason := why_merged(config)) is not None:
            display.say(f"adapters are merged into the engine's weights: {reason}")
        engine = make_engine(config, model_path, adapters)
        opened.callback(engine.close)
        frozen = engine if engine_keeps_start(config) else None
        scheduler = make_scheduler(config, parts, model_path, engine, opened, display=display, frozen_engine=frozen)
        learner = _checked_learner(config, model_path, engine, rule, checkpoints, display)
        state = _start_state(learner, checkpoints, checkpoint, engine, ranks)
        rule.load_state_dict(state.credit)
        logger = CompositeLogger([])
        if ranks.is_first:
            logger = _start_logger(config, state, own_logger, opened, display)
        return Trainer(
            config=config,
            state=state,
            play=Play(
                rollout=config.rollout,
                eval=config.eval,
                total_steps=config.total_steps,
                tasks=tasks,
                runtime=RolloutRuntime(patience_s=config.rollout.timeout_s + GRACE_S),
                scheduler=scheduler,
                ranks=ranks,
                display=display,
                clock=state.clock,
                # What is played ahead is not yet to be scored by the weights that will learn from it.
                teaches=rule.teaches,
                on_group=learner.foresee if config.rollout.max_steps_off_policy == 0 else None,
            ),
            engine=engine,
            let_engine_sleep=config.engine.sleeper(engine),
            learner=learner,
            rule=rule,
            ranks=ranks,
            store=TrajectoryStore(Path(config.run_dir) / "trajectories"),
            logger=logger,
            display=display,
            sizing=sizing,
            reply_masks=_reply_masks(config, model_path, parts.renderer),
            close=opened.pop_all().close,
        )


def _reply_masks(config: Config, model_path: str, renderer: ChatRenderer) -> ReplyMasks | None:
    """What gives the masks that replies were sampled under; None where sampling is free."""
    if config.rollout.grammar == "none":
        return None
    grammars, stop_ids = token_grammars(model_path), renderer.stop_ids
    return lambda grammar, sampled_ids: grammars.masks(grammar, stop_ids, sampled_ids)


def _tried_tasks(config: Config) -> TaskSource:
    """Where tasks come from, asked for its first, so that one that has none is refused before a model loads."""
    tasks = make_task_source(config)
    step_candidates(tasks, 0, config.rollout)
    if config.eval.first or config.eval.last or config.eval.every:
        tasks.held_out_tasks(config.eval.num_tasks, offset=config.eval.seed_offset)
    return tasks


def _open_run_dir(
    config: Config, model_path: str, display: Display, ranks: Ranks
) -> tuple[CheckpointFolder, Path | None]:
    """The run's checkpoints, and the one that is resumed; none of a run that was killed before its first.

    Raises:
        RunDirectoryError: there are checkpoints, and none can be resumed.
    """
    run_dir = Path(config.run_dir)
    folder = CheckpointFolder(run_dir, keep=config.checkpoint.keep, describe=partial(model_card, config))
    if not ranks.is_first:
        return folder, ranks.of_the_first(None)
    return folder, ranks.of_the_first(_prepared(config, run_dir, model_path, folder, display))


def _prepared(
    config: Config, run_dir: Path, model_path: str, folder: CheckpointFolder, display: Display
) -> Path | None:
    """What a run directory holds from the start; returns the checkpoint that is resumed."""
    write_provenance(run_dir)
    _keep_tokenizer(model_path, run_dir / TOKENIZER)
    if config.resume is None:
        return None
    if not folder.are_there():
        display.say("the run has no checkpoint yet: it begins again")
        return None
    return folder.newest()


def _start_state(
    learner: Learner, checkpoints: CheckpointFolder, checkpoint: Path | None, engine: Engine, ranks: Ranks
) -> RunState:
    """The state that the run starts from; the engine has its weights already, unless it is a checkpoint's."""
    state = RunState(learner=learner, checkpoints=checkpoints, is_written=ranks.is_first)
    if checkpoint is not None:
        state.restore(checkpoint)
        # By all, before any plays: they may share servers.
        ranks.agree(lambda: learner.publish(engine, state.num_steps_done))
    return state


def _own_logger(config: Config, checkpoint: Path | None, opened: ExitStack) -> MetricLogger | None:
    """The user's logger, for the run as its checkpoint has it."""
    num_steps_done = 0 if checkpoint is None else step_of(checkpoint)
    logger = make_own_logger(config, resumed_at=num_steps_done if config.resume else None)
    if logger is not None:
        opened.callback(logger.close)
    return logger


def _start_logger(
    config: Config, state: RunState, own: MetricLogger | None, opened: ExitStack, display: Display
) -> CompositeLogger:
    """The run's loggers, after what the disk refused of the resumed run is logged; the user's own behind the others: if
    it raises, they have the step."""
    resumed_at = state.num_steps_done if config.resume else None
    shipped = make_logger(config, resumed_at=resumed_at, tell=display.say)
    opened.callback(shipped.close)
    logger = CompositeLogger([shipped] if own is None else [shipped, own])
    state.log_unlogged(logger)
    return logger


def _keep_tokenizer(model_path: str, folder: Path) -> None:
    """Keep the model's tokenizer with the run, so that tokens have texts before there is a checkpoint."""
    if damage(folder) is None:
        return
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    with writing(folder):
        tokenizer.save_pretrained(folder)
        seal(folder)


def _checked_learner(
    config: Config,
    model_path: str,
    engine: Engine,
    rule: LearningRule,
    checkpoints: CheckpointFolder,
    display: Display,
) -> Learner:
    """What learns. Says how its rows are trained, and refuses as many checkpoints as the disk could not keep."""
    learner = make_learner(config, model_path, engine, rule, display.say)
    for remark in learner.remarks:
        display.say(remark)
    every, steps = config.checkpoint.every, config.total_steps
    num_saves = (steps // every if every else 0) + 1
    checkpoints.check_space(learner.checkpoint_bytes, num_saves)
    return learner
