"""One episode token by token: what was sampled how surely, and what its calls share.

In: the calls that `Run.texts` reads. Out: frames to show or to plot. Texts of tokens come from the tokenizer that lies
with the run's newest checkpoint, or that the run started with; without one a token is written as its id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from ajet.analysis.runs import Run
from ajet.tracking.files.checkpoints import TOKENIZER, damage, newest_sound
from ajet.train.timeline import build_tree

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(run: Run) -> Tokenizer | None:
    """The tokenizer of the run's newest checkpoint, or the one that it started with; None if it keeps neither whole."""
    newest, _ = newest_sound(run.path, only=[f"model/{TOKENIZER_FILE}"])
    if newest is not None:
        return Tokenizer.from_file(str(newest / "model" / TOKENIZER_FILE))
    kept = run.path / TOKENIZER
    sound = damage(kept, only=[TOKENIZER_FILE]) is None
    return Tokenizer.from_file(str(kept / TOKENIZER_FILE)) if sound else None


def sampled_tokens(call: pd.Series, tokenizer: Tokenizer | None) -> pd.DataFrame:
    """One row a sampled token of a call.

    Columns: id, text, logprob (in nats, under the distribution sampled from), probability.
    """
    frame = pd.DataFrame({"id": call["sampled_ids"], "logprob": call["logprobs"]})
    frame.insert(1, "text", token_texts(frame["id"].tolist(), tokenizer))
    return frame.assign(probability=np.exp(frame["logprob"]))


def token_texts(ids: Sequence[int], tokenizer: Tokenizer | None) -> list[str]:
    """Each token's text by itself; of a character that is cut into several tokens every part shows as U+FFFD."""
    if tokenizer is None:
        return [str(token_id) for token_id in ids]
    return [tokenizer.decode([token_id], skip_special_tokens=False) for token_id in ids]


def shared_tokens(calls: pd.DataFrame) -> pd.DataFrame:
    """How much of every trained call had been computed for an earlier one: the prefix tree that training merges.

    Calls without tokens are left out.

    Returns:
        The calls' agent, tag and call_index, with `num_tokens` (prompt and reply) and `num_new`, those that extend no
        earlier call of the frame. The sum of `num_new` is the number of nodes of the tree.
    """
    spoken = calls[calls["sampled_ids"].map(len) > 0]
    rows = [[*prompt, *sampled] for prompt, sampled in zip(spoken["prompt_ids"], spoken["sampled_ids"], strict=True)]
    known, num_new = 0, []
    for nodes in build_tree(rows).row_nodes:
        # Nodes are numbered as they are met, so a row's new ones are those above all earlier numbers.
        num_new.append(sum(node >= known for node in nodes))
        known += num_new[-1]
    counts = {"num_tokens": [len(row) for row in rows], "num_new": num_new}
    return spoken[["agent", "tag", "call_index"]].assign(**counts).reset_index(drop=True)


def first_difference(one: pd.DataFrame, other: pd.DataFrame) -> int | None:
    """The place of the first call in which two episodes of a task part; None where they are the same.

    Args:
        one: the calls of an episode, as `Run.texts` gives them.
        other: those of the other.
    """
    key = ["agent", "reply"]
    pairs = zip(one[key].itertuples(index=False), other[key].itertuples(index=False), strict=False)
    for place, (left, right) in enumerate(pairs):
        if left != right:
            return place
    return None if len(one) == len(other) else min(len(one), len(other))
