"""How a process ends: by which signal, with which exit code, and with one sentence for what is no bug."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.sentences import names
from tests.sweep_entry import SIGNALS, act, command, states

from ajet.config.sweeps.records import read_jobs
from ajet.config.user_code.importing import load_module
from ajet.data.python import PythonConfig
from ajet.errors import ConfigError, UserInterrupt
from ajet.tracking.files.writing import refusal
from ajet.train.__main__ import main

ODD = """
import abc, sys
from ajet import Workflow, WorkflowOutput

class Abstract(Workflow):
    async def execute(self, workflow_task, tuner): ...
    @abc.abstractmethod
    def helper(self): ...

class Nothing(Workflow):
    pass

class Generator(Workflow):
    async def execute(self, workflow_task, tuner):
        yield WorkflowOutput(reward=1.0)

class NoWorkflow:
    async def execute(self, workflow_task, tuner): ...

class Exits(Workflow):
    def model_post_init(self, context):
        sys.exit(0)
    async def execute(self, workflow_task, tuner): ...

class Fine(Workflow):
    async def execute(self, workflow_task, tuner): ...
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Abstract", "Abstract ... abstract ... helper"),
        ("Nothing", "Nothing ... abstract ... execute"),
        ("Generator", "execute ... Generator ... yield ... WorkflowOutput"),
        ("NoWorkflow", "Workflow ... 'NoWorkflow' ... Abstract, Nothing, Generator, Exits, Fine"),
        ("Exits", "SystemExit: 0"),
    ],
)
def test_a_class_that_cannot_be_played_is_one_line(
    name: str, words: str, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd_classes.py").write_text(ODD)
    entry = f"workflow.entry={tmp_path}/odd_classes.py->{name}"
    assert main(["workflow=custom", entry, f"model.path={checkpoint}"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith(f"error: {entry}: ")
        and names(said.removeprefix(f"error: {entry}: "), words)
        and said.count("\n") == 1
    )


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "raise KeyboardInterrupt", "raise GeneratorExit"])
def test_an_import_that_ends_the_process_is_one_line(
    code: str, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd_import.py").write_text(f"{code}\nclass X: ...")
    assert main(["workflow=custom", f"workflow.entry={tmp_path}/odd_import.py->X", f"model.path={checkpoint}"]) == 2
    said = capsys.readouterr().err
    assert "odd_import.py:1)" in said and said.count("\n") == 1


@pytest.mark.parametrize("code", ["sys.exit(0)", "yield {}; sys.exit(0)", "yield {}; raise GeneratorExit"])
def test_a_data_function_that_ends_the_process_is_one_sentence(code: str, tmp_path: Path) -> None:
    (tmp_path / "odd_data.py").write_text(f"import sys\ndef tasks():\n    {code}\n")
    with pytest.raises(ConfigError, match=r"data\.path=.*(SystemExit: 0|GeneratorExit) \(.*odd_data\.py:3\)"):
        PythonConfig(path=f"{tmp_path}/odd_data.py->tasks").read_rows()


def test_ctrl_c_during_an_import_stays_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text("from ajet.errors import UserInterrupt\nraise UserInterrupt")
    with pytest.raises(UserInterrupt):
        load_module(f"{tmp_path}/interrupted.py->X", setting="workflow.entry")


@pytest.mark.parametrize("placed", ["run_dir={file}/run", "run_dir=/proc/nobody/run"])
def test_a_directory_that_cannot_be_written_is_one_line_before_anything_loads(
    placed: str, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*SIGNALS, f"model.path={checkpoint}", placed.format(file=tmp_path / "file")]) == 1
    said = capsys.readouterr().err
    assert "/run cannot be written: " in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "runs/a: the disk is full"),
        (errno.EMFILE, "runs/a: too many files are open (ulimit -n)"),
        (errno.EINVAL, None),
    ],
)
def test_what_the_system_refuses_is_named(number: int, words: str | None) -> None:
    assert refusal(OSError(number, os.strerror(number), "runs/a")) == words


