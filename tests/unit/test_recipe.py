"""The small models' recipe: it goes on where it was cut off, and never from what other settings have left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recipes.small_models.fitting import FitSettings, Row, fit
from recipes.small_models.gates import MEASURES, mixture_of
from recipes.small_models.mixtures import MIXTURES
from recipes.small_models.rows import digest, kept, rows_path
from transformers import Qwen3Config, Qwen3ForCausalLM

from ajet.errors import ConfigError

SETTINGS = FitSettings(
    num_steps=2,
    tokens_per_step=8,
    learning_rate=0.01,
    matrix_learning_rate=0.01,
    warmup_steps=1,
    save_every=1,
    seed=0,
)


def row(*ids: int) -> Row:
    """A text that is predicted from its second token on."""
    places = np.arange(1, len(ids), dtype=np.int16)
    return Row(
        ids_T=np.array(ids, np.int16),
        places_E=places,
        targets_E=np.array(ids[1:], np.int16),
        weights_E=np.ones(len(places), np.float32),
    )


ROWS = [row(1, 2, 3), row(2, 3, 4, 5), row(5, 4, 3, 2, 1)]


def model() -> Qwen3ForCausalLM:
    """One small layer, always the same."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
    )
    return Qwen3ForCausalLM(config)


def test_every_mixture_is_measured() -> None:
    assert MEASURES.keys() == MIXTURES.keys()


def test_a_fit_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, cut, resumed = model(), model(), model()
    loss = fit(whole, [(1.0, ROWS)], SETTINGS, tmp_path / "whole.pt")
    # Without rows for its second half it ends after the first step, whose progress is kept.
    with pytest.raises(ValueError, match="empty range"):
        fit(cut, [(0.5, ROWS), (1.0, [])], SETTINGS, tmp_path / "cut.pt")
    assert fit(resumed, [(1.0, ROWS)], SETTINGS, tmp_path / "cut.pt") == loss
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name
    assert any(not torch.equal(cut.state_dict()[name], weight) for name, weight in whole.state_dict().items())


def test_rows_are_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "part.pt"
    made: list[int] = []

    def make() -> list[Row]:
        made.append(1)
        return ROWS

    first, again = kept(path, make), kept(path, make)
    assert made == [1] and [file.name for file in tmp_path.iterdir()] == ["part.pt"]
    for read in (first, again):
        assert [one.ids_T.tolist() for one in read] == [[1, 2, 3], [2, 3, 4, 5], [5, 4, 3, 2, 1]]
        assert [one.weights_E.dtype for one in read] == [np.float32] * 3


def test_a_file_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "part.partial").write_bytes(b"half of a")
    assert len(kept(tmp_path / "part.pt", lambda: ROWS)) == 3


def test_rows_of_another_tokenizer_or_number_of_games_have_another_file(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
        (folder / "tokenizer.json").write_text(folder.name)
    paths = {rows_path(tmp_path, "tiny", "signals", folder, num) for folder in folders for num in (10, 20)}
    assert len(paths) == 4
    assert digest(SETTINGS, 1) == digest(SETTINGS, 1) != digest(SETTINGS, 2)


def test_a_checkpoint_tells_its_mixture(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no recipe\.json: name the mixture, tiny or tiny_tasks"):
        mixture_of(str(checkpoint))
    (checkpoint / "recipe.json").write_text('{"mixture": "tiny_tasks"}')
    assert mixture_of(str(checkpoint)) == "tiny_tasks"
    # The first recipe named none.
    assert mixture_of("builtin:tiny") == "tiny"
