"""What ajet costs on two CPU cores, as ratios: `make bench`, or

    OMP_NUM_THREADS=1 python -m experiments.speed.run [PART ...]

In: names of parts (`--help` lists them), all of them without any. Out: a table on the screen, and `speed.json` with its
numbers. Each part's sides take turns, and medians are compared, so that what else a machine does meets all of them.
`--against` another `speed.json` names each ratio that has grown by a fifth; it never fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

GROWN = 1.2


def update_werewolves() -> dict[str, float]:
    """One werewolves batch, by ajet and by TRL."""
    return _update(
        "werewolves",
        "workflow=werewolves",
        "trainable_targets=[seer,witch]",
        "rollout.num_tasks=1",
        "algorithm.num_minibatches=1",
        rounds=2,
    )


def update_smollm2() -> dict[str, float]:
    """One batch of SmolLM2's word game."""
    return _update("SmolLM2", "workflow=hints", "rollout.num_tasks=1", rounds=1)


def _update(name: str, *overrides: str, rounds: int = 3) -> dict[str, float]:
    from experiments.speed.update import compared, played

    found = compared(played(*overrides, "hardware.sampling_threads=1"), rounds=rounds)
    ours = found.seconds.pop("ajet")
    numbers = {f"update of {name}, {side} / ajet": seconds / ours for side, seconds in found.seconds.items()}
    numbers |= {f"update of {name}, {side}, tokens": float(num) for side, num in found.num_tokens.items()}
    return numbers | {f"update of {name}, ajet, s": ours, f"update of {name}, gradient gap": found.gradient_gap}


def calls() -> dict[str, float]:
    """A call by each interface against raw vLLM, on the tiny model."""
    return _calls("hardware.sampling_threads=1", episodes={1: 16, 64: 128}, rounds=5)


def calls_smollm2() -> dict[str, float]:
    """The same on SmolLM2."""
    more = ("model=smollm2", "rollout.max_tokens=16", "hardware.sampling_threads=1")
    return _calls(*more, episodes={1: 2, 8: 8}, rounds=3, of=" of SmolLM2")


def _calls(*overrides: str, episodes: Mapping[int, int], rounds: int, of: str = "") -> dict[str, float]:
    """`episodes`: how many there are in a round, by how many are played at once."""
    from experiments.speed.calls import PROGRAMS, call_cost

    numbers = {}
    for interface in PROGRAMS:
        for at_once, num in episodes.items():
            cost = call_cost(interface, at_once, *overrides, episodes=num, rounds=rounds)
            name = f"a call{of} by {interface}, {at_once} at once"
            shares = {"ajet / vLLM": cost.wall, "ajet / vLLM, processor time": cost.cpu}
            if cost.without_client is not None:
                shares["ajet without its client / vLLM, processor time"] = cost.without_client
            for what, (middle, least, most) in shares.items():
                numbers[f"{name}, {what}"] = middle
                print(f"{name}, {what}: {middle:.3f} ({least:.3f} to {most:.3f})", flush=True)
            numbers[f"{name}, vLLM alone, ms"] = cost.ms_a_call
    return numbers


def step() -> dict[str, float]:
    """A step of `signals` against raw vLLM plus bare forward and backward."""
    from experiments.speed.step import step_cost

    cost = step_cost("workflow=signals", "hardware.sampling_threads=1", "hardware.training_threads=1", rounds=5)
    print(f"a step / its limit: {min(cost.ratios):.3f} to {max(cost.ratios):.3f}", flush=True)
    numbers = {"a step of signals, ajet / limit, processor time": median(cost.ratios)}
    numbers |= {f"a step of signals, {name}, processor s": seconds for name, seconds in cost.seconds.items()}
    return numbers | {f"a step of signals, {name}, s": seconds for name, seconds in cost.wall.items()}


def crowds() -> dict[str, float]:
    """Memory and descriptors of many episodes at once."""
    from experiments.speed.crowds import descriptors_of, memory_of

    num_few, num_many = 200, 1000
    memory_of(num_few)  # what loads once
    each = (memory_of(num_many) - memory_of(num_few)) / (num_many - num_few)
    return {"an episode under way, MiB": each, "an agent by HTTP, descriptors": descriptors_of(500)}


def start() -> dict[str, float]:
    """Seconds of `--help`."""
    taken = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ajet.train", "--help"], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - begin)
    return {"--help, s": median(taken)}


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "start": start,
    "crowds": crowds,
    "calls": calls,
    "calls-smollm2": calls_smollm2,
    "step": step,
    "update": update_werewolves,
    "update-smollm2": update_smollm2,
}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="What ajet costs on a CPU, as ratios.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them without any")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--against", type=Path, help="a speed.json to compare with")
    arguments = parser.parse_args()
    numbers: dict[str, float] = {}
    for name in arguments.parts or PARTS:
        try:
            numbers |= PARTS[name]()
        except ModuleNotFoundError as missing:  # TRL and SmolLM2 are no part of a plain installation
            print(f"{name}: left out, for {missing.name} is not installed", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "speed.json").write_text(json.dumps(numbers, indent=1) + "\n")
    for name, value in numbers.items():
        print(f"{name:60} {value:12.4g}")
    if arguments.against is not None:
        before = json.loads(arguments.against.read_text())
        for name, value in numbers.items():
            # TRL's time over ajet's is the better the larger; of all else less is better.
            was, now = (value, before.get(name)) if name.endswith("/ ajet") else (before.get(name), value)
            if was and now and now > GROWN * was:
                print(f"warning: {name} was {before[name]:.4g} and is {value:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
