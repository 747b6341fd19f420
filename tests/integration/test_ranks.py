"""Several real processes train one run as one process does; what ends one of them ends all, with the state kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.measured import MEASURED

from ajet.analysis import load_run
from ajet.tracking.files.reading import read_metric_lines

SMALL = [
    *("workflow=signals", "model=tiny", "engine=transformers", "rollout.num_tasks=4", "rollout.group_size=6"),
    *("algorithm.num_minibatches=2", "algorithm.max_pack_tokens=64", "algorithm.warmup_steps=0", "logger=plain"),
    *("hardware.sampling_threads=1", "hardware.training_threads=1", "logger.wandb.mode=disabled", "eval.num_tasks=7"),
]
LORA = ["model.lora.rank=4", "model.lora.alpha=8", "model.lora.targets=[q_proj,v_proj]", "algorithm.kl_coef=0.1"]
ENDS_WITHIN_S = 30


@contextmanager
def started(num: int, run: Path, *overrides: str) -> Iterator[subprocess.Popen[str]]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num}"] if num > 1 else []
    begun = any(override.startswith("resume=") for override in overrides)
    placed = [] if begun else [*SMALL, f"run_dir={run}"]
    command = [sys.executable, *launcher, "-m", "ajet.train", *placed, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def trained(num: int, run: Path, *overrides: str) -> str:
    with started(num, run, *overrides) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(beginning):
            return
    raise AssertionError("".join(said))


def pid_of_rank(rank: int, launcher: int) -> int:
    """Of the process that the launcher has started as that rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return next(
        int(child)
        for child in children
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    )


def assert_equal_runs(one: Path, several: Path) -> None:
    for line, other in zip(
        read_metric_lines(one / "metrics.jsonl"), read_metric_lines(several / "metrics.jsonl"), strict=True
    ):
        kept = {name: value for name, value in line.items() if not name.startswith(MEASURED)}
        assert kept.keys() == {name for name in other if not name.startswith(MEASURED)}
        assert {name: other[name] for name in kept} == pytest.approx(kept, rel=1e-4, abs=1e-5, nan_ok=True)
    columns = ["split", "step", "task", "repeat", "status", "score"]
    found = [load_run(run).episodes[columns].reset_index(drop=True) for run in (one, several)]
    assert found[0].equals(found[1])
    first, second = (
        load_file(max((run / "checkpoints").glob("step_*")) / "model" / "model.safetensors") for run in (one, several)
    )
    assert first.keys() == second.keys()
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("num", "overrides"), [(2, LORA), (3, ["rollout.num_tasks=2"])])
def test_several_processes_train_as_one(tmp_path: Path, num: int, overrides: list[str]) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    trained(1, one, "total_steps=2", *overrides)
    said = trained(num, several, "total_steps=2", *overrides)
    assert said.count("step 2/2") == 1, "one process shows what all do"
    assert_equal_runs(one, several)


@pytest.mark.slow
def test_a_run_is_resumed_by_another_number_of_processes(tmp_path: Path) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    constant = "algorithm.kl_schedule=constant"  # another one depends on how many steps the whole run has
    trained(1, one, "total_steps=2", constant)
    trained(2, several, "total_steps=1", "eval.last=false", constant)
    trained(3, several, f"resume={several}", "total_steps=2", "eval.last=true")
    assert_equal_runs(one, several)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "signum"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGTERM)])
def test_what_ends_one_process_ends_all_and_the_run_can_be_resumed(
    tmp_path: Path, rank: int, signum: signal.Signals
) -> None:
    run = tmp_path / "run"
    with started(2, run, "total_steps=500", "checkpoint.every=1", "eval=none") as process:
        wait_for(process, "step 2/500")
        pids = [pid_of_rank(one, process.pid) for one in (0, 1)]
        os.kill(pids[rank], signum)
        begun = time.monotonic()
        said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert time.monotonic() - begun < ENDS_WITHIN_S, "a time-out is part of what is promised"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    if rank == 1:
        assert "resume with: python -m ajet.train resume=" in said
    done = load_run(run).num_steps
    assert done >= 2
    trained(1, run, f"resume={run}", f"total_steps={done + 1}")
    assert load_run(run).num_steps == done + 1


@pytest.mark.slow
def test_a_mistake_ends_all_processes_with_one_sentence(tmp_path: Path) -> None:
    for overrides, words in ((["algorithm.num_minibatches=3"], "num_minibatches"), (["-m"], "a sweep cannot be run")):
        with started(2, tmp_path / "run", *overrides) as process:
            said, _ = process.communicate(timeout=60)
        assert process.returncode != 0
        assert sum(line.startswith("error: ") and words in line for line in said.splitlines()) == 1, said
