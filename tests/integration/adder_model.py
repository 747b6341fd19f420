"""A random model that calls tools: each sum up to 15 + 15 is one token of its vocabulary, so it draws them often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.small_models.tokenizer import train_tokenizer
from tests.integration.tiny_model import build_tiny_model

CALLS = [
    f'<tool_call>{{"name": "add", "arguments": {{"a": {a}, "b": {b}}}}}</tool_call>'
    for a in range(16)
    for b in range(16)
]


def save_adder_model(directory: Path, seed: int = 0) -> str:
    """Write a checkpoint with its tokenizer and return its path."""
    # Any: the library's classes are untyped.
    tokenizer: Any = train_tokenizer(["You add. What is 2 + 3?"], vocab_size=280, max_context=1024, phrases=CALLS)
    tokenizer.save_pretrained(directory)
    model: Any = build_tiny_model(seed, vocab_size=len(tokenizer))
    model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(directory)
    return str(directory)
