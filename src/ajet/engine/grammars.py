"""Grammars over token ids: which ids may come next in a reply. xgrammar, as vLLM asks it.

In: a grammar as text (`ajet.chat.reply_grammar` writes it), sampled ids. Out: bit masks over the vocabulary. Whoever
asks with the same grammar, tokenizer, size of the vocabulary and stop ids gets the same masks: the trainer computes
those anew that an engine sampled under, so that none has to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from ajet.errors import EngineError

if TYPE_CHECKING:
    from xgrammar import GrammarMatcher

CACHE_BYTES = 512 * 2**20
"""For compiled grammars; the least recently used go."""
WORD = 32
"""Ids in a word of a mask."""
NEVER = -1e30
"""In place of a logit: its probability is 0 in float32, and unlike an infinity it leaves no NaN in an entropy."""


class TokenGrammars:
    """The grammars of one model's replies."""

    def __init__(self, tokenizer: Any, *, vocab_size: int) -> None:
        """A tokenizer of transformers, and the model's number of logits V."""
        from xgrammar import GrammarCompiler, TokenizerInfo  # not above: runs without grammars do without it

        info = TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocab_size)
        self._compiler = GrammarCompiler(info, cache_limit_bytes=CACHE_BYTES)
        self.vocab_size = vocab_size

    def reply(self, grammar: str, stop_ids: Sequence[int]) -> ReplyMatcher:
        """What follows one reply from its start to one of the ids that end it."""
        from xgrammar import GrammarMatcher

        compiled = self._compiler.compile_structural_tag(grammar)
        matcher = GrammarMatcher(compiled, override_stop_tokens=list(stop_ids))
        return ReplyMatcher(matcher, self.vocab_size)

    def masks(self, grammar: str, stop_ids: Sequence[int], sampled_ids: Sequence[int]) -> NDArray[np.int32]:
        """[T, ceil(V / 32)]: for each sampled id, what might have been sampled in its place.

        Raises:
            EngineError: the ids are not a reply of this grammar, or the beginning of one.
        """
        matcher = self.reply(grammar, stop_ids)
        words = []
        for token_id in sampled_ids:
            words.append(matcher.allowed().copy())
            matcher.accept(token_id)
        return np.stack(words)


class ReplyMatcher:
    """Where in its grammar a reply is."""

    def __init__(self, matcher: GrammarMatcher, vocab_size: int) -> None:
        """`matcher` at the start of the reply."""
        from xgrammar import allocate_token_bitmask

        self._matcher = matcher
        self._bitmask = allocate_token_bitmask(1, vocab_size)

    def allowed(self) -> NDArray[np.int32]:
        """[ceil(V / 32)]: id i may come next where bit i % 32 of word i // 32 is set; good until the next call."""
        self._matcher.fill_next_token_bitmask(self._bitmask)
        words: NDArray[np.int32] = self._bitmask[0].numpy()
        return words

    def accept(self, token_id: int) -> None:
        """The id that was sampled next.

        Raises:
            EngineError: it was not allowed.
        """
        if not self._matcher.accept_token(token_id):
            raise EngineError(
                f"token id {token_id} was sampled against the reply's grammar: do engine and trainer have one "
                "tokenizer and one version of xgrammar?"
            )


def token_grammars(model_path: str) -> TokenGrammars:
    """Those of a checkpoint's replies, a directory or hub id."""
    vocab_size = AutoConfig.from_pretrained(model_path).get_text_config().vocab_size
    return TokenGrammars(AutoTokenizer.from_pretrained(model_path), vocab_size=vocab_size)


def everything(vocab_size: int) -> NDArray[np.int32]:
    """The mask that allows all V ids."""
    return np.full(-(-vocab_size // WORD), -1, np.int32)


def masked(logits_KV: Tensor, words_KW: Tensor) -> Tensor:
    """[K, V]: the logits, and `NEVER` where the masks [K, ceil(V / 32)] forbid an id."""
    shifts = torch.arange(WORD, dtype=torch.int32, device=logits_KV.device)
    bits_KV = ((words_KW[:, :, None] >> shifts) & 1).flatten(1)[:, : logits_KV.shape[-1]]
    return logits_KV.masked_fill(bits_KV == 0, NEVER)
