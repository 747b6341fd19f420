"""A reference that follows the policy: when, how far, and that a resumed run has it."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from tests.factories import make_sample, tiny_qwen
from tests.unit.test_policy_gradient import RULE, TAGS, make_policy

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.algorithm_checks import check_algorithm
from ajet.config.update_checks import check_reference
from ajet.errors import ConfigError
from ajet.train.following_reference import FollowingReference
from ajet.train.packing import build_packs

FOLLOWING = dataclasses.replace(RULE, kl_coef=0.1, ref_sync_every=2)


def test_every_n_steps_it_takes_over_a_share_of_the_policys_weights() -> None:
    reference, policy = torch.tensor([0.0, 8.0]), torch.tensor([4.0, 8.0])
    algorithm = AlgorithmConfig(kl_coef=0.1, ref_sync_every=3, ref_sync_alpha=0.75)
    following = FollowingReference([reference], [policy], algorithm)
    found = []
    for num_steps in range(1, 7):
        following.step_done(num_steps)
        found.append(reference.tolist())
    # 3/4 of 4, and 3/4 of what is left.
    assert found == [[0, 8], [0, 8], [3, 8], [3, 8], [3, 8], [3.75, 8]]


def test_a_policy_is_held_to_where_it_was_and_a_resumed_run_to_the_same() -> None:
    packs = build_packs([make_sample((1, 2, 3, 4), (0, 1, 1, 1), logprobs=(0, -2, -2, -2))], [1.0], TAGS, max_tokens=9)
    policy = make_policy(tiny_qwen(seed=1), algorithm=FOLLOWING, reference=tiny_qwen(seed=2))
    (starting,) = policy.reference_logps(packs)
    assert policy.state_dict()["reference"] == []
    told = [policy.train_batch([packs], TAGS, num_steps_done=step) for step in (0, 1)]
    (after_two,) = policy.reference_logps(packs)
    torch.testing.assert_close(after_two, policy.forward(packs[0]).logp_E.detach())
    told.append(policy.train_batch([packs], TAGS, num_steps_done=2))
    distances = [line["policy/seer/kl_ref"] for line in told]
    assert distances[0] > 1e-4 < distances[1] and math.isclose(distances[2], 0, abs_tol=1e-9)
    resumed = make_policy(tiny_qwen(seed=1), algorithm=FOLLOWING, reference=tiny_qwen(seed=2))
    assert torch.equal(resumed.reference_logps(packs)[0], starting)
    resumed.load_state_dict(copy.deepcopy(policy.state_dict()))
    assert torch.equal(resumed.reference_logps(packs)[0], after_two)
    both = [each.train_batch([packs], TAGS, num_steps_done=3) for each in (policy, resumed)]
    assert both[0] == both[1]
    assert torch.equal(policy.reference_logps(packs)[0], resumed.reference_logps(packs)[0])


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        (AlgorithmConfig(ref_sync_every=5), r"ref_sync_every=5 has no effect with algorithm\.kl_coef=0"),
        (AlgorithmConfig(kl_coef=0.1, ref_sync_alpha=0.6), r"ref_sync_alpha=0\.6 has no effect with"),
    ],
)  # fmt: skip
def test_a_reference_that_nothing_reads_or_that_never_moves_is_refused(algorithm: AlgorithmConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_algorithm(algorithm)


def test_adapters_shared_out_weights_and_short_runs_have_none_that_could_follow() -> None:
    fine = {"has_adapters": False, "is_sharded": False, "total_steps": 3}
    check_reference(FOLLOWING, **fine)  # type: ignore[arg-type]
    for found, said in (
        ({"has_adapters": True}, r"model\.lora\.rank=0"),
        ({"is_sharded": True}, r"hardware\.data_parallel=ddp"),
        ({"total_steps": 2}, r"ref_sync_every=2 is not below total_steps=2"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_reference(FOLLOWING, **{**fine, **found})  # type: ignore[arg-type]
