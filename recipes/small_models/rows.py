"""A mixture's parts -> rows to fit: played on several processes, kept in a file.

In: a part of a mixture, a tokenizer's folder. Out: rows, the same for any number of processes. Left out: noticing that
the code which plays has changed; then the files have to go.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from recipes.small_models.fitting import Row
from recipes.small_models.mixtures import MIXTURES
from recipes.small_models.transcripts import Transcript, play_transcripts
from transformers import AutoTokenizer

from ajet.config.root import Config

PROMPT_WEIGHT, DECISION_WEIGHT = 0.1, 3.0
"""Weight of a token that the model only reads, and of one where a reply could go on in several ways; others have 1."""


def play(mixture: str, part: str, tokenizer_folder: str, numbers: Sequence[int]) -> list[Row]:
    """Rows of these games of a part; a process of its own may run this."""
    torch.set_num_threads(1)
    chosen = MIXTURES[mixture].parts[part]
    transcripts = play_transcripts(
        chosen.make_workflow,
        config=Config(),
        tokenizer=AutoTokenizer.from_pretrained(tokenizer_folder),
        make_params=chosen.make_params,
        make_task=chosen.make_task,
        games=numbers,
        stream=f"recipe-{part}",
        slips=chosen.slips,
    )
    return [make_row(transcript) for transcript in transcripts]


def make_row(transcript: Transcript) -> Row:
    """What to predict and with which weight."""
    places, targets, weights = [], [], []
    for place, odds in enumerate(transcript.odds):
        if odds is None:
            odds, weight = ((transcript.token_ids[place], 1.0),), PROMPT_WEIGHT
        else:
            weight = DECISION_WEIGHT if len(odds) > 1 else 1.0
        if place > 0:
            places += [place] * len(odds)
            targets += [token for token, _ in odds]
            weights += [weight * probability for _, probability in odds]
    return Row(
        ids_T=np.array(transcript.token_ids, dtype=np.int16),
        places_E=np.array(places, dtype=np.int16),
        targets_E=np.array(targets, dtype=np.int16),
        weights_E=np.array(weights, dtype=np.float32),
    )


def play_in_parallel(mixture: str, part: str, tokenizer_folder: Path, num_games: int, num_processes: int) -> list[Row]:
    """The rows of games 0 to `num_games`, in that order."""
    size = -(-num_games // (4 * num_processes))
    chunks = [range(start, min(start + size, num_games)) for start in range(0, num_games, size)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        parts = pool.map(partial(play, mixture, part, str(tokenizer_folder)), chunks, chunksize=1)
    return [row for rows in parts for row in rows]


def digest(*causes: object) -> str:
    """A short name for what something is made of: other causes, another name."""
    return hashlib.sha256(repr(causes).encode()).hexdigest()[:12]


def rows_path(work: Path, mixture: str, part: str, tokenizer_folder: Path, num_games: int) -> Path:
    """Where a part's rows are kept."""
    tokens = (tokenizer_folder / "tokenizer.json").read_text()
    slip_share = MIXTURES[mixture].parts[part].slips.share
    causes = digest(mixture, part, tokens, num_games, slip_share, PROMPT_WEIGHT, DECISION_WEIGHT)
    return work / f"{part}_{num_games}_{causes}.pt"


def kept(path: Path, make: Callable[[], list[Row]]) -> list[Row]:
    """The rows in the file, from an earlier start of the recipe; made and written where there is none."""
    if not path.exists():
        columns = [spec.name for spec in fields(Row)]
        partial_path = path.with_suffix(".partial")
        torch.save([{name: torch.from_numpy(getattr(row, name)) for name in columns} for row in make()], partial_path)
        partial_path.rename(path)
    stored = torch.load(path, weights_only=True)
    return [Row(**{name: tensor.numpy() for name, tensor in row.items()}) for row in stored]


def by_length(rows: Sequence[Row]) -> list[Row]:
    """Shortest first, whatever order they came in."""
    return sorted(rows, key=lambda row: (len(row.ids_T), row.ids_T.tolist()))
