"""Every page of docs/extend/ runs: its blocks are files, its command trains a step with them and can be evaluated."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ajet.config.cli.entry import run_entry
from ajet.config.compose import load_training
from ajet.config.saved import load
from ajet.train.__main__ import train

PAGES = Path(__file__).resolve().parents[2] / "docs" / "extend"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = [
    *("total_steps=1", "algorithm.warmup_steps=0", "algorithm.num_minibatches=1", "eval=none", "checkpoint.every=0"),
    *("rollout.num_tasks=2", "rollout.group_size=2", "rollout.max_tokens=4", "logger=quiet", "hydra.run.dir=run"),
]


RULES = ("advantage", "aggregation", "loss")
"""Pages on functions, whose commands `test_extend_docs.py` runs."""


@pytest.mark.parametrize("page", sorted({path.stem for path in PAGES.glob("*.md")} - set(RULES)))
def test_a_page_on_a_component_of_ones_own_trains_a_step(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = BLOCK.findall((PAGES / f"{page}.md").read_text())
    assert {kind for kind, _ in blocks} == {"python", "bash"}
    for code in (text for kind, text in blocks if kind == "python"):
        (tmp_path / code.split("\n", 1)[0].removeprefix("# ")).write_text(code)
    (command,) = [shlex.split(text) for kind, text in blocks if kind == "bash"]
    assert command[:3] == ["python", "-m", "ajet.train"]
    monkeypatch.chdir(tmp_path)
    engine = [] if page == "engine" else ["engine=scripted"]
    assert run_entry("train", load_training, train, [*command[3:], *engine, *STEP]) == 0
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["episode/ok"] + first.get("episode/policy_error", 0) == 4.0
    chosen = getattr(load(tmp_path / "run"), page)
    name = getattr(chosen, {"data": "reader", "logger": "own"}.get(page, "name"))
    assert name.startswith(str(tmp_path)) and name in (tmp_path / "run" / "code.json").read_text()
