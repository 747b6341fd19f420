"""What a command names and nothing would read is refused, or said; what composition chose by default is not."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from tests.factories import make_call, make_episode
from tests.sentences import names

from ajet.analysis.runs import NOT_COMPARED
from ajet.config.cli.completion import RUN_KEYS
from ajet.config.cli.latest import KEYS as LATEST_KEYS
from ajet.config.compose import compose
from ajet.config.fields import COMPARED, MAY_CHANGE, TRAINING_ONLY, marked_keys
from ajet.config.options import keys
from ajet.config.root import Config, EvaluateConfig
from ajet.config.saved import save
from ajet.config.store import SCHEMAS
from ajet.config.sweeps.records import HOW_TO_RUN
from ajet.config.unused import training_only_settings, untrained_tags, unused_settings
from ajet.errors import ConfigError
from ajet.evaluate.entries import evaluation_entries
from ajet.rollout.judges.base import BaseJudge
from ajet.rollout.opponents.random import RandomConfig
from ajet.rollout.unused_parts import UnusedParts
from ajet.train.__main__ import main as train_main
from ajet.workflow import WorkflowOutput, WorkflowTask

SOURCE = Path(__file__).resolve().parents[2] / "src" / "ajet"


def said(*overrides: str, is_sweep: bool = False) -> str:
    """The first sentence on a command's settings; empty if all are read."""
    known = [o for o in overrides if not o.startswith(("hydra.", "launcher", "sweep", "run_dir"))]
    config = compose(["workflow=signals", *known], run_dir="outputs/here")
    return next(iter(unused_settings(config, ["workflow=signals", *overrides], is_sweep=is_sweep).values()), "")


def test_an_opponent_whom_nobody_would_meet_is_refused_where_it_was_named() -> None:
    assert said() == "" == said("trainable_targets=[speaker,listener]")
    assert names(said("opponent=random"), "opponent=random ... signals")
    assert said("opponent=scripted") != ""
    assert names(said("++opponent.params.sense=1"), "opponent.params.sense=1 ... no effect")
    assert said("opponent=random", "trainable_targets=[speaker]") == ""
    # Of a program that does not say its tags only play can tell.
    own = ["workflow=custom", "workflow.entry=ajet.workflows.signals.workflow:Signals", "opponent=random"]
    config = compose(own, run_dir="x")
    assert unused_settings(config, own, is_sweep=False) == {} and untrained_tags(config) is None


def test_settings_of_sweeps_places_and_threads_are_refused_where_they_do_nothing() -> None:
    for setting in ("sweep.batch_size=2", "launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=x"):
        assert names(said(setting), f"{setting} ... -m")
        assert said(setting, is_sweep=True) == ""
    assert said("paths.output_root=a") == ""
    assert names(said("paths.output_root=a", "run_dir=b"), "paths.output_root=a ... run_dir")
    assert names(said("paths.output_root=a", "hydra.run.dir=b"), "paths.output_root=a ... hydra.run.dir")
    computed = said("hardware.sampling_threads=1", "engine=scripted")
    assert names(computed, "hardware.sampling_threads=1 ... engine=scripted")
    assert said("hardware.sampling_threads=1") == ""


def test_what_this_machine_computes_with_is_refused_where_a_server_computes() -> None:
    here = ["hardware.training_threads=1", "hardware.compile=true", "hardware.mixed_precision=bf16"]
    for setting in (*here, "hardware.sampling_threads=1", "hardware.device=cpu"):
        assert names(said("hardware=tinker", setting), f"{setting} ... no effect ... engine=tinker ... server")
        assert said(setting) == ""
    read = ["tinker.timeout_s=5", "hardware.costs.pair=1", "algorithm.max_pack_tokens=512", "algorithm.max_grad_norm=2"]
    assert said("hardware=tinker", *read) == ""


def test_the_command_line_says_so_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_main(["workflow=signals", "opponent=random"]) == 2
    assert names(capsys.readouterr().err, "error: opponent=random ... signals")
    # In a sweep over roles some jobs have an opponent: only what none of them reads is refused.
    assert train_main(["-m", "workflow=signals", "opponent=random", "seed=0,1"]) == 2
    assert names(capsys.readouterr().err, "error: opponent=random ... no effect")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_runs_opponent_is_held_to_the_same_rule(tmp_path: Path) -> None:
    for name, roles in (("every", "[speaker,listener]"), ("one", "[speaker]")):
        (tmp_path / name).mkdir()
        config = compose(["workflow=signals", f"trainable_targets={roles}"], run_dir=tmp_path / name)
        save(config, tmp_path / name / "config.yaml")
    every, one = str(tmp_path / "every"), str(tmp_path / "one")
    opponent = RandomConfig()
    with pytest.raises(ConfigError, match=r"opponent=random .*signals"):
        evaluation_entries(EvaluateConfig(run=every, opponent=opponent, output_dir="x"))
    some = EvaluateConfig(run=every, opponent=opponent, trainable_targets=["listener"], output_dir="x")
    assert evaluation_entries(some)[0].config.opponent.name == "random"
    assert evaluation_entries(EvaluateConfig(run=every, output_dir="x"))[0].config.opponent.name == "scripted"
    with pytest.raises(ConfigError, match=r"opponent=random,scripted .*signals"):
        evaluation_entries(EvaluateConfig(runs=[every], opponents=["random", "scripted"], output_dir="x"))
    assert len(evaluation_entries(EvaluateConfig(runs=[every, one], opponents=["random"], output_dir="x"))) == 2


