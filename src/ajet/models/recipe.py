"""How the shipped small model is made: `python -m ajet.models.recipe out=<folder>`.

In: nothing but seeds. Out: a checkpoint in Hugging Face format, `recipe.json` with every number of its making. Steps:
transcripts of scripted play in the real workflows (every decision sensible or random by a coin, so good and bad ones
lie side by side), some of them with slips after which a model must go on; a tokenizer; short documents that teach
copying; a fit; and what the model can do then (`gates.py`). The same seeds give the same model on the same machine, and
a recipe that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from ajet.config.root import Config
from ajet.models.copying import copying_rows
from ajet.models.fitting import FitSettings, Row, fit
from ajet.models.gates import print_gates
from ajet.models.tokenizer import END, PAD, train_tokenizer
from ajet.models.transcripts import Transcript, play_transcripts
from ajet.workflow import Workflow
from ajet.workflows.loading import load_workflow
from ajet.workflows.signals.game import DIALECTS

MAX_CONTEXT = 4096
VOCAB_SIZE = 640
SENSE = 0.35
"""Probability that a teacher's decision is sensible: the model starts as a partly sensible player."""
SLIP = 0.06
"""Probability that a teacher answers wrongly, in the games with slips; a slip is read, not imitated."""
DIALECT = 0.4
"""How often a signalling teacher keeps to its dialect, beyond chance: what is said depends on what is shown."""
PROMPT_WEIGHT, DECISION_WEIGHT = 0.1, 3.0
"""Weight of a token that the model only reads, and of one where a reply could go on in several ways; others have 1."""
PHRASES = (
    "<history>\n",
    "\n</history>",
    "Successfully generated response.",
    "generate_response(",
    '{"name": "generate_response", "arguments": {"target": "',
    '{"name": "generate_response", "arguments": {"say": "',
    '{"name": "generate_response", "arguments": {"save": ',
    '", "target": "',
    '"}}',
    "Moderator: ",
)
"""What AgentScope and the moderator write around every decision, one token each."""
NUM_TOKENIZER_GAMES = 40
ROW_FIELDS = ("ids_T", "places_E", "targets_E", "weights_E")
COPY_SHARE = 0.15
"""Share of the fit that is copying documents alone; the rest is games."""

ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": MAX_CONTEXT,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "tie_word_embeddings": True,
}


def werewolves_table(rng: random.Random) -> Workflow:
    """Mostly the nine-player table, sometimes smaller ones."""
    sizes: tuple[dict[str, Any], ...] = (
        {},
        {},
        {},
        {"num_werewolves": 2, "num_villagers": 2, "has_hunter": False},
        {"num_werewolves": 2, "num_villagers": 1},
    )
    return load_workflow("werewolves")(**rng.choice(sizes), trainable_targets=["seer"])


def signals_table(rng: random.Random) -> Workflow:
    """Any number of objects and words."""
    return load_workflow("signals")(num_objects=rng.randint(2, 8), num_words=rng.randint(2, 8))


def werewolves_params(tag: str, rng: random.Random) -> dict[str, float]:
    """Every role decides sensibly with the same probability, and for reasons that its own notes show."""
    return {"sense": SENSE, "insight": 0.0}


def signals_params(tag: str, rng: random.Random) -> dict[str, float]:
    """Each side keeps to a dialect of its own now and then, and the two agree no more often than chance."""
    return {"accuracy": DIALECT, "code": DIALECTS}


TABLES: dict[str, tuple[Callable[[random.Random], Workflow], Callable[[str, random.Random], dict[str, float]]]] = {
    "werewolves": (werewolves_table, werewolves_params),
    "signals": (signals_table, signals_params),
}


