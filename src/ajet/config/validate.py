"""Settings that contradict each other, and settings that nothing would read: a `Config` in, one error out.

Every message is one sentence that names the setting and what to choose instead. Nothing here imports a
model, a workflow or torch, so that a mistake shows within a second. Rules on single values are in
`fields.py`, rules within one group beside the group; tags of a workflow that does not declare them are checked when it
is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ajet.config.adapters import engine_keeps_start
from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.config.batch_checks import check_batch
from ajet.config.explain import explain_missing
from ajet.config.fields import broken_rules
from ajet.config.hardware import rank_and_size
from ajet.config.model import resolve_model_path
from ajet.config.options import options
from ajet.config.root import BASE, Config, EvaluateConfig
from ajet.config.store import group_options
from ajet.config.unused import opponents_tags
from ajet.config.update_checks import check_reference
from ajet.config.user_code.finding import check_entry
from ajet.config.user_options import is_user_entry
from ajet.engine.tinker import TinkerConfig, TinkerEngineConfig
from ajet.errors import ConfigError, require_extra
from ajet.rollout.judges.llm import LlmJudgeConfig
from ajet.rollout.opponents.openai import OpenAIConfig
from ajet.train.algorithms.credit.critic import check_values
from ajet.workflows import builtin_workflows
from ajet.workflows.targets import check_targets


def validate(config: Config) -> None:
    """Check a training configuration.

    Raises:
        ConfigError: the first thing found that cannot work, and what to change.
    """
    for sentence in broken_rules(config):
        raise ConfigError(sentence)
    checks: tuple[Callable[[Config], None], ...] = (
        _check_workflow,
        _check_targets,
        _check_opponent,
        _check_data,
        check_batch,
        _check_algorithm,
        _check_groups,
        _check_model,
        _check_eval,
    )
    for check in checks:
        check(config)


def validate_evaluation(config: EvaluateConfig) -> None:
    """Check an evaluation's own settings; whether its runs can be compared is checked when they are read.

    Raises:
        ConfigError: the first thing found that cannot work, and what to change.
    """
    for sentence in broken_rules(config):
        raise ConfigError(sentence)
    if config.run is not None and config.runs is not None:
        raise ConfigError(f"run={config.run} and runs are both named: add it to runs, or drop one of them")
    if config.runs is None:
        _check_run("run", config.run)
    runs = [run for run in config.runs or [] if run != BASE]
    if config.runs is not None and not runs:
        raise ConfigError("runs names no run: list run directories, and base for the model that they started from")
    for run in runs:
        _check_run("runs", run)
    for name, values in (("runs", config.runs or []), ("opponent", config.opponents or [])):
        if len(set(values)) < len(values):
            raise ConfigError(f"{name}={_listed(values)} names one twice")
    if config.checkpoint not in (None, "start") and not str(config.checkpoint).isdigit():
        raise ConfigError(f"checkpoint={config.checkpoint} must be a step number, `start` or null (the newest)")
    if config.opponent is not None:
        config.opponent.check()
    for opponent in config.opponents or []:
        if is_user_entry(opponent):
            check_entry(opponent, setting="opponent")
        elif opponent not in group_options("opponent"):
            choices = ", ".join(group_options("opponent"))
            raise ConfigError(f"opponent={opponent}: no such option; choose among {choices}")


def _check_run(key: str, run: str | None) -> None:
    if run is None:
        raise ConfigError(explain_missing(key))
    if not (Path(run) / "config.yaml").is_file():
        raise ConfigError(f"{key}={run} is not a run directory: it holds no config.yaml")


def _check_workflow(config: Config) -> None:
    entry = config.workflow.entry
    if entry in builtin_workflows():
        return
    if entry.endswith(".py-"):
        raise ConfigError(
            f"workflow.entry={entry}: the shell took > for itself and wrote to a file; quote the setting: "
            f"'workflow.entry={entry}>MyWorkflow'"
        )
    check_entry(entry, setting="workflow.entry", choices=builtin_workflows())


def _check_targets(config: Config) -> None:
    workflow = config.workflow
    check_targets(
        config.trainable_targets, tags=workflow.target_tags or [], opposing_sides=workflow.opposing_sides or []
    )


def _check_opponent(config: Config) -> None:
    opponent, workflow = config.opponent, config.workflow
    opponent.check()
    played = opponents_tags(config)
    # Of a program that was not loaded yet: what a plain one has.
    offered = {"scripted": workflow.scripted is True, "has_own_models": workflow.has_own_models is not False}
    lacks = opponent.lacks(**offered)
    if played and lacks is not None:
        choices = [name for name, kind in options("opponent").items() if kind().lacks(**offered) is None]
        raise ConfigError(
            f"opponent={opponent.name}: the workflow has no {lacks} for {', '.join(played)}; "
            f"choose opponent={'|'.join(choices)}"
        )


def _check_data(config: Config) -> None:
    data, judge = config.data, config.judge
    data.check(num_train_tasks=config.workflow.num_train_tasks)
    judge.check(episode_timeout_s=config.rollout.timeout_s)
    if judge.needs_reference and not data.has_answers:
        readers = [name for name, kind in options("data").items() if kind.has_answers]
        raise ConfigError(
            f"judge={judge.name} compares with the task's own answer, which tasks of data={data.reader} do not have: "
            f"choose data={'|'.join(readers)}, or judge=python|llm"
        )


def _check_algorithm(config: Config) -> None:
    algorithm = config.algorithm
    check_algorithm(algorithm)
    sharded = config.hardware.data_parallel == "fsdp" and rank_and_size()[1] > 1
    check_reference(
        algorithm, has_adapters=bool(config.model.lora.rank), is_sharded=sharded, total_steps=config.total_steps
    )
    if algorithm.warmup_steps >= config.total_steps:
        raise ConfigError(
            f"algorithm.warmup_steps={algorithm.warmup_steps} is all of total_steps={config.total_steps}, so that the "
            f"learning rate never reaches its peak: choose at most {config.total_steps - 1}, or more total_steps"
        )
    max_tokens = config.rollout.max_tokens
    if algorithm.overlong_buffer is not None and algorithm.overlong_buffer > max_tokens:
        raise ConfigError(
            f"algorithm.overlong_buffer={algorithm.overlong_buffer} is more than a reply may have "
            f"(rollout.max_tokens={max_tokens}): choose at most {max_tokens}"
        )
    check_values(config.credit)
    config.credit.check(advantage=algorithm.advantage, trained_tags=config.trained_tags)


def _check_groups(config: Config) -> None:
    config.engine.check(device=config.hardware.device, temperature=config.rollout.temperature)
    if config.engine.trains:
        _check_trained_elsewhere(config)
    elif config.tinker != TinkerConfig():
        raise ConfigError(f"tinker.* has no effect with engine={config.engine.name}: choose hardware=tinker")
    if config.rollout.max_steps_off_policy:
        _check_overlap(config)
    if config.rollout.grammar != "none":
        _check_grammar(config)
    if config.opponent.needs_engine and not engine_keeps_start(config):
        config.engine.check_second(opponent=config.opponent.name)
    config.logger.wandb.check()


def _check_trained_elsewhere(config: Config) -> None:
    """What a server that trains adapters cannot be told, or does not tell."""
    where = f"engine={config.engine.name}"
    if isinstance(config.engine, TinkerEngineConfig) and config.engine.service != config.tinker:
        raise ConfigError("engine.service is made of the section tinker: set tinker.* in its place")
    if isinstance(config.engine, TinkerEngineConfig) and config.engine.episode_timeout_s not in (
        None,
        config.rollout.timeout_s,
    ):
        raise ConfigError("engine.episode_timeout_s is rollout.timeout_s: set that in its place")
    if rank_and_size()[1] > 1:
        raise ConfigError(f"{where} trains on its server: start one process, without torchrun or accelerate launch")
    if not config.model.lora.rank:
        raise ConfigError(f"{where} trains adapters only: set model.lora.rank, e.g. 32")
    _check_other_servers(config)
    for name in ("alpha", "targets"):
        if getattr(config.model.lora, name) is not None:
            raise ConfigError(f"model.lora.{name} is the server's to choose: leave it out with {where}")
    for name in ("entropy_coef", "entropy_target", "min_entropy", "top_entropy_quantile"):
        unset = getattr(AlgorithmConfig, name)
        if getattr(config.algorithm, name) != unset:
            raise ConfigError(
                f"algorithm.{name} needs the entropy of distributions, and a Tinker server tells the log-probabilities "
                f"of sampled tokens alone: set it to {'null' if unset is None else f'{unset:g}'}, or choose another "
                f"engine than {where}"
            )


def _check_other_servers(config: Config) -> None:
    """A judge and opponents are asked by OpenAI's API, which a Tinker server does not speak."""
    place = _without_path(config.tinker.base_url or "")
    asked = {"judge": config.judge, "opponent": config.opponent}
    for group, option in asked.items():
        if isinstance(option, LlmJudgeConfig | OpenAIConfig) and _without_path(option.base_url) == place:
            instead = "opponent=frozen" if group == "opponent" else "judge=contains|exact_match|boxed_math|python"
            raise ConfigError(
                f"{group}.base_url={option.base_url} is the Tinker server, which does not speak OpenAI's API: name a "
                f"server that does, e.g. vLLM's, or choose {instead}"
            )