def test_training_commands_can_be_played_and_what_play_does_not_read_is_said() -> None:
    named = ["workflow=signals", "total_steps=3", "algorithm.kl_coef=0.1", "rollout.temperature=0.7", "eval=none"]
    assert training_only_settings(named) == ["total_steps=3", "algorithm.kl_coef=0.1", "eval=none"]


def test_what_only_training_reads_what_a_resume_may_change_and_what_is_compared() -> None:
    # Marked where each setting stands; a section that is marked stands for all in it.
    assert set(marked_keys(Config(), TRAINING_ONLY)) == {
        *("algorithm", "credit", "eval", "checkpoint", "logger", "total_steps", "rollout.num_tasks"),
        *("rollout.group_size", "rollout.max_resamples"),
        *("hardware.training_threads", "hardware.mixed_precision", "hardware.gradient_checkpointing", "model.lora"),
        *("hardware.data_parallel", "hardware.compile", "hardware.offload_optimizer", "rollout.max_steps_off_policy"),
        *("hardware.attention", "hardware.costs"),
    }
    assert set(marked_keys(Config(), MAY_CHANGE)) == {
        *("total_steps", "logger", "checkpoint", "eval.every", "eval.last", "tinker.base_url", "tinker.base_model"),
        *("tinker.api_key_env", "tinker.timeout_s", "tinker.max_logprob_gap"),
    }
    assert set(marked_keys(Config(), COMPARED)) == {
        *("workflow.entry", "workflow.params", "workflow.env", "own", "data", "judge", "model.path", "model.dtype"),
        *("model.max_context", "rollout.temperature", "rollout.max_tokens", "rollout.grammar"),
    }


READ_BY_CONFIG_ALONE = {
    "algorithm.kl_in": "algorithm.py, whose properties say where the penalty goes",
    "workflow.has_own_models": "validate.py",
    "workflow.scripted": "validate.py",
    "workflow.opposing_sides": "validate.py, and sweeps over choices of roles",
    "logger.wandb.mode": "logger.py, together with W&B's own variables",
    "logger.own_args": "logger.py, which fills the configuration of the logger that is named with it",
    "paths.output_root": "the YAML files",
    "sweep.batch_size": "the YAML files",
}
READ_BY_NAME = ("clip_low", "clip_high", "dr_grpo_max_length", "loss_args", "advantage_args", "aggregation_args")
"""Of `algorithm`: `train/algorithms/options.py` reads what the loss, the advantage and the aggregation ask for."""


def test_no_setting_is_read_by_nothing() -> None:
    read = set()
    for path in SOURCE.rglob("*.py"):
        if "config" not in path.relative_to(SOURCE).parts:
            read |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    for schema in SCHEMAS.values():
        unknown = {key for key in keys(schema) if key.rpartition(".")[2] not in read and "." in key}
        assert unknown <= {*READ_BY_CONFIG_ALONE, *(f"algorithm.{name}" for name in READ_BY_NAME)}
    known = {key for schema in SCHEMAS.values() for key in keys(schema)}
    assert known >= {*READ_BY_CONFIG_ALONE, *(f"algorithm.{name}" for name in READ_BY_NAME)}


def test_lists_of_settings_that_are_kept_by_hand_name_no_other() -> None:
    known = {key for schema in SCHEMAS.values() for key in keys(schema)}
    listed = {*LATEST_KEYS, *RUN_KEYS, *HOW_TO_RUN, *(name.rstrip(".") for name in NOT_COMPARED)}
    hydras = {"launcher", "hydra/launcher", "hydra.launcher"}
    known.add("from_run")  # which `ajet.plan` takes from the command line itself
    assert listed - hydras <= known


class One(BaseJudge):
    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> float:
        return 1.0


def unused_parts(config: Config, judge: BaseJudge | None, lines: list[str]) -> UnusedParts:
    opponent, tags = config.opponent.name, config.workflow.target_tags
    return UnusedParts(config.judge, judge, opponent=opponent, target_tags=tags, say=lines.append)


def test_a_judge_that_a_workflow_does_not_ask_is_named_once() -> None:
    config = compose(["workflow=signals", "judge=python", "judge.entry=package.module:One"], run_dir="x")
    lines: list[str] = []
    unasked = unused_parts(config, One(config.judge), lines)
    episode = make_episode(0, {"P1": 1.0})
    unasked.episode(replace(episode, status="infra_error"))
    assert lines == []
    for _ in range(2):
        unasked.episode(episode)
    (line,) = lines
    assert line.startswith("warning: judge=python has no effect so far: the workflow returned a reward of its own")
    asked = unused_parts(config, One(config.judge), lines)
    assert asked.judge is not None
    assert asked.judge.compute_reward(WorkflowTask(task=episode.task), WorkflowOutput()) == 1.0
    asked.episode(episode)
    assert len(lines) == 1
    unused_parts(config, None, lines).episode(episode)
    assert len(lines) == 1


def test_an_opponent_that_spoke_for_nobody_is_named_once() -> None:
    own = ["workflow=custom", "workflow.entry=ajet.workflows.signals.workflow:Signals"]
    lines: list[str] = []
    config = compose([*own, "opponent=random"], run_dir="x")
    trained = make_call([1], [2])
    unused_parts(config, None, lines).episode(make_episode(0, {}, trained, make_call([], [], trained=False)))
    unused_parts(compose(own, run_dir="x"), None, lines).episode(make_episode(0, {"P1": 1.0}, trained))
    assert lines == []
    unused_parts(config, None, lines).episode(make_episode(0, {"P1": 1.0}, trained))
    assert lines[0].startswith("warning: opponent=random has no effect so far: every agent that spoke is trained")
