"""Keys and names of an earlier version, which stay understood for one release."""

from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from ajet.analysis import load_run, load_sweep
from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.renamed import DROPPED, RENAMED, RENAMED_OPTIONS, renamed_sections, understand_old_loss, with_new_keys
from ajet.config.saved import load, save
from ajet.errors import ConfigError
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

SIGNALS = ("workflow=signals", "trainable_targets=[speaker]")
VALUES = {"workflow.hostile": "[[speaker],[listener]]", "logger.wandb.sample_games": "5"}


def value_of(config: object, key: str) -> object:
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_key_sets_what_the_new_one_does(old: str) -> None:
    config = [compose([*SIGNALS, f"{key}={VALUES[old]}"], run_dir="x") for key in (old, RENAMED[old])]
    assert value_of(config[0], RENAMED[old]) == value_of(config[1], RENAMED[old]) is not None
    assert with_new_keys([f"+{old}=1", f"~{old}", "seed=1"]) == [f"+{RENAMED[old]}=1", f"~{RENAMED[old]}", "seed=1"]


def test_a_loss_that_is_an_aggregation_by_now_is_that_and_not_named_beside_another(tmp_path: Path) -> None:
    algorithm = compose([*SIGNALS, "algorithm=grpo", "algorithm.loss=dapo"], run_dir="x").algorithm
    assert (algorithm.loss, algorithm.aggregation) == ("clip", "dapo")
    assert compose([*SIGNALS, "algorithm=dapo", "algorithm.loss=grpo"], run_dir="x").algorithm.aggregation == "grpo"
    assert with_new_keys(["algorithm.loss=grpo,dapo"]) == ["algorithm.aggregation=grpo,dapo"]
    assert with_new_keys(["algorithm.loss=clip,dapo"]) == ["algorithm.loss=clip,dapo"]
    for aggregation in ("grpo", "dapo"):
        with pytest.raises(ConfigError, match=f"loss=grpo is the former name .*aggregation={aggregation} is named, to"):
            compose([*SIGNALS, "algorithm.loss=grpo", f"algorithm.aggregation={aggregation}"], run_dir="x")
    with pytest.raises(ConfigError, match=r"loss=grpo is the former name .*aggregation=dapo is named, to"):
        understand_old_loss(AlgorithmConfig(loss="grpo", aggregation="dapo"))  # as a YAML file would have it


def test_run_directories_of_before_and_after_a_renaming_are_alike_to_analysis(tmp_path: Path) -> None:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        config = compose([*SIGNALS, "algorithm=dapo"], run_dir=tmp_path / "run")
        save(config, tmp_path / name / "config.yaml")
    content = yaml.safe_load((tmp_path / "before" / "config.yaml").read_text())
    content["workflow"]["hostile"] = content["workflow"].pop("opposing_sides")
    content["algorithm"]["loss"] = content["algorithm"].pop("aggregation")
    content["engine"]["placement"] = "colocated"
    (tmp_path / "before" / "config.yaml").write_text(yaml.safe_dump(content))
    before, after = load_run(tmp_path / "before"), load_run(tmp_path / "after")
    assert before.config == after.config and before.config["algorithm.aggregation"] == "dapo"
    assert list(load_sweep(tmp_path).choices.columns) == []


def test_a_run_directory_with_old_keys_is_read(tmp_path: Path) -> None:
    config = compose([*SIGNALS, "workflow.opposing_sides=[[speaker],[listener]]"], run_dir=tmp_path)
    save(config, tmp_path / "config.yaml")
    content = yaml.safe_load((tmp_path / "config.yaml").read_text())
    content["workflow"]["hostile"] = content["workflow"].pop("opposing_sides")
    content["engine"]["placement"] = "colocated"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert (load(tmp_path).workflow, load(tmp_path).engine) == (config.workflow, config.engine)
    assert renamed_sections({"workflow": {"hostile": 1, "opposing_sides": 2}}) == {"workflow": {"opposing_sides": 2}}


def test_a_class_that_names_its_sides_as_before_still_keeps_them_apart() -> None:
    with pytest.warns(DeprecationWarning, match="opposing_sides"):

        class Duel(Workflow):
            target_tags: ClassVar[tuple[str, ...]] = ("a", "b")
            hostile: ClassVar[tuple[tuple[str, ...], ...]] = (("a",), ("b",))

            async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
                return WorkflowOutput(reward=0.0)

    assert Duel.opposing_sides == (("a",), ("b",)) and Workflow.opposing_sides == ()


@pytest.mark.parametrize("key", DROPPED)
def test_a_setting_that_is_gone_is_passed_over_and_said(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    section, name = key.split(".")
    assert with_new_keys([f"{key}=colocated", f"++{key}=colocated", "seed=1"]) == ["seed=1"]
    assert capsys.readouterr().err.count(key) <= 1
    assert renamed_sections({section: {name: "colocated", "other": 1}}) == {section: {"other": 1}}


@pytest.mark.parametrize("old", RENAMED_OPTIONS)
def test_a_renamed_choice_is_understood(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_new_keys([old, f"+{old}"]) == [RENAMED_OPTIONS[old], f"+{RENAMED_OPTIONS[old]}"]
    assert capsys.readouterr().err.count(RENAMED_OPTIONS[old]) <= 1  # said once a process