def _without_path(url: str) -> str:
    """An address without what clients of either API put behind it."""
    return url.rstrip("/").removesuffix("/v1").removesuffix("/api")


def _check_overlap(config: Config) -> None:
    setting = f"rollout.max_steps_off_policy={config.rollout.max_steps_off_policy}"
    if not config.engine.samples_meanwhile:
        apart = [name for name, kind in options("engine").items() if kind.samples_meanwhile]
        raise ConfigError(
            f"{setting}: engine={config.engine.name} stands still while this process trains; "
            f"choose engine={'|'.join(apart)}, or rollout.max_steps_off_policy=0"
        )
    if config.credit.plays_again:
        raise ConfigError(
            f"{setting}: credit={config.credit.name} plays a step's episodes again, with the policy that played them; "
            "choose rollout.max_steps_off_policy=0, or another credit"
        )


def _check_grammar(config: Config) -> None:
    setting = f"rollout.grammar={config.rollout.grammar}"
    if not config.engine.follows_grammars:
        following = [name for name, kind in options("engine").items() if kind.follows_grammars]
        raise ConfigError(
            f"{setting}: engine={config.engine.name} cannot sample under a grammar; "
            f"choose engine={'|'.join(following)}, or rollout.grammar=none"
        )
    require_extra("grammar", needed_by=setting, otherwise="rollout.grammar=none")


