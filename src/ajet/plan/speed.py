"""Seconds a step: from a run that was measured before, or of a thousand tokens by the speed of this machine.

How many tokens a step has is the program's doing, so without a run nothing is said of a whole step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ajet.config.saved import load
from ajet.engine.stepped import torch_threads
from ajet.errors import RunDirectoryError
from ajet.plan.parts import ModelShape, Setup, Sizing, sizing_from_json
from ajet.plan.work import StepWork, step_work
from ajet.tracking.files.reading import damaged, read_json, read_metric_lines

USED_SHARE = 0.4
"""Of the speed of one large product of matrices, what a forward and backward pass comes to: assumed; SmolLM2 on two
busy cores had .2 to .4 (docs/plan.md)."""
_MEASURED = ("rollout", "credit", "advantage", "update", "sync")
"""Phases that are scaled; a reference that rewards are held to is asked in `advantage`."""
_SIDE = {"cpu": 512, "cuda": 8192}
_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """What a run of before took."""

    seconds: Mapping[str, float]
    """Median of its steps by phase."""
    num_unique: float
    """Median of `tokens/unique`, after merging prefixes."""
    work: StepWork
    """As it was configured."""
    num_resampled: float
    """Median of `group/resampled` as a share of the step's groups: what was played besides."""
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
    config = load(folder)
    summary = folder / "summary.json"
    pack = read_json(summary, dict).get("largest_pack") if summary.is_file() else None
    return MeasuredRun(
        seconds={phase: _median(steps, f"time/{phase}") for phase in _MEASURED},
        num_unique=_median(steps, "tokens/unique"),
        work=step_work(config),
        num_resampled=_median(steps, "group/resampled") / config.rollout.num_tasks,
        largest_pack=pack if isinstance(pack, int) and pack > 0 else None,
        sizing=read_sizing(folder / "plan.json"),
    )


def _median(steps: Sequence[Mapping[str, float | None]], name: str) -> float:
    """Over steps; 0 where a step does not have it."""
    return median(line.get(name) or 0.0 for line in steps)


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


def operations_per_token(shape: ModelShape, setup: Setup, work: StepWork) -> float:
    """Multiplications and additions of a token's passes in a training step, attention left out. Forward and backward
    are two a parameter forward, two for the gradient of what goes in, two for the weight's own, and two where layers
    run again; a pass without gradients is two."""
    passes = (2 if shape.num_adapter_parameters else 3) + setup.gradient_checkpointing
    update = 2.0 * passes * shape.num_parameters + 6.0 * shape.num_adapter_parameters
    forward = 2.0 * (shape.num_parameters + shape.num_adapter_parameters)
    reference = 2.0 * shape.num_parameters
    return work.num_epochs * update + work.num_forwards * forward + work.num_reference_forwards * reference


Range = tuple[float, float]
"""The least and the most."""


def scaled_seconds(run: MeasuredRun, shape: ModelShape, setup: Setup, work: StepWork) -> dict[str, Range]:
    """Seconds by phase of a step with other settings, on the machine and with the program of `run`.

    Episodes scale playing and updating, what is done with each token updating, the model's size all phases, where the
    run's own is known. What only play would tell has bounds: how many groups are replaced, how much of a replay stands.
    """
    old = run.sizing or Sizing(shape=shape, setup=setup)
    size = shape.num_parameters / old.shape.num_parameters
    episodes = work.num_episodes / run.work.num_episodes
    per_token = operations_per_token(shape, setup, work) / operations_per_token(old.shape, old.setup, run.work)
    played = run.seconds["rollout"] * episodes * size
    once = played / (1 + run.num_resampled)
    same = work.max_resamples == run.work.max_resamples
    update = (run.seconds["update"] + run.seconds["advantage"]) * episodes * per_token
    return {
        "rollout": (played, played) if same else (once, once * (1 + work.max_resamples)),
        "credit": _replay_seconds(run, work, once=once, factor=episodes * size),
        "update": (update, update),
        "sync": (run.seconds["sync"] * size,) * 2,
    }


def _replay_seconds(run: MeasuredRun, work: StepWork, *, once: float, factor: float) -> Range:
    """Of episodes that are played again.

    Args:
        run, work: as for `scaled_seconds`.
        once: seconds to play each episode that is trained on.
        factor: of what the same replays take with the other settings.
    """
    measured = run.seconds["credit"]
    if measured and work.credit == run.work.credit:
        seconds = measured * factor * (work.most_replays or 1) / (run.work.most_replays or 1)
        return seconds, seconds
    # At most as long as the episode, for replies that stand are not sampled again.
    return 0.0, once * (work.most_replays or 0)


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
