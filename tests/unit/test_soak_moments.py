"""What the soak says of two runs that should be alike, and the kills that it draws."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import torch
from recipes.soak.__main__ import KINDS, Kill, draw
from recipes.soak.comparing import EXACT, ROUNDING, first_difference
from safetensors.torch import save_file
from tests.run_dirs import make_run


def make_trained(folder: Path, *, weight: float = 1.0, **metrics: float) -> Path:
    """A run of two steps and its last checkpoint, with these metrics of the second step instead of its own."""
    run = make_run(folder)
    log = run / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1] |= metrics
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = run / "checkpoints" / "step_2" / "model"
    model.mkdir(parents=True)
    (model.parent / "checksums.json").write_text("{}")
    save_file({"head": torch.tensor([weight])}, model / "model.safetensors")
    return run


def test_the_first_metric_that_differs_is_named_with_its_step_and_both_values(tmp_path: Path) -> None:
    one = make_trained(tmp_path / "one")
    other = make_trained(tmp_path / "other", **{"time/rollout": 9.0, "episode/ok": 3.0, "reward/seer/mean": 0.7})
    assert first_difference(other, one, EXACT) == "step 1: episode/ok is 3.0, not 2.0"


def test_what_a_clock_says_is_not_compared(tmp_path: Path) -> None:
    other = make_trained(tmp_path / "other", **{"time/rollout": 9.0})
    assert first_difference(other, make_trained(tmp_path / "one"), EXACT) is None


def test_rounding_is_a_difference_of_one_process_and_none_of_several(tmp_path: Path) -> None:
    one, other = make_trained(tmp_path / "one"), make_trained(tmp_path / "other", **{"episode/ok": 2.00001})
    assert first_difference(other, one, EXACT) == "step 1: episode/ok is 2.00001, not 2.0"
    assert first_difference(other, one, ROUNDING) is None


def test_a_step_or_a_metric_that_is_missing_is_named(tmp_path: Path) -> None:
    one, other = make_trained(tmp_path / "one"), make_trained(tmp_path / "other", extra=1.0)
    assert first_difference(other, one, EXACT) == "step 1: extra is one metric too many"
    assert first_difference(one, other, EXACT) == "step 1: extra is missing"
    (other / "metrics.jsonl").write_text((one / "metrics.jsonl").read_text().partition("\n")[0] + "\n")
    assert first_difference(other, one, EXACT) == "metrics.jsonl has the steps [0], not [0, 1, 2]"


def test_a_weight_that_differs_is_named(tmp_path: Path) -> None:
    one, other = make_trained(tmp_path / "one"), make_trained(tmp_path / "other", weight=1.5)
    assert first_difference(other, one, ROUNDING) == "after step 2 the weight head is off by 0.5"


def test_kills_are_those_of_the_seed_and_of_every_kind() -> None:
    def kills(kind: str) -> list[Kill]:
        rng = random.Random(0)
        return [draw(rng, KINDS[kind]) for _ in range(50)]

    assert kills("two") == kills("two")
    assert {kill.victim for kill in kills("one")} == {"rank 0"}
    met = {(kill.signum, kill.victim) for kill in kills("two")}
    assert met == {(signal.SIGKILL, victim) for victim in ("rank 0", "rank 1", "all")} | {
        (signal.SIGTERM, victim) for victim in ("rank 0", "rank 1", "launcher")
    }
    assert sum(kill.signum == signal.SIGKILL for kill in kills("one")) > 25
