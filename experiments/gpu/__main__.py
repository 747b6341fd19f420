"""What of ajet can only be measured on a GPU, part by part: `python -m experiments.gpu [PART ...] [--out DIR]`.

Each part writes `<part>.json` as soon as it is done, and `gpu.json` and `gpu.md` of all parts in the folder. A part
that fails is written down with its error, the others go on, and the exit code is 1. `page` writes the page anew of
what several commands left. Without a GPU `--device cpu --small` runs every line on tiny shapes; its numbers mean
nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from experiments.gpu.measuring import device_name, give_back, versions
from experiments.gpu.results import Result, Settings, write, write_page

PARTS = ("tests", "gradients", "attention", "update", "rollout", "trl_loss", "learn")
"""Modules beside this one, in the order in which they are worth most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}, or page; all by default")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that every line runs")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"), help="folder of the results (outputs/gpu)")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.parts) - {*PARTS, "page"})
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; choose from {', '.join(PARTS)}, page")
    if options.parts == ["page"]:
        write_page(options.out)
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --small runs every line on tiny shapes")
    settings = Settings(device=options.device, small=options.small)
    chosen = [part for part in PARTS if part in options.parts or not options.parts]
    failed = [part for part in chosen if run_part(part, settings, options.out).failed]
    print((options.out / "gpu.md").read_text())
    return 1 if failed else 0


def run_part(part: str, settings: Settings, out: Path) -> Result:
    """Run a part and write what it found, or why it could not."""
    device = torch.device(settings.device)
    machine = {"name": device_name(device), "small": settings.small, "versions": versions()}
    print(f"{part} …", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        result: Result = importlib.import_module(f"experiments.gpu.{part}").measure(settings)
    except Exception as error:  # the boundary: a machine is lent for minutes, and the next part may well work
        traceback.print_exc()
        result = Result(notes=[f"failed: {type(error).__name__}: {str(error)[:500]}"], failed=True)
    give_back(device)
    write(out, part, machine, time.perf_counter() - started, result)
    return result


if __name__ == "__main__":
    sys.exit(main())
