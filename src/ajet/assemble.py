"""Config -> a run that is ready to start. The only place that names concrete classes.

In: a validated config. Out: a `Trainer`, or an evaluation. Everything heavy (torch, vLLM, AgentScope) loads from here.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ajet.agents.agentscope import AgentScopeModel
from ajet.agents.speakers import SamplingSettings
from ajet.algorithms.aggregation import BatchTotals
from ajet.algorithms.losses import LossSettings
from ajet.chat.renderer import ChatRenderer
from ajet.chat.types import ChatModel
from ajet.config.compose import load as load_config
from ajet.config.logger import WandbConfig
from ajet.config.model import resolve_model_path
from ajet.config.root import Config, EvaluateConfig
from ajet.config.validate import validate
from ajet.data.seeds import SeedTasks
from ajet.engine.base import Engine
from ajet.errors import ConfigError
from ajet.evaluation.paired import PairedEvaluation
from ajet.opponents.random import RandomPlayer
from ajet.randomness import derive_seed
from ajet.rollout.cast import PlayerMaker, Voices
from ajet.rollout.runner import EpisodeRunner
from ajet.rollout.runtime import RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
from ajet.tracking.console import Display, make_display
from ajet.tracking.loggers import CompositeLogger, JsonlLogger, MetricLogger, WandbLogger
from ajet.tracking.provenance import write_provenance
from ajet.tracking.store import TrajectoryStore
from ajet.training.batch import BatchSettings
from ajet.training.checkpoint import CheckpointFolder, load_trainer_state
from ajet.training.loop import Trainer
from ajet.training.lora import merged_state, with_lora
from ajet.training.policy import OptimizerSettings, TrainablePolicy
from ajet.workflow import Workflow
from ajet.workflows.loading import load_workflow

# Loading and saving take a moment each; bars for them would tear up the run's own display.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
os.environ.setdefault("WANDB_SILENT", "true")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_trainer(config: Config) -> Trainer:
    """Everything a training run needs, the state of the resumed run included."""
    workflow = load_workflow(config.workflow.entry)
    make_workflow = workflow_maker(workflow, config)
    model_path = resolve_model_path(config.model.path)
    display = make_display(config.logger.console)
    display.say("loading the model and the engine")
    accelerator = make_accelerator(config)
    run_dir = Path(config.run_dir)
    write_provenance(run_dir)
    checkpoints = CheckpointFolder(run_dir, keep=config.checkpoint.keep)
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)
        scheduler = make_scheduler(config, workflow, make_workflow, model_path, engine, display, opened)
        policy = make_policy(config, model_path, accelerator)
        trainer = Trainer(
            config=config,
            tasks=SeedTasks(run_seed=config.seed, num_distinct=config.workflow.num_train_tasks),
            runtime=RolloutRuntime(),
            scheduler=scheduler,
            engine=engine,
            policy=policy,
            batch_settings=batch_settings(config, accelerator),
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


def build_evaluation(request: EvaluateConfig) -> PairedEvaluation:
    """Everything that comparing a run's checkpoint with its starting model needs."""
    run_dir = Path(request.run)
    config = load_config(run_dir)
    if request.opponent is not None:
        config.opponent = request.opponent
    config.logger.console = request.console
    config.logger.wandb = WandbConfig(mode="disabled")
    validate(config)
    workflow = load_workflow(config.workflow.entry)
    make_workflow = workflow_maker(workflow, config)
    model_path = resolve_model_path(config.model.path)
    checkpoint = _checkpoint_model(run_dir, request.checkpoint, model_path)
    display = make_display(request.console)
    display.say("loading the model and the engine")
    tasks = SeedTasks(run_seed=config.seed).held_out_tasks(
        request.num_tasks or config.eval.num_tasks, offset=request.seed_offset or config.eval.seed_offset
    )
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)
        return PairedEvaluation(
            name=checkpoint.parent.name if checkpoint != Path(model_path) else "start",
            tasks=tasks,
            repeats=config.eval.repeats,
            confidence=request.confidence or config.eval.confidence,
            take_checkpoint=lambda: engine.update_weights(
                merged_state(_load_model(config, str(checkpoint))).items(), 1
            ),
            runtime=RolloutRuntime(),
            scheduler=make_scheduler(config, workflow, make_workflow, model_path, engine, display, opened),
            display=display,
            output_dir=Path(request.output_dir),
            close=opened.pop_all().close,
        )


def _checkpoint_model(run_dir: Path, checkpoint: str | None, model_path: str) -> Path:
    if checkpoint == "start":
        return Path(model_path)
    folder = CheckpointFolder(run_dir, keep=1)
    return (folder.newest() if checkpoint is None else folder.at(int(checkpoint))) / "model"


