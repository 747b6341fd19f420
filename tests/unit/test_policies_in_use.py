"""What vLLM's servers sample from: the newest policy, and earlier ones only as long as they are needed."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import torch

from ajet.engine.base import Adapters
from ajet.engine.handover import AdaptersBeside, Policy, WholeWeights
from ajet.engine.policies_in_use import PoliciesInUse


def taken_adapters(policies: PoliciesInUse, adapters: AdaptersBeside, version: int) -> None:
    """An update whose adapters are there and empty."""
    policy = adapters.named(version)
    assert policy.path is not None
    policy.path.mkdir()
    policies.take(policy)


def beside(folder: Path) -> AdaptersBeside:
    return AdaptersBeside(folder, torch.nn.Module, Adapters(rank=8, alpha=16, targets=("q_proj",)))


def test_a_file_of_whole_weights_is_removed_once_the_next_is_in_place(tmp_path: Path) -> None:
    policies = PoliciesInUse(WholeWeights(tmp_path, torch.nn.Module))
    for version in (1, 2):
        path = tmp_path / f"weights_{version}"
        path.touch()
        policies.take(Policy(version=version, path=path))
    assert policies.newest.version == 2
    assert [path.name for path in tmp_path.iterdir()] == ["weights_2"]


def test_adapters_are_kept_for_two_updates_more(tmp_path: Path) -> None:
    adapters = beside(tmp_path)
    policies = PoliciesInUse(adapters)
    for version in (1, 2, 3, 4):
        taken_adapters(policies, adapters, version)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy-2", "policy-3", "policy-4"]


def test_an_update_waits_for_requests_with_older_adapters_alone(tmp_path: Path) -> None:
    adapters = beside(tmp_path)
    policies = PoliciesInUse(adapters)
    taken_adapters(policies, adapters, 1)
    with policies.asked(by_starting_model=False) as asked:
        assert asked.adapter == "policy-1"
        policies.await_older()  # the newest are none of the older
        taken_adapters(policies, adapters, 2)
        waiting = Thread(target=policies.await_older)
        waiting.start()
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    with policies.asked(by_starting_model=True) as asked:
        assert asked.adapter is None
        policies.await_older()
