"""Seconds a step: from a run that was measured before, or of a thousand tokens by the speed of this machine.

How many tokens a step has is the program's doing, so without a run nothing is said of a whole step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ajet.config.saved import load
from ajet.engine.stepped import torch_threads
from ajet.errors import RunDirectoryError
from ajet.plan.parts import PHASES, ModelShape, Setup, Sizing, sizing_from_json
from ajet.tracking.files.reading import damaged, read_json, read_metric_lines

USED_SHARE = 0.4
"""Of the speed of one large product of matrices, what a forward and backward pass comes to: assumed; SmolLM2 on two
busy cores had .2 to .4 (docs/plan.md)."""
_SIDE = {"cpu": 512, "cuda": 8192}
_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """What a run of before took."""

    seconds: Mapping[str, float]
    """Median of its steps by phase."""
    num_unique: float
    """Median of `tokens/unique`, after merging prefixes."""
    num_episodes: int
    """A step."""
    largest_pack: int | None
    """Tokens; None where it did not end."""
    sizing: Sizing | None
    """As it was planned; None of a run by an earlier version."""


def read_run(folder: Path) -> MeasuredRun:
    """What `folder`'s run took.

    Raises:
        RunDirectoryError: it is not a run's, or has no step yet.
    """
    lines = read_metric_lines(folder / "metrics.jsonl")
    steps = [line for line in lines if "time/step" in line]
    if not steps:
        raise RunDirectoryError(f"{folder} has no step that was measured")
    rollout = load(folder).rollout
    summary = folder / "summary.json"
    pack = read_json(summary, dict).get("largest_pack") if summary.is_file() else None
    return MeasuredRun(
        seconds={phase: median(line.get(f"time/{phase}", 0.0) for line in steps) for phase in PHASES},
        num_unique=median(line.get("tokens/unique", 0.0) for line in steps),
        num_episodes=rollout.num_tasks * rollout.group_size,
        largest_pack=pack if isinstance(pack, int) and pack > 0 else None,
        sizing=read_sizing(folder / "plan.json"),
    )


def read_sizing(path: Path) -> Sizing | None:
    """What a run was planned from; None where there is no such file.

    Raises:
        RunDirectoryError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return sizing_from_json(read_json(path, dict))
    except (KeyError, TypeError) as error:
        raise damaged(path, error) from error


def operations_per_token(shape: ModelShape, setup: Setup) -> float:
    """Multiplications and additions of a token's forward and backward pass, attention left out: two a parameter
    forward, two for the gradient of what goes in, two for the weight's own, and two where layers run again."""
    passes = (2 if shape.num_adapter_parameters else 3) + setup.gradient_checkpointing
    return 2.0 * passes * shape.num_parameters + 6.0 * shape.num_adapter_parameters


def scaled_seconds(run: MeasuredRun, shape: ModelShape, setup: Setup, *, num_episodes: int) -> dict[str, float]:
    """Seconds by phase of a step with other settings, on the machine and with the program of `run`.

    Episodes scale playing and updating; the model's size scales all three, where the run's own is known.
    """
    episodes = num_episodes / run.num_episodes
    old = run.sizing
    size = 1.0 if old is None else shape.num_parameters / old.shape.num_parameters
    work = 1.0 if old is None else operations_per_token(shape, setup) / operations_per_token(old.shape, old.setup)
    factors = {"rollout": episodes * size, "update": episodes * work, "sync": size}
    return {phase: run.seconds[phase] * factor for phase, factor in factors.items()}


def operations_per_second(device: str, *, num_threads: int | None, mixed_precision: bool) -> float | None:
    """Of products of two large matrices, for a moment; None where there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return None
    side = _SIDE[device]
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16 if mixed_precision else torch.float32)
    with torch_threads(num_threads):
        float((a @ a)[0, 0])  # the first one prepares
        begun, num = time.perf_counter(), 0
        while time.perf_counter() - begun < _SECONDS:
            float((a @ a)[0, 0])  # waits for the device
            num += 1
        return num * 2.0 * side**3 / (time.perf_counter() - begun)
