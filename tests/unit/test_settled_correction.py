"""Which correction for the sampler a run has where none, or one, was chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.config.compose import compose


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ([], ("none", None, None)),
        (["hardware=gpu_1"], ("sequence", None, 3.0)),
        (["hardware.mixed_precision=bf16"], ("sequence", None, 3.0)),
        (["hardware=gpu_1", "algorithm.tis_cap=1.5"], ("token", 1.5, None)),
        (["hardware=gpu_1", "algorithm.correction_level=none"], ("none", None, None)),
        (["hardware=gpu_1", "algorithm=vespo"], ("none", None, None)),
        (
            ["engine=vllm_server", "rollout.max_steps_off_policy=1", "hardware.mixed_precision=bf16"],
            ("token", 2.0, None),
        ),
    ],
)
def test_a_correction_is_on_where_engine_and_trainer_differ_unless_another_was_chosen(
    chosen: list[str], expected: tuple[str, float | None, float | None], tmp_path: Path
) -> None:
    algorithm = compose(["workflow=signals", *chosen], run_dir=tmp_path).algorithm
    assert (algorithm.correction_level, algorithm.tis_cap, algorithm.mis_high) == expected