def workflow_maker(workflow: type[Workflow], config: Config) -> Callable[[], Workflow]:
    """Fresh workflow objects with the config's parameters; its targets win over the class's.

    Raises:
        ConfigError: a parameter the workflow does not have or take, or an unknown tag.
    """
    params = dict(config.workflow.params)
    unknown = sorted(set(params) - set(workflow.model_fields))
    if unknown:
        known = ", ".join(sorted(set(workflow.model_fields) - {"trainable_targets"}))
        raise ConfigError(
            f"workflow.params.{unknown[0]} is not a field of {workflow.__name__}; it has {known or 'none'}"
        )
    if config.trainable_targets is not None:
        params["trainable_targets"] = list(config.trainable_targets)
    try:
        made = workflow(**params)
    except ValueError as error:
        raise ConfigError(f"workflow.params: {' '.join(str(error).split())}") from error
    known_tags = workflow.target_tags
    for tag in made.trainable_targets or ():
        if known_tags and tag not in known_tags:
            raise ConfigError(
                f"trainable_targets: {workflow.__name__} has no tag {tag!r}; it has {', '.join(known_tags)}"
            )
    return lambda: workflow(**params)


def make_accelerator(config: Config) -> Accelerator:
    """Accelerate on the configured device."""
    return Accelerator(cpu=config.hardware.device == "cpu", mixed_precision=config.hardware.mixed_precision)


def make_engine(config: Config, model_path: str) -> Engine:
    """The configured engine with the model's weights; loads it."""
    engine, hardware = config.engine, config.hardware
    if engine.name == "scripted":
        from ajet.engine.scripted import ScriptedEngine

        return ScriptedEngine(
            len(AutoTokenizer.from_pretrained(model_path)), max_context=config.model.max_context, seed=0
        )
    assert engine.max_concurrency is not None
    if engine.name == "transformers":
        from ajet.engine.transformers import TransformersEngine

        return TransformersEngine(
            model_path,
            max_context=config.model.max_context,
            max_concurrency=engine.max_concurrency,
            dtype=config.model.dtype,
            device=hardware.device,
            num_threads=hardware.sampling_threads,
        )
    from ajet.engine.vllm import VllmEngine

    return VllmEngine(
        model_path,
        max_context=config.model.max_context,
        max_concurrency=engine.max_concurrency,
        dtype=config.model.dtype,
        kv_cache_gib=engine.kv_cache_gib,
        block_size=engine.block_size,
        num_threads=hardware.sampling_threads,
        enforce_eager=engine.enforce_eager is not False,
        gpu_memory_utilization=engine.gpu_memory_utilization or 0.5,
        tensor_parallel_size=engine.tensor_parallel_size or 1,
    )


def make_scheduler(
    config: Config,
    workflow: type[Workflow],
    make_workflow: Callable[[], Workflow],
    model_path: str,
    engine: Engine,
    display: Display,
    opened: ExitStack,
) -> RolloutScheduler:
    """The players and the order of play; a frozen opponent's engine is added to `opened`."""
    frozen = None
    if config.opponent.name == "frozen":
        frozen = make_engine(config, model_path)
        opened.callback(frozen.close)
    voices = Voices(
        policy_engine=engine,
        frozen_engine=frozen,
        make_player=player_maker(config, workflow),
        renderer=ChatRenderer(AutoTokenizer.from_pretrained(model_path)),
        sampling=SamplingSettings(temperature=config.rollout.temperature, max_tokens=config.rollout.max_tokens),
    )
    runner = EpisodeRunner(
        config=config,
        make_workflow=make_workflow,
        voices=voices,
        agentscope_adapter=lambda model, name: AgentScopeModel(model, name=name),
        timeout_s=config.rollout.timeout_s,
        policy_error_reward=config.rollout.policy_error_reward,
    )
    return RolloutScheduler(
        runner=runner,
        concurrency=config.rollout.concurrency,
        max_retries=config.rollout.max_retries,
        on_episode=lambda episode: display.advance(),
    )


def player_maker(config: Config, workflow: type[Workflow]) -> PlayerMaker | None:
    """Makes the configured opponent for an agent; None where an engine or the workflow itself speaks."""
    opponent = config.opponent
    if opponent.name == "random":
        return lambda name, tag, rng: RandomPlayer(rng)
    if opponent.name == "openai":
        return _openai_player(config)
    if opponent.name != "scripted":
        return None

    def scripted(name: str, tag: str, rng: random.Random) -> ChatModel:
        player = workflow.scripted_player(agent_name=name, target_tag=tag, rng=rng, params=opponent.params)
        if player is None:
            raise ConfigError(
                f"{workflow.__name__} has no scripted players: choose opponent=random, frozen, openai or workflow"
            )
        return player

    return scripted


