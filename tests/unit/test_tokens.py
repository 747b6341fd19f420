"""An episode token by token, from its run directory alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from tests.run_dirs import make_run
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import WordLevel

from ajet.analysis import load_run
from ajet.analysis.plots import plot_tokens
from ajet.analysis.tokens import first_difference, load_tokenizer, sampled_tokens, shared_tokens
from ajet.tracking.files.checkpoints import seal


def save_tokenizer(folder: Path, word: str) -> None:
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, word: 7, "Ġ$5": 8}, unk_token="<unk>"))
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.save(str(folder / "tokenizer.json"))


def texts_of(run: Path, *, repeat: int = 0) -> pd.DataFrame:
    return load_run(run).texts(split="train", step=0, task="train-0", repeat=repeat)


def test_the_texts_of_an_episode_come_with_its_tokens(tmp_path: Path) -> None:
    texts = texts_of(make_run(tmp_path / "run"))
    assert [list(ids) for ids in texts["sampled_ids"]] == [[7, 8], [], [7, 8]]
    assert list(texts["prompt_ids"].iloc[0]) == [1, 2, 3] and list(texts["logprobs"].iloc[2]) == [-1.0, -2.0]


def test_tokens_are_read_with_the_tokenizer_of_the_newest_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    # The tenth step comes after the ninth.
    for name, word in (("step_9", "old"), ("step_10", "new"), ("step_11", "of no checkpoint")):
        save_tokenizer(run / "checkpoints" / name / "model", word)
    for name in ("step_9", "step_10"):
        seal(run / "checkpoints" / name)
    tokens = sampled_tokens(texts_of(run).iloc[0], load_tokenizer(load_run(run)))
    assert tokens["text"].tolist() == ["new", " $5"] and tokens["logprob"].tolist() == [-1.0, -2.0]
    assert tokens["probability"].tolist() == pytest.approx([0.367879, 0.135335], abs=1e-5)


def test_a_damaged_tokenizer_is_passed_over_and_before_the_first_checkpoint_the_starting_models_is_read(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "run")
    for folder, word in (("checkpoints/step_1", "damaged"), ("tokenizer", "start")):
        inner = "model" if folder.startswith("checkpoints") else ""
        save_tokenizer(run / folder / inner, word)
        seal(run / folder)
    (run / "checkpoints/step_1/model/tokenizer.json").write_text("{")
    assert sampled_tokens(texts_of(run).iloc[0], load_tokenizer(load_run(run)))["text"].tolist()[0] == "start"
    (run / "tokenizer" / "tokenizer.json").write_text("{")
    assert load_tokenizer(load_run(run)) is None


def test_without_a_checkpoint_tokens_are_their_ids(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    tokenizer = load_tokenizer(load_run(run))
    assert tokenizer is None
    assert sampled_tokens(texts_of(run).iloc[0], tokenizer)["text"].tolist() == ["7", "8"]


def test_a_call_is_new_only_beyond_what_earlier_calls_share_with_it() -> None:
    # 1 2 3 then 1 2 3 4 5 (extends it), 1 2 9 (leaves it after two), and one agent that sampled nothing.
    calls = pd.DataFrame(
        {
            "agent": ["P1", "P1", "wolf", "P2"],
            "tag": ["seer", "seer", "werewolf", "witch"],
            "call_index": [0, 1, 2, 3],
            "prompt_ids": [[1, 2], [1, 2, 3, 4], [], [1, 2]],
            "sampled_ids": [[3], [5], [], [9]],
        }
    )
    shared = shared_tokens(calls)
    assert shared["call_index"].tolist() == [0, 1, 3]
    assert shared["num_tokens"].tolist() == [3, 5, 3] and shared["num_new"].tolist() == [3, 2, 1]


def test_two_episodes_part_where_a_reply_differs_or_one_ends() -> None:
    def calls(*replies: str) -> pd.DataFrame:
        return pd.DataFrame({"agent": ["P1"] * len(replies), "reply": replies})

    assert first_difference(calls("a", "b", "c"), calls("a", "x", "c")) == 1
    assert first_difference(calls("a", "b"), calls("a", "b", "c")) == 2
    assert first_difference(calls("a"), calls("a")) is None


def test_the_plot_of_tokens_writes_what_a_reader_could_not_see_and_draws_no_formula() -> None:
    figure = plot_tokens(pd.DataFrame({"text": ["\n", "$a$", "é"], "probability": [1.0, 0.5, 0.25]}))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [r"\n", r"\$a\$", r"\xe9"]
    assert [bar.get_width() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)] == [1.0, 0.5, 0.25]
    figure.draw_without_rendering()
