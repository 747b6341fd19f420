"""`ajet.train` and its kin in a script, a thread, under a running loop and in a notebook; then the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from nbclient import NotebookClient
from tests.measured import MEASURED

from ajet.analysis import load_run
from ajet.train.__main__ import main as train

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "model": "tiny",
    "engine": "transformers",
    "hardware.sampling_threads": 1,
    "hardware.training_threads": 1,
    "rollout.num_tasks": 2,
    "rollout.group_size": 2,
    "rollout.max_tokens": 8,
    "eval.num_tasks": 2,
    "algorithm.warmup_steps": 0,
    "logger.wandb.mode": "disabled",
}
KERNEL = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
GAME = """
class Guess(ajet.Workflow):
    bonus: float = 0.0

    async def execute(self, workflow_task: ajet.WorkflowTask, tuner: ajet.AjetTuner) -> ajet.WorkflowOutput:
        client = tuner.as_raw_openai_sdk_client(agent_name="A", target_tag="solver")
        asked = [{"role": "user", "content": pick(random.Random(workflow_task.task.task_id))}]
        reply = await client.chat.completions.create(model="policy", messages=asked)
        return ajet.WorkflowOutput(reward=len(reply.choices[0].message.content or "") % 3 + self.bonus)
"""
HELPER = """
WORDS = ["moon", "star"]

def pick(rng):
    return rng.choice(WORDS)
"""


def run_python(arguments: list[str], cwd: Path, timeout: int = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | KERNEL, capture_output=True, text=True, timeout=timeout
    )


def learned(run_dir: Path) -> list[dict[str, float]]:
    """The metrics that depend on no clock."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(MEASURED)} for line in lines]


