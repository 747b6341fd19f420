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
from recipes.soak.comparing import ROUNDING, first_difference
from tests.speaking import said_until

from ajet.analysis import load_run
from ajet.train.__main__ import main

SMALL = [
    *("workflow=signals", "model=tiny", "engine=transformers", "rollout.num_tasks=4", "rollout.group_size=6"),
    *("algorithm.num_minibatches=2", "algorithm.max_pack_tokens=64", "algorithm.warmup_steps=0", "logger=plain"),
    *("hardware.sampling_threads=1", "hardware.training_threads=1", "logger.wandb.mode=disabled", "eval.num_tasks=7"),
    "algorithm.kl_schedule=constant",  # another one depends on how many steps the whole run has
]
LORA = ["model.lora.rank=4", "model.lora.alpha=8", "model.lora.targets=[q_proj,v_proj]", "algorithm.kl_coef=0.1"]
SHARED_OUT = ["hardware.data_parallel=fsdp"]
REPLAYED = ["credit=difference", "opponent=random", "algorithm=reinforce_pp"]
CHOSEN_BY_ALL = [
    *("algorithm.top_entropy_quantile=0.5", "algorithm.kl_cov_share=0.1"),
    *("algorithm.correction_level=sequence", "algorithm.mis_high=3"),
]
PRICED = [
    *("algorithm.kl_in=reward", "algorithm.mask_truncated=true"),
    *("algorithm.overlong_penalty=0.1", "algorithm.overlong_buffer=8", "algorithm.entropy_target=3"),
]
"""What replies cost, and what a role's entropy is paid."""
ENDS_WITHIN_S = 30


@contextmanager
def started(num: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Several processes, by torchrun. What one does alone is done in the tests' own process: a start takes 10 s."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num}"]
    command = [sys.executable, *launcher, "-m", "ajet.train", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()  # torchrun ends its ranks, which a SIGKILL of it would leave running


def trained(num: int, *arguments: str) -> str:
    """By several processes to its end; what they said."""
    with started(num, *arguments) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def pid_of_rank(rank: int, launcher: int) -> int:
    """Of the process that the launcher has started as that rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return next(
        int(child)
        for child in children
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "signum", "resumed_by", "overrides"),
    [
        (0, signal.SIGKILL, 1, [*LORA, "credit=critic", *PRICED]),
        (1, signal.SIGKILL, 1, [*SHARED_OUT, *CHOSEN_BY_ALL, "credit=counterfactual"]),
        # Of three processes one has no task to train on, and held-out tasks are unevenly shared out.
        (1, signal.SIGTERM, 3, [*SHARED_OUT, "rollout.num_tasks=2", "algorithm.kl_coef=0.1", *REPLAYED]),
    ],
)
def test_several_processes_train_as_one_though_one_of_them_is_ended_and_another_number_resumes_the_run(
    tmp_path: Path, rank: int, signum: signal.Signals, resumed_by: int, overrides: list[str]
) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    asked = [*SMALL, *overrides]
    with started(2, *asked, f"run_dir={several}", "total_steps=500", "checkpoint.every=1") as process:
        said = said_until(process, "step 2/500")
        assert said.count("step 1/500") == 1, "one process shows what all do"
        pids = [pid_of_rank(each, process.pid) for each in (0, 1)]
        os.kill(pids[rank], signum)
        begun = time.monotonic()
        last_words, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert time.monotonic() - begun < ENDS_WITHIN_S, "a time-out is part of what is promised"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    if rank == 1:
        assert "resume with: python -m ajet.train resume=" in last_words
    done = load_run(several).num_steps
    assert done >= 2
    end = f"total_steps={done + 2}"
    if resumed_by == 1:
        assert main([f"resume={several}", end]) == 0
    else:
        trained(resumed_by, f"resume={several}", end)
    assert main([*asked, f"run_dir={one}", end]) == 0
    assert first_difference(several, one, ROUNDING) is None


@pytest.mark.slow
def test_a_mistake_ends_all_processes_with_one_sentence(tmp_path: Path) -> None:
    with started(2, *SMALL, f"run_dir={tmp_path}", "algorithm.num_minibatches=3") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert sum(line.startswith("error: ") and "num_minibatches" in line for line in said.splitlines()) == 1, said


@pytest.mark.slow
def test_what_ends_one_process_alone_before_the_first_step_is_said_by_it(tmp_path: Path) -> None:
    workflow = tmp_path / "odd.py"
    workflow.write_text(
        "import os\n"
        "from ajet.workflows.signals.workflow import Signals\n"
        "if os.environ.get('RANK') == '1':\n"
        "    raise RuntimeError('no room on this machine')\n"
        "class Odd(Signals): ...\n"
    )
    asked = [f"workflow.entry={workflow}->Odd"]
    with started(2, *SMALL, *asked, f"run_dir={tmp_path / 'run'}") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    told = [line for line in said.splitlines() if line.startswith("error in process 1: ")]
    assert len(told) == 1 and "no room on this machine" in told[0], said


def test_a_sweep_is_refused_under_a_launcher() -> None:
    environment = os.environ | {"RANK": "0", "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "ajet.train", *SMALL, "-m"]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert refused.returncode == 2 and refused.stderr.startswith("error: a sweep cannot be run"), refused.stderr
