"""Part `update`: tokens a second, model FLOP utilisation and peak memory of an update; packs against rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from experiments.gpu.measuring import (
    datasheet_flops,
    device_name,
    give_back,
    in_turns,
    measured_flops,
    peak_gib_of,
)
from experiments.gpu.passes import make_policy, packed_pass, padded_pass
from experiments.gpu.results import Result, Settings, Value
from experiments.gpu.rows import TAG, Groups, make_rows, packs_of, row_weights
from experiments.gpu.shapes import QWEN3_0_6B, QWEN3_4B, SMALL, Shape, make_model, update_flops

from ajet.config.model import LoraConfig
from ajet.plan.parts import CUDA_CONTEXT_GIB, ModelShape, Setup, Sizing
from ajet.plan.shapes import model_shape
from ajet.train.packing import Pack
from ajet.train.policy import TrainablePolicy

Row = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is measured, on a GPU or for a look whether it runs."""

    shapes: tuple[Shape, ...]
    long_rows: Groups
    """Rows that fill a pack each."""
    trees: Groups
    """Groups that fill a pack each when their prompt is computed once."""
    rounds: int
    side: int
    """Of the matrices whose product says what the device can do."""


FULL = Sizes(
    shapes=(QWEN3_0_6B, QWEN3_4B),
    long_rows=Groups(num_groups=2, group_size=1, num_prompt=2048, num_sampled=2048),
    trees=Groups(num_groups=2, group_size=8, num_prompt=1536, num_sampled=320),
    rounds=3,
    side=8192,
)
TINY = Sizes(
    shapes=(SMALL,),
    long_rows=Groups(num_groups=1, group_size=1, num_prompt=32, num_sampled=32),
    trees=Groups(num_groups=2, group_size=3, num_prompt=24, num_sampled=8),
    rounds=1,
    side=64,
)


def measure(settings: Settings) -> Result:
    """Every shape, with gradient checkpointing and without."""
    sizes, device = TINY if settings.small else FULL, torch.device(settings.device)
    best = measured_flops(device, side=sizes.side)
    steps: list[Row] = []
    ratios: list[Row] = []
    for shape in sizes.shapes:
        counts = _counts(shape)
        for recompute_layers, compiled in product((False, True), (False, True) if device.type == "cuda" else (False,)):
            about: Row = {"model": shape.name, "gradient_checkpointing": recompute_layers, "compile": compiled}
            how = {"recompute_layers": recompute_layers, "compiled": compiled}
            try:
                for step in _steps(shape, counts, sizes, device, best=best, **how):
                    steps.append(about | step)
                ratios.append(about | _ratios(shape, sizes, device, **how))
            except torch.OutOfMemoryError:
                plan = _planned_gib(counts, sizes.trees.num_unique, 0, device, recompute_layers=recompute_layers)
                steps.append(about | {"packs": "out of memory", "planned GiB": plan})
            give_back(device)  # not above: there the error still refers to what did not fit
    ceiling: list[Row] = [
        {"bf16 product of matrices, TFLOP/s": best / 1e12, "side": sizes.side, "datasheet": _datasheet(device)}
    ]
    tables = {"Steps of `train_batch`, bf16": steps, "Loss and backward of the same rows": ratios, "Ceiling": ceiling}
    return Result(tables=tables, notes=NOTES)


NOTES = (
    "MFU: operations that the pack needs, nothing that is computed again, over the datasheet's bf16 speed.",
    "Planned: what `ajet.plan` says of an update without an engine; measured: what torch has allocated at most.",
)


def _datasheet(device: torch.device) -> float | None:
    flops = datasheet_flops(device_name(device))
    return None if flops is None else flops / 1e12


def _steps(
    shape: Shape,
    counts: ModelShape,
    sizes: Sizes,
    device: torch.device,
    *,
    best: float,
    recompute_layers: bool,
    compiled: bool,
) -> Iterator[Row]:
    """Whole training steps: forward, backward, clipping, AdamW."""
    policy = make_policy(
        make_model(shape, device), device, bf16=True, recompute_layers=recompute_layers, compiled=compiled
    )
    for name, groups in (("rows", sizes.long_rows), ("trees", sizes.trees)):
        packs = packs_of(make_rows(groups, vocabulary=shape.vocabulary), max_tokens=groups.num_unique)
        yield {"packs": name} | _step(policy, shape, counts, packs, sizes.rounds, device, best, recompute_layers)


