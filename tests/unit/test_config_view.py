"""The config as workflows and judges read it: attributes to any depth, the author's own sections, AgentJet's names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.config.compose import compose
from ajet.config.view import ConfigView, author_view


def view(*overrides: str) -> ConfigView:
    return author_view(compose(["workflow=signals", *overrides], run_dir=Path("outputs/here")))


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


def test_a_name_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"no rollout\.nothing; there is num_tasks, .*yours: own"):
        _ = view().rollout.nothing
    with pytest.raises(KeyError):
        _ = view()["nothing"]
