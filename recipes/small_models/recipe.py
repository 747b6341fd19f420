"""How the shipped small models are made: `python -m recipes.small_models.recipe <folder> tiny|tiny_tasks`.

In: a mixture (`mixtures/`) and nothing but seeds. Out: a checkpoint in Hugging Face format, `recipe.json` with the
numbers that its steps were given. Steps: transcripts of scripted play in the real workflows, some of them with slips
after which a model must go on; a tokenizer; short documents that teach copying, where the mixture has them; a fit; and
what the model can do then (`gates.py`). The same seeds give the same model on the same machine, and a recipe that was
cut off resumes where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from recipes.small_models.copying import copying_rows
from recipes.small_models.fitting import FitSettings, fit
from recipes.small_models.gates import print_gates
from recipes.small_models.mixtures import MIXTURES
from recipes.small_models.rows import (
    DECISION_WEIGHT,
    PROMPT_WEIGHT,
    by_length,
    digest,
    kept,
    make_row,
    play_in_parallel,
    rows_path,
)
from recipes.small_models.tokenizer import END, PAD, train_tokenizer
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

MAX_CONTEXT = 4096

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


def made_tokenizer(work: Path, name: str, num_processes: int) -> Path:
    """The mixture's tokenizer, in a folder: a byte tokenizer plays a few games, and their texts make the real one."""
    mixture = MIXTURES[name]
    numbers = (mixture.tokenizer_parts, mixture.num_tokenizer_games, mixture.vocab_size, mixture.phrases)
    folder = work / f"tokenizer_{digest(name, *numbers)}"
    if folder.exists():
        return folder
    train_tokenizer([], vocab_size=300, max_context=MAX_CONTEXT).save_pretrained(work / "bytes")
    byte_tokenizer = AutoTokenizer.from_pretrained(work / "bytes")
    texts = [
        str(byte_tokenizer.decode(row.ids_T.tolist()))
        for part in mixture.tokenizer_parts
        for row in play_in_parallel(name, part, work / "bytes", mixture.num_tokenizer_games, num_processes)
    ]
    tokenizer = train_tokenizer(
        sorted(texts), vocab_size=mixture.vocab_size, max_context=MAX_CONTEXT, phrases=mixture.phrases
    )
    partial_folder = work / "tokenizer.partial"
    tokenizer.save_pretrained(partial_folder)
    partial_folder.rename(folder)
    return folder


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
    """Make the model; progress and intermediate results lie in `<out>/.work`, named after what they depend on."""
    arguments = parsed_arguments()
    mixture, settings = MIXTURES[arguments.mixture], fit_settings(arguments)
    started = time.perf_counter()
    work = arguments.out / ".work"
    work.mkdir(parents=True, exist_ok=True)
    folder = made_tokenizer(work, arguments.mixture, arguments.processes)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    num_games = {name: max(1, round(part.num_games * arguments.games_share)) for name, part in mixture.parts.items()}
    paths = {name: rows_path(work, arguments.mixture, name, folder, num) for name, num in num_games.items()}
    rows = {
        name: kept(paths[name], partial(play_in_parallel, arguments.mixture, name, folder, num, arguments.processes))
        for name, num in num_games.items()
    }
    copying = [make_row(row) for row in copying_rows(tokenizer, num_rows=mixture.num_copying_rows, seed=settings.seed)]
    model = make_model(tokenizer, settings.seed)
    stages = [
        (mixture.copying_share, by_length(copying)),
        (1.0, by_length([row for part in rows.values() for row in part])),
    ]
    causes = digest(settings, ARCHITECTURE, mixture.copying_share, len(copying), [path.name for path in paths.values()])
    loss = fit(model, stages, settings, work / f"fit_{causes}.pt")
    model.float().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    record = numbers_of(arguments.mixture, num_games, settings) | {
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "num_rows": {name: len(part) for name, part in rows.items()} | {"copying": len(copying)},
        "num_tokens": sum(len(row.ids_T) for part in rows.values() for row in part),
        "final_loss": loss,
        "seconds": round(time.perf_counter() - started),
    }
    (arguments.out / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")
    print_gates(str(arguments.out), arguments.mixture, num_games=arguments.gate_games, sense=mixture.sense)


def numbers_of(name: str, num_games: Mapping[str, int], settings: FitSettings) -> dict[str, Any]:
    """What a model is made with, as `recipe.json` holds it; how a game is set up is in the mixture's code alone."""
    mixture = MIXTURES[name]
    return {
        "mixture": name,
        "sense": mixture.sense,
        "num_games": dict(num_games),
        "slip_share": {part: mixture.parts[part].slips.share for part in num_games},
        "copying_share": mixture.copying_share,
        "prompt_weight": PROMPT_WEIGHT,
        "decision_weight": DECISION_WEIGHT,
        "vocab_size": mixture.vocab_size,
        "num_tokenizer_games": mixture.num_tokenizer_games,
        "fit": asdict(settings),
        "architecture": ARCHITECTURE,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def parsed_arguments() -> argparse.Namespace:
    """What can be set; a mixture's own numbers made the shipped model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the checkpoint")
    parser.add_argument("mixture", choices=MIXTURES, help="what the model learns from")
    parser.add_argument("--games-share", type=float, default=1.0, help="less than 1: fewer games, for a trial")
    parser.add_argument("--steps", type=int, help="default: the mixture's, as for all settings of the fit")
    parser.add_argument("--tokens-per-step", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--matrix-learning-rate", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--gate-games", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def fit_settings(arguments: argparse.Namespace) -> FitSettings:
    """The mixture's, with what the command line says in their place."""
    given = {
        "num_steps": arguments.steps,
        "tokens_per_step": arguments.tokens_per_step,
        "learning_rate": arguments.learning_rate,
        "matrix_learning_rate": arguments.matrix_learning_rate,
        "seed": arguments.seed,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(MIXTURES[arguments.mixture].fit, **chosen)


if __name__ == "__main__":
    main()