@pytest.mark.slow
def test_a_script_a_thread_and_a_running_loop_train_as_the_command_does(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text(f"import random\n\nimport ajet\n{HELPER}\n{GAME}")
    (tmp_path / "script.py").write_text(
        dedent(
            f"""
            import asyncio, logging, signal, sys, threading
            import ajet
            from game import Guess

            SMALL = {SMALL!r}

            def start(name):
                return ajet.train(Guess, "trainable_targets=[solver]", total_steps=1, run_dir=name, **SMALL)

            async def under_a_loop():
                return start("loop")

            if __name__ == "__main__":
                handler, argv = signal.getsignal(signal.SIGINT), list(sys.argv)
                assert start("script").state == "finished"
                thread = threading.Thread(target=start, args=("thread",))
                thread.start()
                thread.join()
                assert asyncio.run(under_a_loop()).run_dir.name == "loop"
                assert (signal.getsignal(signal.SIGINT), sys.argv) == (handler, argv)
                assert logging.getLogger().handlers == []
            """
        )
    )
    done = run_python(["script.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    settings = [f"{key}={value}" for key, value in SMALL.items()]
    asked = ["workflow=custom", "workflow.entry=game.py->Guess", "trainable_targets=[solver]", "total_steps=1"]
    done = run_python(["-m", "ajet", "train", *asked, *settings, "run_dir=command"], tmp_path)
    assert done.returncode == 0, done.stderr
    expected = learned(tmp_path / "command")
    assert expected and all(learned(tmp_path / name) == expected for name in ("script", "thread", "loop"))
    files = {path.name for path in (tmp_path / "command").iterdir()}
    assert {path.name for path in (tmp_path / "script").iterdir()} == files
    (start,) = json.loads((tmp_path / "script" / "provenance.json").read_text())
    assert start["command"][0] == "ajet.train" and "total_steps=1" in start["command"]


@pytest.mark.slow
def test_ctrl_c_under_a_running_loop_saves_the_state_and_says_how_to_resume(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        dedent(
            f"""
            import asyncio
            import ajet

            async def train():
                ajet.train("signals", total_steps=5000, run_dir="run", **{SMALL | {"logger.console": "plain"}!r})

            if __name__ == "__main__":
                try:
                    asyncio.run(train())
                except ajet.errors.RunInterruptedError as error:
                    print("STOPPED:", error)
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, "-u", "script.py"], cwd=tmp_path, env=os.environ | KERNEL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 2/"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert "STOPPED: interrupted after step" in rest and "resume=" in rest
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def notebook(*cells: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def execute(content: nbformat.NotebookNode, cwd: Path) -> str:
    """Run the cells in a kernel; returns what they showed."""
    client = NotebookClient(content, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(cwd)}})
    client.execute(env=os.environ | KERNEL)
    outputs = [output for cell in content.cells for output in cell.outputs]
    return "\n".join(str(output.get("text") or output.get("data")) for output in outputs)


@pytest.mark.slow
def test_a_workflow_of_a_cell_is_trained_and_then_resumed_and_evaluated_by_the_command(tmp_path: Path) -> None:
    call = f'run = ajet.train(Guess, "trainable_targets=[solver]", total_steps=1, run_dir="run", **{SMALL!r})'
    shown = execute(
        notebook(
            "import random\n\nimport ajet", HELPER, f"{GAME}\n{call}\nrun", "run.metrics.shape, len(run.episodes)"
        ),
        tmp_path,
    )
    assert "<progress" in shown and "finished, 1 of 1 steps" in shown and "held-out score" in shown
    kept = (tmp_path / "run" / "workflow.py").read_text()
    assert "class Guess" in kept and "def pick" in kept and "ajet.train" not in kept
    assert train([f"resume={tmp_path / 'run'}", "total_steps=2"]) == 0
    assert load_run(tmp_path / "run").num_steps == 2
    done = run_python(["-m", "ajet", "evaluate", "run=run", "num_tasks=2", "console=none"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_mistake_in_a_cell_is_a_config_error_in_one_sentence(tmp_path: Path) -> None:
    shown = execute(
        notebook(
            "import random\n\nimport ajet\nfrom ajet.errors import ConfigError",
            HELPER,
            GAME,
            "WORDS.append('sun')",
            "try:\n    ajet.train(Guess)\nexcept ConfigError as error:\n    print(error)",
            "try:\n    ajet.train('signals', rollout={'grup_size': 2})\nexcept ConfigError as error:\n    print(error)",
        ),
        tmp_path,
    )
    assert "WORDS is not what its cell makes" in shown and "did you mean group_size?" in shown
    assert [path.name for path in tmp_path.iterdir()] == []


TOLD = "try:\n    {}\nexcept ConfigError as error:\n    print(error)"


def test_a_notebook_whose_cells_would_make_another_program_is_told_so(tmp_path: Path) -> None:
    cells = [
        "import random\n\nimport ajet\nfrom ajet.errors import ConfigError",
        HELPER,
        f"get_ipython().run_cell_magic('time', '', {GAME!r})",
        "1 / 0\ndef pick(rng):\n    return 'moon'",
        TOLD.format("ajet.rollout(Guess)"),
        HELPER,
        TOLD.format("ajet.rollout(Guess, workflow='signals')"),
        "bonus = 0\nclass Again(Guess):\n    extra: float = bonus",
        TOLD.format("for bonus in (1, 2): ajet.rollout(Again)"),
        TOLD.format("ajet.evaluate(Guess)"),
    ]
    content = notebook(*cells)
    content.cells[3].metadata["tags"] = ["raises-exception"]
    shown = execute(content, tmp_path)
    assert "pick is not what its cell makes" in shown
    assert "was given a workflow already" in shown and "leave workflow=signals out" in shown
    assert "the cells that define Again cannot be run anew" in shown and "is not a run: give" in shown
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_script_that_trains_whenever_it_is_imported_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"import random\n\nimport ajet\n{HELPER}\n{GAME}\najet.train(Guess)\n")
    done = run_python(["script.py"], tmp_path)
    assert done.returncode == 1
    assert (
        "ajet.train is called by code that ajet.train loads or plays: in a script, put the call under if __name__"
        in (done.stderr.splitlines()[-1])
    )
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] == []


@pytest.mark.slow
def test_the_page_on_python_says_what_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    assert "total_steps=20" in program
    small = program.replace("total_steps=20", "total_steps=1, **SMALL").replace("num_episodes=2", "num_episodes=1")
    (tmp_path / "page.py").write_text(f"SMALL = {SMALL!r}\n{small}\nprint(run)")
    done = run_python(["page.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "signals, trains speaker, seed 0: finished, 1 of 1 steps" in done.stdout
