"""Weights from GPU to GPU: what can be known without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ajet.config.compose import compose
from ajet.config.root import Config
from ajet.engine.nccl_transfer import SETTINGS, chunks
from ajet.engine.server_process import command_line
from ajet.errors import ConfigError


def composed(checkpoint: Path, *overrides: str) -> Config:
    """The seer and the witch on a checkpoint that exists."""
    chosen = ["workflow=werewolves", "trainable_targets=[seer,witch]", f"model.path={checkpoint}"]
    return compose([*chosen, *overrides], run_dir="outputs/here")


def test_pieces_hold_all_weights_in_their_order() -> None:
    weights = [(str(i), torch.zeros(size)) for i, size in enumerate((3, 10, 1, 1, 1, 9, 2))]
    pieces = list(chunks(weights, num_bytes=40))
    assert [[name for name, _ in piece] for piece in pieces] == [["0", "1"], ["2", "3", "4", "5"], ["6"]]
    assert list(chunks([], num_bytes=40)) == []


def test_a_server_is_told_of_the_transfer_in_one_word() -> None:
    assert command_line(SETTINGS) == ["--weight-transfer-config", '{"backend": "nccl"}']


def test_nccl_needs_no_folder_for_servers_elsewhere(checkpoint: Path) -> None:
    elsewhere = ["hardware=gpu_1", "engine=vllm_server_gpu", "engine.urls=[http://gpu-2:8000]", "engine.lora=merged"]
    with pytest.raises(ConfigError, match=r"set engine.weights_dir to a directory that both share"):
        composed(checkpoint, *elsewhere)
    assert composed(checkpoint, *elsewhere, "engine.weight_transfer=nccl").engine.name == "vllm_server"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine=vllm_server"], r"engine.weight_transfer=nccl is from GPU to GPU: choose file, or hardware=gpu_1"),
        (
            ["hardware=gpu_1", "engine=vllm_server_gpu", "engine.weights_dir=/tmp", "engine.lora=merged"],
            r"engine.weights_dir=/tmp has no effect with engine.weight_transfer=nccl",
        ),
    ],
)
def test_what_nccl_cannot_do_is_refused(checkpoint: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(checkpoint, *overrides, "engine.weight_transfer=nccl")
