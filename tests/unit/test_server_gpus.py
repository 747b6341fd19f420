"""Servers take GPUs that no training process has."""

from __future__ import annotations

import pytest

from ajet.engine.server_gpus import placed
from ajet.errors import ConfigError

FOUR = ["0", "1", "2", "3"]


def test_servers_take_the_first_gpus_that_training_leaves() -> None:
    assert placed(None, FOUR, num_servers=2, each=1) == [["1"], ["2"]]
    assert placed(None, FOUR, num_servers=1, each=3) == [["1", "2", "3"]]


def test_gpus_are_named_as_the_process_may_use_them() -> None:
    assert placed([7, 5], ["4", "5", "7"], num_servers=2, each=1) == [["7"], ["5"]]
    assert placed(None, ["GPU-a", "GPU-b"], num_servers=1, each=1) == [["GPU-b"]]


def test_each_of_several_processes_starts_servers_within_its_share() -> None:
    # Accelerate trains on the GPU of the process's number among those that it sees.
    assert placed(None, ["0", "1"], num_servers=1, each=1, local_rank=0, local_size=2) == [["1"]]
    assert placed(None, ["2", "3"], num_servers=1, each=1, local_rank=1, local_size=2) == [["2"]]


@pytest.mark.parametrize("gpus", [[0, 1], [1, 1], [1, 4]], ids=["training's", "twice", "not there"])
def test_gpus_that_servers_cannot_have_are_refused_with_those_that_they_can(gpus: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"training has GPU 0, and servers may have each of \[1,2,3\] once"):
        placed(gpus, FOUR, num_servers=2, each=1)


def test_too_few_gpus_are_refused_with_what_there_is_room_for() -> None:
    with pytest.raises(ConfigError, match=r"need 4 GPUs .* set engine.num_servers=1$"):
        placed(None, FOUR, num_servers=2, each=2)
    with pytest.raises(ConfigError, match="choose engine=vllm_gpu"):
        placed(None, ["0"], num_servers=1, each=1)


def test_one_set_of_gpus_cannot_be_for_several_processes() -> None:
    with pytest.raises(ConfigError, match=r"engine.gpus=\[1\] is one set for 2 training processes: leave it out"):
        placed([1], FOUR, num_servers=1, each=1, local_size=2)