def play(game: str, tokenizer_folder: str, slip: float, numbers: Sequence[int]) -> list[Row]:
    """Rows of one workflow's games; a process of its own may run this."""
    torch.set_num_threads(1)
    make_workflow, make_params = TABLES[game]
    transcripts = play_transcripts(
        make_workflow,
        config=Config(),
        tokenizer=AutoTokenizer.from_pretrained(tokenizer_folder),
        make_params=make_params,
        games=numbers,
        stream=f"recipe-{game}" if slip == 0 else f"recipe-{game}-slips",
        slip=slip,
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


def play_in_parallel(
    game: str, tokenizer_folder: Path, num_games: int, num_processes: int, slip: float = 0.0
) -> list[Row]:
    """The rows of games 0 to `num_games`, in that order."""
    size = -(-num_games // (4 * num_processes))
    chunks = [range(start, min(start + size, num_games)) for start in range(0, num_games, size)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        parts = pool.map(partial(play, game, str(tokenizer_folder), slip), chunks, chunksize=1)
    return [row for part in parts for row in part]


def by_length(rows: Sequence[Row]) -> list[Row]:
    """Shortest first, whatever order they came in."""
    return sorted(rows, key=lambda row: (len(row.ids_T), row.ids_T.tolist()))


def make_tokenizer(folder: Path, num_processes: int) -> None:
    """A byte tokenizer plays a few games, and the texts that it read make the real one."""
    train_tokenizer([], vocab_size=300, max_context=MAX_CONTEXT).save_pretrained(folder / "bytes")
    byte_tokenizer = AutoTokenizer.from_pretrained(folder / "bytes")
    texts = [
        str(byte_tokenizer.decode(row.ids_T.tolist()))
        for game in TABLES
        for row in play_in_parallel(game, folder / "bytes", NUM_TOKENIZER_GAMES, num_processes)
    ]
    tokenizer = train_tokenizer(sorted(texts), vocab_size=VOCAB_SIZE, max_context=MAX_CONTEXT, phrases=PHRASES)
    tokenizer.save_pretrained(folder / "tokenizer")


def make_model(tokenizer: Any, seed: int) -> Any:
    """The untrained transformer."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        **ARCHITECTURE,
    )
    return Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]


def main() -> None:
    """Make the model; progress and intermediate results lie in `<out>/.work`."""
    arguments = parsed_arguments()
    started = time.perf_counter()
    work = arguments.out / ".work"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer" / "tokenizer.json").exists():
        make_tokenizer(work, arguments.processes)
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    rows = {
        "werewolves": kept(work, "werewolves", arguments.werewolves_games, arguments.processes),
        "slips": kept(work, "werewolves", arguments.slip_games, arguments.processes, slip=SLIP),
        "signals": kept(work, "signals", arguments.signals_games, arguments.processes),
    }
    copying = [make_row(row) for row in copying_rows(tokenizer, num_rows=20_000, seed=arguments.seed)]
    model = make_model(tokenizer, arguments.seed)
    settings = FitSettings(
        num_steps=arguments.steps,
        tokens_per_step=arguments.tokens_per_step,
        learning_rate=arguments.learning_rate,
        matrix_learning_rate=arguments.matrix_learning_rate,
        warmup_steps=50,
        save_every=100,
        seed=arguments.seed,
    )
    stages = [(COPY_SHARE, by_length(copying)), (1.0, by_length([row for part in rows.values() for row in part]))]
    loss = fit(model, stages, settings, work / "fit.pt")
    model.float().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    record = {
        "settings": {key: str(value) for key, value in vars(arguments).items() if key != "out"},
        "architecture": ARCHITECTURE,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sense": SENSE,
        "num_rows": {name: len(part) for name, part in rows.items()} | {"copying": len(copying)},
        "num_tokens": sum(len(row.ids_T) for part in rows.values() for row in part),
        "final_loss": loss,
        "seconds": round(time.perf_counter() - started),
        "torch": torch.__version__,
    }
    (arguments.out / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")
    print_gates(str(arguments.out), num_games=arguments.gate_games, sense=SENSE)


def parsed_arguments() -> argparse.Namespace:
    """What can be set; the defaults made the shipped model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the checkpoint")
    parser.add_argument("--werewolves-games", type=int, default=1300)
    parser.add_argument("--slip-games", type=int, default=500)
    parser.add_argument("--signals-games", type=int, default=2500)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--tokens-per-step", type=int, default=8192)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--matrix-learning-rate", type=float, default=0.02)
    parser.add_argument("--gate-games", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def kept(work: Path, game: str, num_games: int, num_processes: int, slip: float = 0.0) -> list[Row]:
    """The game's rows, from an earlier start of this recipe if they are there."""
    path = work / (f"{game}_{num_games}.pt" if slip == 0 else f"{game}_{num_games}_slips.pt")
    if not path.exists():
        rows = play_in_parallel(game, work / "tokenizer", num_games, num_processes, slip)
        torch.save([{name: torch.from_numpy(getattr(row, name)) for name in ROW_FIELDS} for row in rows], path)
    stored = torch.load(path, weights_only=True)
    return [Row(**{name: tensor.numpy() for name, tensor in row.items()}) for row in stored]


if __name__ == "__main__":
    main()
