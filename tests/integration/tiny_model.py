"""A tiny random Qwen3 checkpoint on disk, for engine tests. No tokenizer: engines know token ids only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

VOCAB_SIZE = 300
MAX_CONTEXT = 128


def build_tiny_model(
    seed: int = 0, *, hidden_size: int = 64, num_layers: int = 2, vocab_size: int = VOCAB_SIZE
) -> transformers.PreTrainedModel:
    """A random float32 Qwen3 with tied embeddings whose distribution is far from uniform.

    Its generation config asks for top-k and top-p on purpose: an engine must ignore them.
    """
    # Any: the constructors are untyped.
    library: Any = transformers
    config = library.Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 16,
        num_key_value_heads=hidden_size // 32,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        dtype="float32",
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: transformers.PreTrainedModel = library.Qwen3ForCausalLM(config).eval()
        # The default init (std 0.02) gives nearly uniform outputs, which would hide wrong temperatures.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(std=0.2)
    model.generation_config = library.GenerationConfig(do_sample=True, top_k=3, top_p=0.5, eos_token_id=1)
    return model


def save_tiny_model(directory: Path, seed: int = 0) -> str:
    """Write a tiny checkpoint and return its path."""
    build_tiny_model(seed).save_pretrained(directory)
    return str(directory)
