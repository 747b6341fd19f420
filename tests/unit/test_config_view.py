"""The config as workflows and judges read it: attributes to any depth, the user's own sections, AgentJet's names."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from omegaconf import open_dict

from ajet.config.compose import compose, compose_tree, load_training
from ajet.config.view import ConfigView, user_view


def view(*overrides: str) -> ConfigView:
    return user_view(compose(["workflow=signals", *overrides], run_dir=Path("outputs/here")))


def test_every_setting_is_an_attribute() -> None:
    config = view("seed=7", "++workflow.params.num_objects=5")
    assert (config.seed, config.rollout.temperature, config.model.lora.rank) == (7, 1.0, 0)
    assert config.workflow.params.num_objects == 5 and dict(config.workflow.params) == {"num_objects": 5}
    assert config["rollout"].get("group_size") == 16 and config.get("nothing", 3) == 3
    assert "rollout" in config and "nothing" not in config


def test_sections_of_ones_own_stand_beside_ajets() -> None:
    config = view("++own.frozen_lake.size=4", "++own.frozen_lake.map.holes=[1,2]", "++own.rollout.mine=1")
    assert config.frozen_lake.size == 4 and config.frozen_lake.map.holes == [1, 2]
    # A section of the same name adds to ajet's and changes nothing of it.
    assert config.rollout.mine == 1 and config.rollout.group_size == 16


def test_agentjets_names_are_there_with_its_defaults() -> None:
    assert view().ajet.rollout.multi_turn.max_steps == 30
    config = view("++own.ajet.rollout.multi_turn.max_steps=8")
    assert config.ajet.rollout.multi_turn.max_steps == 8
    assert config.ajet.rollout.temperature == config.rollout.temperature and config.ajet.seed == 0


def test_it_can_be_copied_and_not_changed() -> None:
    config = view("++own.mine.size=4")
    for copied in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert copied.mine.size == 4 and copied.ajet.rollout.multi_turn.max_steps == 30
    with pytest.raises(AttributeError, match=r"read-only: set mine\.size on the command line"):
        config.mine.size = 5
    assert hasattr(config, "mine") and not hasattr(config, "nothing")


def test_sections_may_stand_in_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "lake.yaml").write_text(
        "# @package _global_\nown:\n  frozen_lake: {size: 4, holes: [1, 2]}\n"
        "  ajet: {rollout: {multi_turn: {max_steps: 9}}}\n"
    )
    tree = compose_tree(["workflow=signals", "experiment=lake", "own.frozen_lake.size=5"], config_dir=str(tmp_path))
    with open_dict(tree):
        del tree["hydra"]
    tree.run_dir = "outputs/here"
    config = user_view(load_training(tree, []))
    assert (config.frozen_lake.size, config.frozen_lake.holes) == (5, [1, 2])
    assert config.ajet.rollout.multi_turn.max_steps == 9


def test_a_name_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"no rollout\.nothing; there is num_tasks, .*yours: own"):
        _ = view().rollout.nothing
    with pytest.raises(KeyError):
        _ = view()["nothing"]
