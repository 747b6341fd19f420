"""What a step would take at least: `python experiments/werewolves_cpu/raw_speed.py <run dir> [--step 5]`.

In: a run directory with the trajectories of a step. Out: seconds of (1) vLLM alone on that step's prompts of the
trained roles, all handed over at once, each for as many tokens as were sampled, and (2) a bare forward and backward
over the step's packs, without loss, reference or optimizer; and the run's own seconds over them. Left out of (1), and
so for free: that an agent's next prompt has to wait for its last reply and for the other players.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import pyarrow.parquet as pq
import torch
from vllm import LLM, SamplingParams
from vllm.inputs import tokens_input

from ajet.assemble.policies import load_model
from ajet.config.compose import compose
from ajet.config.model import resolve_model_path
from ajet.config.root import Config
from ajet.engine.vllm_settings import CPU_BATCHED_TOKENS
from ajet.records import Call, Episode, EpisodeGroup, Task
from ajet.tracking.files.reading import read_metric_lines
from ajet.train.algorithms.rule import learning_rule
from ajet.train.attention import ancestor_mask
from ajet.train.batch import build_batch
from ajet.train.clock import PhaseClock
from ajet.train.packing import Pack, subtree_ends


def trained_calls(path: Path) -> list[dict[str, Any]]:
    """The policy's calls, in the order of the games."""
    columns = [
        "task",
        "repeat",
        "agent",
        "tag",
        "call_index",
        "trained",
        "prompt_ids",
        "sampled_ids",
        "logprobs",
        "reward",
    ]
    rows: list[dict[str, Any]] = [row for row in pq.read_table(path, columns=columns).to_pylist() if row["trained"]]
    return sorted(rows, key=lambda row: row["call_index"])


def sampling_seconds(calls: Sequence[Mapping[str, Any]], config: Config, model_path: str) -> float:
    """vLLM's own offline loop, with the run's engine settings."""
    threads = config.hardware.sampling_threads
    set_num_threads = torch.set_num_threads
    llm = LLM(
        model=model_path,
        dtype=config.model.dtype,
        max_model_len=config.model.max_context,
        max_num_seqs=config.engine.max_concurrency,
        max_num_batched_tokens=max(CPU_BATCHED_TOKENS, config.model.max_context),
        enable_chunked_prefill=False,
        block_size=config.engine.block_size,
        kv_cache_memory_bytes=int((config.engine.kv_cache_gib or 1.0) * 2**30),
        enforce_eager=True,
        skip_tokenizer_init=True,
        logprobs_mode="processed_logprobs",
        distributed_executor_backend="uni",
    )
    torch.set_num_threads = set_num_threads
    torch.set_num_threads(threads or torch.get_num_threads())
    prompts = [tokens_input(call["prompt_ids"]) for call in calls]
    params = [
        SamplingParams(
            temperature=config.rollout.temperature,
            max_tokens=len(call["sampled_ids"]),
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
            seed=i,
        )
        for i, call in enumerate(calls)
    ]
    started = time.perf_counter()
    llm.generate(prompts, params, use_tqdm=False)
    return time.perf_counter() - started


def packs_of(calls: Sequence[Mapping[str, Any]], config: Config) -> list[Pack]:
    """The very packs that the step was trained on."""
    games: dict[str, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        games[call["task"]][call["repeat"]].append(call)
    groups = [
        EpisodeGroup(task=Task(task_id=task), episodes=tuple(episode(task, n, repeats[n]) for n in sorted(repeats)))
        for task, repeats in games.items()
    ]
    batch = build_batch(
        groups,
        learning_rule(config.algorithm),
        PhaseClock(),
        branching_packs=True,
        costs=config.hardware.costs,
    )
    return [pack for minibatch in batch.minibatches for pack in minibatch]


def episode(task: str, repeat: int, calls: Sequence[Mapping[str, Any]]) -> Episode:
    """One game as it was recorded, as far as training needs it."""
    return Episode(
        task=Task(task_id=task),
        repeat=repeat,
        status="ok",
        rewards={call["agent"]: call["reward"] for call in calls},
        agent_tags={call["agent"]: call["tag"] for call in calls},
        calls=tuple(
            Call(
                index=call["call_index"],
                agent_name=call["agent"],
                target_tag=call["tag"],
                trained=True,
                messages=(),
                reply="",
                prompt_ids=tuple(call["prompt_ids"]),
                sampled_ids=tuple(call["sampled_ids"]),
                logprobs=tuple(call["logprobs"]),
            )
            for call in calls
        ),
    )


def update_seconds(packs: Sequence[Pack], config: Config, model_path: str) -> float:
    """Forward and backward over every pack, one after the other."""
    torch.set_num_threads(config.hardware.training_threads or torch.get_num_threads())
    model = load_model(config.model, config.hardware, model_path, torch.float32)
    started = time.perf_counter()
    for pack in packs:
        mask = None if pack.is_chain else ancestor_mask(torch.from_numpy(subtree_ends(pack.parents)))[None, None]
        logits = model(
            input_ids=torch.from_numpy(pack.token_ids)[None],
            position_ids=torch.from_numpy(pack.positions)[None],
            attention_mask=mask,
            logits_to_keep=torch.unique(torch.from_numpy(pack.predictors)),
            use_cache=False,
        ).logits
        torch.log_softmax(logits[0], -1)[:, 0].sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Print the seconds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--step", type=int, default=5)
    arguments = parser.parse_args()
    config = compose.load(arguments.run_dir)
    model_path = resolve_model_path(config.model.path)
    calls = trained_calls(arguments.run_dir / "trajectories" / f"train_{arguments.step:06d}.parquet")
    line = next(
        line for line in read_metric_lines(arguments.run_dir / "metrics.jsonl") if line["step"] == arguments.step
    )
    packs = packs_of(calls, config)
    num_unique = sum(len(pack.token_ids) for pack in packs)
    assert num_unique == line["tokens/unique"], "these are not the step's packs"
    seconds = {
        "rollout": sampling_seconds(calls, config, model_path),
        "update": update_seconds(packs, config, model_path),
    }
    print(f"step {arguments.step}: {len(calls)} calls, {len(packs)} packs of {num_unique} unique tokens\n")
    print("| phase | the run, s | raw, s | ratio |\n|---|---|---|---|")
    for phase, raw in seconds.items():
        print(f"| {phase} | {line[f'time/{phase}']:.1f} | {raw:.1f} | {line[f'time/{phase}'] / raw:.2f} |")
    whole = line["time/rollout"] + line["time/update"]
    print(f"| both | {whole:.1f} | {sum(seconds.values()):.1f} | {whole / sum(seconds.values()):.2f} |")


if __name__ == "__main__":
    main()