def _openai_player(config: Config) -> PlayerMaker:
    from openai import AsyncOpenAI

    from ajet.opponents.openai import OpenAIPlayer

    opponent = config.opponent
    key = os.environ.get(opponent.api_key_env) if opponent.api_key_env else "none"
    if key is None:
        raise ConfigError(f"opponent.api_key_env={opponent.api_key_env} is not set in the environment")
    assert opponent.model is not None
    client = AsyncOpenAI(base_url=opponent.base_url, api_key=key, timeout=opponent.timeout_s)
    player = OpenAIPlayer(
        client, model=opponent.model, temperature=opponent.temperature, max_tokens=opponent.max_tokens
    )
    return lambda name, tag, rng: player


def make_policy(config: Config, model_path: str, accelerator: Accelerator) -> TrainablePolicy:
    """The model to train, its adapters, reference and optimizer."""
    algorithm = config.algorithm
    lora = config.model.lora
    # Updates are small against the weights and round away in bfloat16: what is trained is float32. With adapters only
    # these are (peft sees to it), and the frozen rest stays small.
    model = _load_model(config, model_path, torch.float32 if not lora.rank else None)
    if lora.rank:
        assert lora.alpha is not None and lora.targets is not None
        with torch.random.fork_rng():  # peft draws the adapters from torch's global generator
            torch.manual_seed(config.seed)
            model = with_lora(model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets)
    num_optimizer_steps = config.total_steps * algorithm.num_minibatches
    return TrainablePolicy(
        model,
        tokenizer=AutoTokenizer.from_pretrained(model_path),
        accelerator=accelerator,
        temperature=config.rollout.temperature,
        loss=LossSettings(
            clip_low=algorithm.clip_low,
            clip_high=algorithm.clip_high,
            kl_coef=algorithm.kl_coef,
            entropy_coef=algorithm.entropy_coef,
            tis_cap=algorithm.tis_cap,
            mis_low=algorithm.mis_low,
            mis_high=algorithm.mis_high,
        ),
        optimizer=OptimizerSettings(
            learning_rate=algorithm.learning_rate,
            weight_decay=algorithm.weight_decay,
            warmup_steps=algorithm.warmup_steps * algorithm.num_minibatches,
            decay_steps=num_optimizer_steps if algorithm.lr_schedule == "linear" else None,
            max_grad_norm=algorithm.max_grad_norm,
        ),
        reference=_load_model(config, model_path) if algorithm.kl_coef else None,
        num_threads=config.hardware.training_threads,
    )


def _load_model(config: Config, model_path: str, dtype: torch.dtype | None = None) -> Any:
    """The checkpoint in `dtype`, or in the configured one.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    try:
        return AutoModelForCausalLM.from_pretrained(
            model_path, dtype=dtype or DTYPES[config.model.dtype], attn_implementation="sdpa"
        )
    except OSError as error:
        raise ConfigError(f"model.path={config.model.path} cannot be loaded: {str(error).splitlines()[0]}") from error


def batch_settings(config: Config, accelerator: Accelerator) -> BatchSettings:
    """How batches are made; totals are added up over ranks."""

    def sum_over_ranks(totals: BatchTotals) -> BatchTotals:
        pair = torch.tensor([totals.num_sequences, totals.num_tokens], device=accelerator.device)
        num_sequences, num_tokens = accelerator.reduce(pair, reduction="sum").tolist()
        return BatchTotals(num_sequences=num_sequences, num_tokens=num_tokens)

    algorithm = config.algorithm
    return BatchSettings(
        loss=algorithm.loss,  # type: ignore[arg-type]
        advantage=algorithm.advantage,  # type: ignore[arg-type]
        num_minibatches=algorithm.num_minibatches,
        max_pack_tokens=algorithm.max_pack_tokens,
        dr_grpo_max_length=algorithm.dr_grpo_max_length,
        keep_zero_advantage=algorithm.kl_coef > 0 or algorithm.entropy_coef > 0,
        sum_over_ranks=sum_over_ranks,
    )


def make_logger(config: Config, *, resumed_at: int | None) -> MetricLogger:
    """`metrics.jsonl` always, W&B unless disabled."""
    run_dir = Path(config.run_dir)
    loggers: list[MetricLogger] = [JsonlLogger(run_dir / "metrics.jsonl", keep_below_step=resumed_at)]
    wandb = config.logger.wandb
    if wandb.mode != "disabled":
        mode = wandb.mode
        if mode == "auto":
            mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        name = wandb.name or "-".join(run_dir.parts[-2:])
        loggers.append(
            WandbLogger(
                run_dir=run_dir,
                mode=mode,
                project=wandb.project,
                name=name,
                group=wandb.group,
                run_id=_run_id(run_dir),
                config=asdict(config),
            )
        )
    return CompositeLogger(loggers)


def _run_id(run_dir: Path) -> str:
    """The same for every process that goes on with this run directory."""
    return f"{derive_seed(str(run_dir.resolve())):016x}"
