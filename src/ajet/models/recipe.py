"""How the shipped small model is made: `python -m ajet.models.recipe out=<folder>`.

In: nothing but seeds. Out: a checkpoint in Hugging Face format, `recipe.json` with every number of its making. Steps:
transcripts of scripted play in the real workflows (every decision sensible or random by a coin, so good and bad ones
lie side by side), a tokenizer, short documents that teach copying, fitting, and a
second fit on games with slips, after which a model must go on. The same seeds give the same model on the
same machine, and a recipe that was cut off goes on where it was. What the model can do is measured apart, by
`experiments/small_model/gates.py`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from ajet.config.root import Config
from ajet.models.copying import copying_rows
from ajet.models.fitting import FitSettings, Row, fit
from ajet.models.tokenizer import END, PAD, train_tokenizer
from ajet.models.transcripts import play_transcripts
from ajet.records import TrainingSample
from ajet.workflow import Workflow
from ajet.workflows.loading import load_workflow

MAX_CONTEXT = 4096
VOCAB_SIZE = 640
SENSE = 0.35
"""Probability that a teacher's decision is sensible: the model starts as a partly sensible player."""
SLIP = 0.06
"""Probability that a teacher of the second fit answers wrongly; its slips are read, not imitated."""
PROMPT_WEIGHT = 0.1
"""Weight of tokens that the model only reads; replies have weight 1."""
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
COPY_SHARE = 0.25
"""Share of the fit that is copying documents alone; later they are a tenth of the rows."""

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
    """No code at all: any word, any object."""
    return {"accuracy": 0.0}


TABLES: dict[str, tuple[Callable[[random.Random], Workflow], Callable[[str, random.Random], dict[str, float]]]] = {
    "werewolves": (werewolves_table, werewolves_params),
    "signals": (signals_table, signals_params),
}


def play(game: str, tokenizer_folder: str, slip: float, numbers: Sequence[int]) -> list[TrainingSample]:
    """Transcripts of one workflow; a process of its own may run this."""
    torch.set_num_threads(1)
    make_workflow, make_params = TABLES[game]
    return play_transcripts(
        make_workflow,
        config=Config(),
        tokenizer=AutoTokenizer.from_pretrained(tokenizer_folder),
        make_params=make_params,
        games=numbers,
        stream=f"recipe-{game}" if slip == 0 else f"recipe-{game}-slips",
        slip=slip,
    )


def play_in_parallel(
    game: str, tokenizer_folder: Path, num_games: int, num_processes: int, slip: float = 0.0
) -> list[TrainingSample]:
    """The transcripts of games 0 to `num_games`, in that order."""
    size = -(-num_games // (4 * num_processes))
    chunks = [range(start, min(start + size, num_games)) for start in range(0, num_games, size)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        parts = pool.map(partial(play, game, str(tokenizer_folder), slip), chunks, chunksize=1)
    return [row for part in parts for row in part]


def fit_rows(samples: Sequence[TrainingSample]) -> list[Row]:
    """Rows with weights, shortest first."""
    rows = [(s.token_ids, (0.0, *(1.0 if masked else PROMPT_WEIGHT for masked in s.loss_mask[1:]))) for s in samples]
    return sorted(rows, key=lambda row: (len(row[0]), row[0]))


def make_tokenizer(folder: Path, num_processes: int) -> None:
    """A byte tokenizer plays a few games, and the texts that it read make the real one."""
    train_tokenizer([], vocab_size=300, max_context=MAX_CONTEXT).save_pretrained(folder / "bytes")
    byte_tokenizer = AutoTokenizer.from_pretrained(folder / "bytes")
    texts = [
        str(byte_tokenizer.decode(list(row.token_ids)))
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the checkpoint")
    parser.add_argument("--werewolves-games", type=int, default=1300)
    parser.add_argument("--signals-games", type=int, default=2500)
    parser.add_argument("--steps", type=int, default=1150)
    parser.add_argument("--tokens-per-step", type=int, default=8192)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--slip-games", type=int, default=500)
    parser.add_argument("--mending-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    started = time.perf_counter()
    work = arguments.out / ".work"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer" / "tokenizer.json").exists():
        make_tokenizer(work, arguments.processes)
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    werewolves = _kept(work, "werewolves", arguments.werewolves_games, arguments.processes)
    signals = _kept(work, "signals", arguments.signals_games, arguments.processes)
    copying = fit_rows(copying_rows(tokenizer, num_rows=20_000, seed=arguments.seed))
    played = fit_rows([*werewolves, *signals])
    mixed = sorted([*played, *copying[:: max(1, 10 * len(copying) // len(played))]], key=lambda row: len(row[0]))
    model = make_model(tokenizer, arguments.seed)
    settings = FitSettings(
        num_steps=arguments.steps,
        tokens_per_step=arguments.tokens_per_step,
        learning_rate=arguments.learning_rate,
        warmup_steps=50,
        save_every=100,
        seed=arguments.seed,
    )
    loss = fit(model, [(COPY_SHARE, copying), (1.0, mixed)], settings, work / "fit.pt")
    slips = _kept(work, "werewolves", arguments.slip_games, arguments.processes, slip=SLIP)
    mending = sorted([*fit_rows([*slips, *signals]), *copying[::10]], key=lambda row: len(row[0]))
    mend = replace(settings, num_steps=arguments.mending_steps, learning_rate=settings.learning_rate / 3)
    mended_loss = fit(model, [(1.0, mending)], mend, work / "mend.pt")
    model.float().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    record = {
        "settings": {key: str(value) for key, value in vars(arguments).items() if key != "out"},
        "architecture": ARCHITECTURE,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sense": SENSE,
        "num_rows": {"werewolves": len(werewolves), "signals": len(signals), "copying": len(copying)},
        "num_tokens": sum(len(ids) for ids, _ in mixed),
        "final_loss": {"fit": loss, "mending": mended_loss},
        "seconds": round(time.perf_counter() - started),
        "torch": torch.__version__,
    }
    (arguments.out / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")


def _kept(work: Path, game: str, num_games: int, num_processes: int, slip: float = 0.0) -> list[TrainingSample]:
    """The game's transcripts, from an earlier start of this recipe if they are there."""
    path = work / (f"{game}_{num_games}.pt" if slip == 0 else f"{game}_{num_games}_slips.pt")
    if not path.exists():
        samples = play_in_parallel(game, work / "tokenizer", num_games, num_processes, slip)
        torch.save([(s.token_ids, s.loss_mask, s.target_tag) for s in samples], path)
    return [
        TrainingSample(
            episode_key=(game, 0),
            agent_name="",
            target_tag=tag,
            token_ids=ids,
            loss_mask=mask,
            logprobs=(0.0,) * len(ids),
            advantage=1.0,
        )
        for ids, mask, tag in torch.load(path, weights_only=True)
    ]


if __name__ == "__main__":
    main()
