"""What a call from Python means, before anything is loaded: overrides, classes, cells, errors."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

import ajet
from ajet.config.cli.arguments import overrides_of, quoted
from ajet.config.cli.ending import ending_signals, run_on_own_thread
from ajet.config.cli.process import interrupt
from ajet.config.user_code.cells import source_from_cells
from ajet.errors import ConfigError, UserInterrupt
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask
from ajet.workflows.naming import name_workflow
from ajet.workflows.signals.workflow import Signals


class OfAFile(Workflow):
    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        return WorkflowOutput(reward=0.0)


def test_keyword_arguments_are_overrides() -> None:
    settings = {
        "model": "tiny_tasks",
        "total_steps": 20,
        "rollout": {"num_tasks": 4, "temperature": 0.5},
        "trainable_targets": ["seer", "witch"],
        "resume": None,
        "trust_code": True,
        "run_dir": Path("a b"),
        "workflow.entry": "my_game.py->Game",
    }
    assert overrides_of(settings) == [
        "model=tiny_tasks",
        "total_steps=20",
        "rollout.num_tasks=4",
        "rollout.temperature=0.5",
        "trainable_targets=[seer,witch]",
        "resume=null",
        "trust_code=true",
        'run_dir="a b"',
        'workflow.entry="my_game.py->Game"',
    ]


def test_a_value_that_no_setting_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^seed=<object object"):
        overrides_of({"seed": object()})
    with pytest.raises(ConfigError, match="is not an override"):
        ajet.train("signals", "seed")


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_hydra_reads_any_text_as_it_was_given(text: str) -> None:
    value = OverridesParser.create().parse_override(f"key={quoted(text)}").value()
    assert value == text
    (override,) = overrides_of({"key": [text]})
    assert OverridesParser.create().parse_override(override).value() == [text]


def test_a_workflow_is_named_by_its_name_its_file_or_its_module() -> None:
    assert name_workflow("signals").overrides == ["workflow=signals"] == name_workflow(Signals).overrides
    assert name_workflow("workflow=signals").overrides == ["workflow=signals"]
    assert name_workflow("my_game.py->Game").overrides == ["workflow=custom", "workflow.entry=my_game.py->Game"]
    entry = name_workflow(OfAFile).overrides[1]
    assert entry in (f"workflow.entry={Path(__file__).resolve()}->OfAFile", f"workflow.entry={__name__}:OfAFile")
    assert name_workflow(None).overrides == []


def test_a_class_that_no_later_process_could_find_is_refused() -> None:
    class Local(OfAFile):
        pass

    with pytest.raises(ConfigError, match="move it to the top of a file"):
        name_workflow(Local)
    with pytest.raises(ConfigError, match="is not a workflow: give a class"):
        name_workflow(3)
    typed_in = "import ajet\nclass A(ajet.Workflow): pass\najet.rollout(A)"
    done = subprocess.run([sys.executable, "-c", typed_in], capture_output=True, text=True, timeout=60)
    assert "A was typed in and stands in no file" in done.stderr.splitlines()[-1]


CELLS = [
    "from __future__ import annotations\nimport random as rnd\nimport os, sys\nunused = 1",
    "n = 1\nn = n + 1; m = 5",
    "@staticmethod\ndef helper(x: Shape) -> str:\n    return rnd.choice(WORDS) + '''a\n  b'''\nclass Shape: pass",
    "WORDS = ['a']",
    "WORDS = ['b']\nprint(WORDS)",
    "class Game:\n    size = n\n    def run(self, local):\n        train = local\n        return helper(train)\n"
    "train = start(Game)",
]


def test_a_class_of_a_notebook_is_kept_with_what_it_needs_and_no_more() -> None:
    again = CELLS[2]  # run once more, which puts nothing behind the class
    source = source_from_cells([*CELLS, again], "Game", frozenset({"WORDS", "n", "helper", "train", "start"}))
    namespace: dict[str, object] = {}
    exec(compile(source.text, "workflow.py", "exec"), namespace)
    assert namespace["n"] == 2 and namespace["WORDS"] == ["b"]
    assert "unused" not in source.text and "print" not in source.text and "start(" not in source.text
    assert "'''a\n  b'''" in source.text and "class Shape" in source.text
    assert source.names == ("Game", "Shape", "WORDS", "helper", "n", "rnd")


def test_what_no_cell_defines_is_named() -> None:
    with pytest.raises(ConfigError, match="Game needs injected, which no cell defines"):
        source_from_cells(["class Game:\n    x = injected"], "Game", frozenset({"injected"}))


def test_ctrl_c_reaches_work_on_another_thread() -> None:
    heard: list[int] = []
    listening, over, ending = threading.Event(), threading.Event(), threading.Event()

    def hear(signum: int) -> None:
        heard.append(signum)
        over.set()

    def work() -> str:
        with ending_signals(hear):
            listening.set()
            assert over.wait(60)
        with ending_signals(interrupt):
            ending.set()
            for _ in range(6000):  # the exception comes between two bytecodes, not out of one long sleep
                time.sleep(0.01)
        return "not reached"

    def press() -> None:
        for moment in (listening, ending):
            assert moment.wait(60)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(UserInterrupt):
        run_on_own_thread(work)
    pressing.join()
    assert heard == [signal.SIGINT]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hydra.job.chdir=true", "hydra.job.chdir has no effect on a call from Python"),
        ("seed=1,2", "seed=1,2 has several values"),
        ("rollout.grup_size=2", "did you mean group_size?"),
        ("engine=chess", "no such option"),
    ],
)
def test_a_mistake_is_a_config_error_with_the_commands_sentence(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ajet.train("signals", override)
    assert words in str(refused.value)