def _check_model(config: Config) -> None:
    model = config.model
    for key in ("alpha", "targets"):
        value = getattr(model.lora, key)
        if model.lora.rank == 0 and value is not None:
            raise ConfigError(f"model.lora.{key} has no effect with model.lora.rank=0: set a rank, e.g. 32, or drop it")
        if model.lora.rank > 0 and not value and not config.engine.trains:
            raise ConfigError(f"model.lora.rank={model.lora.rank} needs model.lora.{key}")
    hardware = config.hardware
    hardware.check()
    if model.dtype == "bfloat16" and model.lora.rank == 0 and hardware.mixed_precision == "no":
        raise ConfigError(
            "model.dtype=bfloat16 would hold for the engine alone: all weights are trained in float32, which rounds "
            "otherwise; set hardware.mixed_precision=bf16, or model.dtype=float32"
        )
    if hardware.offload_optimizer and hardware.device == "cpu":
        raise ConfigError("hardware.offload_optimizer=true needs hardware.device=cuda: on a CPU nothing is elsewhere")
    if hardware.offload_optimizer and hardware.data_parallel == "fsdp" and rank_and_size()[1] > 1:
        raise ConfigError(
            "hardware.offload_optimizer=true needs hardware.data_parallel=ddp: fsdp shares the moments out already"
        )
    if config.rollout.max_tokens >= model.max_context:
        raise ConfigError(
            f"rollout.max_tokens={config.rollout.max_tokens} leaves no room for a prompt: choose fewer than "
            f"model.max_context={model.max_context}"
        )
    resolve_model_path(model.path)


def _check_eval(config: Config) -> None:
    # Held-out numbers are below 2**30 and training numbers from there on: see data/seeds.py.
    if config.eval.seed_offset + config.eval.num_tasks > 2**30:
        raise ConfigError(
            f"eval.seed_offset={config.eval.seed_offset}: held-out seeds end at 2**30; choose "
            f"eval.seed_offset up to {2**30 - config.eval.num_tasks}"
        )


def _listed(tags: Sequence[str]) -> str:
    return f"[{','.join(tags)}]"
