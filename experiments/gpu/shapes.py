"""Models by their shape, with random weights: what speed and memory depend on, and nothing that must be downloaded.

In: a shape. Out: a transformers model, and how many floating-point operations a pack costs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ajet.train.packing import Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Qwen3 with its head tied to the embedding."""

    name: str
    width: int
    inner: int
    """Of the feed-forward layers."""
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocabulary: int

    def config(self) -> Any:
        """Any: transformers' configurations are untyped."""
        library: Any = transformers
        return library.Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_kv_heads,
            head_dim=self.head_size,
            max_position_embeddings=40960,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )


QWEN3_0_6B = Shape(
    name="Qwen3 0.6B",
    width=1024,
    inner=3072,
    num_layers=28,
    num_heads=16,
    num_kv_heads=8,
    head_size=128,
    vocabulary=151936,
)
QWEN3_4B = Shape(
    name="Qwen3 4B",
    width=2560,
    inner=9728,
    num_layers=36,
    num_heads=32,
    num_kv_heads=8,
    head_size=128,
    vocabulary=151936,
)
SMALL = Shape(
    name="small",
    width=64,
    inner=128,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_size=32,
    vocabulary=300,
)
"""For a look whether every line runs, on a CPU."""


def make_model(shape: Shape, device: torch.device, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A model with random weights, made where it will be."""
    auto_model: Any = transformers.AutoModelForCausalLM  # untyped
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        return auto_model.from_config(shape.config(), dtype=dtype).eval()


def save_model(shape: Shape, folder: Path, device: torch.device, *, dtype: torch.dtype) -> str:
    """A checkpoint with random weights, without a tokenizer: engines know token ids only."""
    make_model(shape, device, dtype=dtype).save_pretrained(folder)
    return str(folder)


def update_flops(shape: Shape, pack: Pack) -> float:
    """Floating-point operations that a forward and backward pass over a pack needs.

    Six for each weight of a linear layer and each token, of the head for those tokens alone that predict something, and
    twelve for each pair of a token and one that it sees, head and number of a head. What is computed again because of
    gradient checkpointing is not counted, as always in model FLOP utilisation (Chowdhery et al. 2022, "PaLM").
    """
    queries, keys = shape.num_heads * shape.head_size, shape.num_kv_heads * shape.head_size
    of_layer = shape.width * (2 * queries + 2 * keys + 3 * shape.inner)
    num_predictors = len(np.unique(pack.predictors))
    linear = 6.0 * shape.num_layers * of_layer * len(pack.token_ids)
    head = 6.0 * shape.width * shape.vocabulary * num_predictors
    pairs = float((pack.positions + 1).sum())
    return linear + head + 12.0 * shape.num_layers * queries * pairs
