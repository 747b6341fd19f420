"""What ajet uses of Hydra that Hydra does not promise to keep: each thing is used here as ajet does."""

from __future__ import annotations

from argparse import ArgumentError
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig

from ajet.config.compose import compose_tree
from ajet.config.hydra_private import AMBIGUOUS, flag_parser, grid_jobs, run_jobs
from ajet.errors import ConfigError


def test_flags_and_overrides_are_told_apart() -> None:
    parsed, unknown = flag_parser().parse_known_intermixed_args(["seed=1", "-m", "--cfg", "job", "--nonsense"])
    assert parsed.overrides == ["seed=1"] and parsed.multirun and parsed.cfg == "job" and unknown == ["--nonsense"]
    with pytest.raises(ArgumentError):
        flag_parser().parse_known_intermixed_args(["--cfg", "everything"])


def test_the_jobs_of_a_sweep_are_known_before_it_starts() -> None:
    overrides = OverridesParser.create().parse_overrides(["workflow=signals", "seed=1,2"])
    tree = compose_tree(["workflow=signals"])
    sweeper = str(tree.hydra.sweeper._target_)
    assert grid_jobs(sweeper, overrides) == [["workflow=signals", "seed=1"], ["workflow=signals", "seed=2"]]
    assert grid_jobs("hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper", overrides) is None


def test_they_are_the_jobs_that_hydras_sweeper_makes() -> None:
    asked = [
        "~eval",
        "seed=range(1,4)",
        "++own.x='a,b',c",
        "seed=4,5",
        "rollout.temperature=choice(0.5,1)",
        "model=null",
    ]
    overrides = OverridesParser.create().parse_overrides(asked)
    assert grid_jobs(BasicSweeper.__name__, overrides) == BasicSweeper.split_arguments(overrides, None)[0]


def test_a_range_without_steps_is_refused_by_its_name() -> None:
    overrides = OverridesParser.create().parse_overrides(["rollout.temperature=interval(0.5,1)"])
    with pytest.raises(ConfigError, match=r"^rollout\.temperature="):
        grid_jobs(BasicSweeper.__name__, overrides)


def test_several_values_without_a_sweep_are_refused_in_words_that_we_know() -> None:
    with pytest.raises(HydraException) as refused:
        compose_tree(["workflow=signals", "seed=1,2"])
    assert str(refused.value).startswith(AMBIGUOUS)


def test_a_job_runs_without_sys_argv_in_a_directory_with_hydras_record(tmp_path: Path) -> None:
    overrides = ["workflow=signals", f"hydra.run.dir={tmp_path / 'run'}"]
    assert run_jobs("train", lambda tree: str(tree.workflow.entry), overrides, logs=False) == "signals"
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").read_text() == "- workflow=signals\n"


def test_an_application_of_hydras_keeps_its_own_state(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path), job_name="theirs", version_base="1.2"):
        theirs, about, version = GlobalHydra.instance().hydra, HydraConfig.instance().cfg, VersionBase.instance()
        theirs_version = version.getbase()
        tree = compose_tree(["workflow=signals"])
        assert isinstance(tree, DictConfig) and tree.workflow.entry == "signals"
        assert GlobalHydra.instance().hydra is theirs and HydraConfig.instance().cfg is about
        assert JobRuntime.instance().get("name") == "theirs" and version.getbase() == theirs_version