def test_help_for_a_reader_who_leaves_is_no_error() -> None:
    piped = 'set -o pipefail; "$0" -m ajet.train --help | head -1'
    done = subprocess.run(["bash", "-c", piped, sys.executable], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("Train the language model")


def test_a_thread_that_never_ends_does_not_keep_the_process_alive() -> None:
    program = (
        "import threading, time; from ajet.config.cli.process import run_as_process\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "run_as_process(lambda: print('done') or 3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (3, "done\n")


@pytest.mark.parametrize("way", ["fork", "spawn", "deaf"])
def test_a_process_that_a_program_left_running_is_ended_with_a_word(way: str) -> None:
    program = (
        "import multiprocessing, signal, time; from ajet.config.cli.process import run_as_process\n"
        f"deaf = {way == 'deaf'}\n"
        "if deaf: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"context = multiprocessing.get_context({way.replace('deaf', 'fork')!r})\n"
        "child = context.Process(target=time.sleep, args=(1000,)); child.start()\n"
        "run_as_process(lambda: print(child.pid) or 3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 3
    pid = int(done.stdout)
    assert done.stderr.startswith("warning: ") and done.stderr.endswith(f": {named(way, pid)}\n")
    assert done.stderr.count("\n") == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def named(way: str, pid: int) -> str:
    return f"{'Spawn' if way == 'spawn' else 'Fork'}Process-1 (pid {pid})"


@pytest.mark.parametrize("left", ["a pool", "a short process"])
def test_processes_that_end_by_themselves_are_waited_for(left: str) -> None:
    program = (
        "import multiprocessing, time; from concurrent.futures import ProcessPoolExecutor\n"
        "from ajet.config.cli.process import run_as_process\n"
        "def say(): time.sleep(0.3); print('said', flush=True)\n"
        "context = multiprocessing.get_context('fork')\n"
        f"if {left == 'a pool'}: ProcessPoolExecutor(2, mp_context=context).submit(say)\n"
        "else: context.Process(target=say).start()\n"
        "run_as_process(lambda: 3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")


PLAYS = """
import asyncio, signal, sys, time
from ajet.config.cli.entry import run_entry
from ajet.config.cli.process import run_as_process
from ajet.config.compose import load_training
from ajet.errors import RunInterruptedError
from ajet.rollout.runtime import Interrupted, RolloutRuntime

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, which these commands would respect
WAY, *ARGUMENTS = sys.argv[1:]

async def play():
    print("playing", flush=True)
    if WAY == "blocks":
        time.sleep(1000)
    await asyncio.sleep(1000)

def act(config):
    with RolloutRuntime() as runtime:
        try:
            runtime.run(play())
        except Interrupted as stop:
            raise RunInterruptedError("interrupted after step 1", stop.signum)

run_as_process(lambda: run_entry("train", load_training, act, ARGUMENTS))
"""


def playing(tmp_path: Path, checkpoint: Path, way: str) -> subprocess.Popen[str]:
    """A process that has just begun to play."""
    arguments = [*SIGNALS, f"model.path={checkpoint}", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(
        [sys.executable, "-c", PLAYS, way, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "playing\n"
    return process


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_asks_for_the_end_gets_an_orderly_one(
    signum: signal.Signals, code: int, tmp_path: Path, checkpoint: Path
) -> None:
    process = playing(tmp_path, checkpoint, "waits")
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "error: interrupted after step 1\n")


def test_the_second_signal_ends_even_a_call_that_blocks(tmp_path: Path, checkpoint: Path) -> None:
    process = playing(tmp_path, checkpoint, "blocks")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, "error: interrupted\n")


FORKS = """
import multiprocessing, time
from ajet.rollout.runtime import RolloutRuntime

def wait(started):
    started.set()
    time.sleep(1000)

with RolloutRuntime():
    context = multiprocessing.get_context("fork")
    started = context.Event()
    child = context.Process(target=wait, args=(started,))
    child.start()
    started.wait()
    child.terminate()
    child.join()
print(child.exitcode)
"""


def test_a_process_that_a_program_forks_off_ends_when_it_is_terminated() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("-15\n", "")


def test_a_job_whose_code_exits_is_that_jobs_failure(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "exit_1").touch()
    done = act(tmp_path, *command(checkpoint, "seed=1,2"))
    assert done.returncode == 1 and states(tmp_path) == ["failed", "finished"]
    assert read_jobs(tmp_path / "sweep")[0].error == "SystemExit: 0"


def test_a_sweep_that_is_asked_to_end_says_how_to_go_on(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "terminate_1").touch()
    done = act(tmp_path, *command(checkpoint, "seed=1,2"))
    assert (done.returncode, states(tmp_path)) == (143, ["unfinished", "pending"])
    assert names(done.stderr, f"error: interrupted ... python -m ajet.train resume={tmp_path}/sweep")
    assert done.stderr.count("\n") == 1


def test_a_run_whose_code_exits_was_not_completed(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "exit_1").touch()
    done = act(tmp_path, *SIGNALS, f"model.path={checkpoint}", "seed=1")
    assert done.returncode == 1 and done.stderr.startswith("error: the run was ended by SystemExit: 0 (")


def test_a_judge_that_exits_while_it_is_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd_judge.py").write_text("import sys\nsys.exit(0)")
    with pytest.raises(ConfigError, match=r"judge\.entry=.*SystemExit: 0 \("):
        load_module(f"{tmp_path}/odd_judge.py->Judge", setting="judge.entry")
