"""Texts that cannot fit into a context, told before their tokens are made: a megabyte takes a tokenizer over a second.

In: a text, the context's size and a tokenizer's count. Out: nothing, or the error of an engine that was given too much.
All on the spot and in proportion to the context, so that one request holds up the others for a moment at most and
rollouts repeat exactly.
"""

from __future__ import annotations

from collections.abc import Callable

from ajet.errors import ContextOverflowError

MOST_BYTES_A_TOKEN = 16
"""A prompt has fewer on average, whatever its language: English has four to five, Chinese three, code up to eight."""
USUAL_BYTES_A_TOKEN = 4
"""Up to here a text is simply tokenized."""
SHORT_BYTES = 4096
"""Never counted."""
PIECE = 4096
"""Characters that are tokenized at a time to count."""
CUTS = 1.25
"""Cutting words apart makes more tokens of a text, by far less than this factor."""


def check_length(text: str, max_tokens: int, count: Callable[[str], int]) -> None:
    """Refuse a text that has more than `max_tokens` tokens, where that is easily seen; others are left to the engine.

    Args:
        text: a whole prompt, or what it adds to recorded ids.
        max_tokens: the context's size.
        count: tokens of a piece of the text.

    Raises:
        ContextOverflowError: it does not fit.
    """
    num_bytes = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    if num_bytes > max(MOST_BYTES_A_TOKEN * max_tokens, SHORT_BYTES):
        raise _overflow(f"a prompt of {num_bytes} bytes", max_tokens)
    if num_bytes <= max(USUAL_BYTES_A_TOKEN * max_tokens, SHORT_BYTES):
        return
    num_tokens = 0
    for start in range(0, len(text), PIECE):
        num_tokens += count(text[start : start + PIECE])
        if num_tokens > CUTS * max_tokens:
            raise _overflow(f"a prompt of more than {max_tokens} tokens", max_tokens)


def _overflow(prompt: str, max_tokens: int) -> ContextOverflowError:
    return ContextOverflowError(
        f"{prompt} leaves no room in a context of {max_tokens}: shorten the conversation or raise model.max_context"
    )