def _step(
    policy: TrainablePolicy,
    shape: Shape,
    counts: ModelShape,
    packs: Sequence[Pack],
    rounds: int,
    device: torch.device,
    best: float,
    recompute_layers: bool,
) -> Row:
    def step() -> None:
        policy.train_batch([packs], [TAG], num_steps_done=0)

    seconds = in_turns({"": step}, device, rounds=rounds)[""]
    measured = peak_gib_of(step, device)
    largest = max(len(pack.token_ids) for pack in packs)
    branching = 0 if all(pack.is_chain for pack in packs) else largest
    planned = _planned_gib(counts, largest, branching, device, recompute_layers=recompute_layers)
    speed = sum(update_flops(shape, pack) for pack in packs) / seconds
    datasheet = datasheet_flops(device_name(device))
    return {
        "tokens of a pack": largest,
        "seconds": seconds,
        "unique tokens/s": sum(len(pack.token_ids) for pack in packs) / seconds,
        "tokens of rows/s": sum(pack.num_row_tokens for pack in packs) / seconds,
        "MFU": None if datasheet is None else speed / datasheet,
        "share of the measured ceiling": speed / best,
        "peak GiB": measured,
        "planned GiB": planned,
        "planned / peak": planned / measured,
    }


def _ratios(shape: Shape, sizes: Sizes, device: torch.device, *, recompute_layers: bool, compiled: bool) -> Row:
    """Trees against the same rows, padded or one a pack, in turns."""
    policy = make_policy(
        make_model(shape, device), device, bf16=True, recompute_layers=recompute_layers, compiled=compiled
    )
    rows = make_rows(sizes.trees, vocabulary=shape.vocabulary)
    weights = row_weights(rows)
    trees, singles = packs_of(rows, max_tokens=sizes.trees.num_unique), packs_of(rows, max_tokens=1)
    # As many as hold about as many logits as a pack may: more would not fit the largest shape.
    at_once = max(1, sizes.trees.group_size // 4)
    sides = {
        "trees": lambda: packed_pass(policy, trees),
        "one row a pack": lambda: packed_pass(policy, singles),
        "padded rows": lambda: padded_pass(policy.model, rows, weights, bf16=True, rows_a_forward=at_once),
    }
    seconds = in_turns(sides, device, rounds=sizes.rounds)
    row: Row = {f"{name}, s": value for name, value in seconds.items()}
    row |= {f"{name} / trees": seconds[name] / seconds["trees"] for name in ("one row a pack", "padded rows")}
    row["tokens of rows / unique"] = sum(len(one.token_ids) for one in rows) / sum(len(p.token_ids) for p in trees)
    return row


def _counts(shape: Shape) -> ModelShape:
    """What `ajet plan` counts, which it does by a checkpoint's config.json."""
    with tempfile.TemporaryDirectory() as folder:
        shape.config().save_pretrained(folder)
        return model_shape(folder, LoraConfig(), dtype="float32")


def _planned_gib(
    counts: ModelShape, pack_tokens: int, branching_tokens: int, device: torch.device, *, recompute_layers: bool
) -> float:
    """Of an update, without an engine and what torch does not count."""
    setup = Setup(
        device=device.type,
        engine="none",
        dtype_bytes=2,
        kv_cache_gib=None,
        gpu_memory_utilization=None,
        gpu_memory_gib=None,
        num_sequences=0,
        max_context=pack_tokens,
        num_engines=1,
        engine_sleeps=False,
        merges_adapters=True,
        has_reference=False,
        mixed_precision=True,
        gradient_checkpointing=recompute_layers,
        pack_tokens=pack_tokens,
        num_shards=1,
        branching_tokens=branching_tokens,
    )
    planned = Sizing(shape=counts, setup=setup).plan().peak_gib("update")
    return planned - (CUDA_CONTEXT_GIB if device.type == "cuda" else 0.0)
