"""The pages on losses, advantages, aggregations and credit rules of one's own train a step as they stand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ajet.config.cli.entry import run_entry
from ajet.config.compose import load_training
from ajet.train.__main__ import train

PAGES = Path(__file__).resolve().parents[2] / "docs" / "extend"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OVERRIDES = [
    *("engine=transformers", "hardware.sampling_threads=1", "hardware.training_threads=1", "total_steps=1"),
    *("algorithm.warmup_steps=0", "rollout.num_tasks=4", "rollout.group_size=8", "rollout.max_tokens=16"),
    *("eval=none", "logger=quiet", "checkpoint.every=0"),
]


def blocks(page: str, kind: str) -> list[str]:
    return [text for of_kind, text in BLOCK.findall((PAGES / f"{page}.md").read_text()) if of_kind == kind]


COMMANDS = [
    pytest.param(page, shlex.split(line), id=line.partition("->")[2])
    for page in ("loss", "advantage", "aggregation", "credit")
    for line in "".join(blocks(page, "bash")).splitlines()
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_page_on_the_learning_rule_trains_a_step(
    page: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = blocks(page, "python")
    (tmp_path / program.split("\n", 1)[0].removeprefix("# ")).write_text(program)
    monkeypatch.chdir(tmp_path)
    assert command[:3] == ["python", "-m", "ajet.train"]
    assert run_entry("train", load_training, train, [*command[3:], *OVERRIDES, "hydra.run.dir=run"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert metrics["advantage/speaker/abs_mean"] > 0 < metrics["policy/grad_norm"]
