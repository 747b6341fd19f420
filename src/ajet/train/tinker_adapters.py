"""Adapters as a Tinker server exports them -> a folder that PEFT reads, and the model with them merged in.

Servers leave out of the configuration what PEFT needs: which layers have adapters, and the model beneath. Both are
known here, the layers by the names of the tensors.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WEIGHT_FILES = (".safetensors", ".bin")
ODD_EXPORTS = (tarfile.TarError, SafetensorError, FileNotFoundError, KeyError, RuntimeError, ValueError)
"""What reading an export raises that is none, or none of the model's."""


def write_adapter(archive: bytes, folder: Path, *, base_model: str) -> None:
    """Unpack an export and complete it.

    Args:
        archive: a tar archive, compressed or not.
        folder: is made.
        base_model: a directory or a hub id.
    """
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    with safe_open(folder / WEIGHTS, framework="pt") as tensors:
        names = list(tensors.keys())
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    layers = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in names if ".lora_" in name})
    config |= {"target_modules": config.get("target_modules") or layers, "base_model_name_or_path": base_model}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def is_at_hand(model_path: str) -> bool:
    """Whether a model's weights lie in a directory here, and not its tokenizer alone."""
    folder = Path(model_path)
    return folder.is_dir() and any(file.suffix in WEIGHT_FILES for file in folder.iterdir())


def merged_model(model_path: str, adapter: Path, *, dtype: str) -> Any:
    """The model of a directory with an adapter merged in.

    Args:
        model_path: a directory with weights (`is_at_hand`).
        adapter: a folder in PEFT's format.
        dtype: of the merged weights, a torch dtype's name.
    """
    auto_model: Any = AutoModelForCausalLM  # untyped
    model = auto_model.from_pretrained(model_path, dtype=getattr(torch, dtype))
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
