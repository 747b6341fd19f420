"""Packages that only some runs need: without one, a single sentence names the extra that brings it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.environments import environment_of

from ajet.engine.vllm import VllmConfig
from ajet.errors import EXTRAS, require_extra

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "from ajet.train.__main__ import main; main([{}])"
MINE = """
from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

class Mine(Workflow):
    async def execute(self, workflow_task, tuner):
        client = tuner.as_raw_openai_sdk_client(agent_name="a", target_tag="a")
        await client.chat.completions.create(model="", messages=[{"role": "user", "content": "hi"}])
        return WorkflowOutput(reward=1.0)
"""


def without(extra: str, statement: str, folder: Path) -> str:
    """What a process in which an extra is not installed writes."""
    hide = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); sys.modules |= dict.fromkeys({EXTRAS[extra]!r})"
    command = [sys.executable, "-c", f"{hide}\n{statement}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "extra, asked, settings",
    [
        ("agentscope", "workflow=werewolves needs agentscope", "'workflow=werewolves', 'trainable_targets=[seer]'"),
        ("agentscope", "workflow=signals needs agentscope", "'workflow=signals'"),
        ("gym", "workflow=frozenlake needs gymnasium", "'workflow=frozenlake'"),
        ("math", "judge=boxed_math needs math_verify", "'workflow=math'"),
        (
            "datasets",
            "data=huggingface needs datasets",
            "'workflow=guess_number', 'data=huggingface', 'data.path=somewhere', 'data.split=train'",
        ),
    ],
)
def test_without_a_package_a_sentence_names_its_extra_before_anything_loads(
    extra: str, asked: str, settings: str, tmp_path: Path
) -> None:
    said = without(extra, TRAIN.format(settings), tmp_path)
    assert said == f"error: {asked}, which is not installed: pip install 'ajet[{extra}]'"


def test_an_engine_without_its_package_is_one_sentence_before_anything_loads(tmp_path: Path) -> None:
    said = without("cpu", TRAIN.format("'workflow=signals', 'engine=vllm'"), tmp_path)
    install = "pip install 'ajet[cpu]' or 'ajet[gpu]', or choose engine=transformers"
    assert said == f"error: engine=vllm needs vllm, which is not installed: {install}"


def test_a_workflow_of_ones_own_does_without_any_of_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    asked = ["-m", "ajet.rollout", "workflow.entry=mine.py->Mine", "engine=scripted", "rollout.max_tokens=4"]
    done = run(environment_of([], tmp_path / "own"), *asked)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tuners_agentscope_model_names_its_extra(tmp_path: Path) -> None:
    said = without("agentscope", "import ajet.rollout.agents.agentscope", tmp_path)
    assert said.endswith(
        "tuner.as_agentscope_model needs agentscope, which is not installed: pip install 'ajet[agentscope]'"
    )


def test_what_is_installed_passes() -> None:
    for extra in EXTRAS:
        require_extra(extra, needed_by="this test")


def test_every_extra_of_the_table_is_one_of_the_package_and_all_brings_what_needs_no_compiler() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) <= set(extras)
    # The package of a pretrained model asks for one that needs a compiler; vLLM is for the one machine or the other.
    kept = [extra for extra in EXTRAS if extra not in ("real", *VllmConfig.needs_extras)]
    assert extras["all"] == [f"ajet[{','.join(kept)}]"]


@pytest.mark.parametrize(
    ("extra", "statement"),
    [
        ("agentscope", "import ajet.rollout.agents.agentscope"),
        ("gym", "import gymnasium"),
        ("datasets", "import datasets"),
        ("math", "import math_verify"),
    ],
)
def test_an_extra_asks_for_all_that_its_packages_import(extra: str, statement: str, tmp_path: Path) -> None:
    done = run(environment_of([extra], tmp_path / "own"), "-c", statement)
    assert done.returncode == 0, done.stderr


def test_a_machine_with_the_tinker_extra_alone_gets_as_far_as_its_server(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    asked = ["workflow.entry=mine.py->Mine", "model=tiny", "hardware=tinker", "tinker.base_url=http://127.0.0.1:9"]
    code = f"""
from importlib.util import find_spec
from ajet.train.__main__ import main
code = main({asked!r})
import ajet.report, ajet.train.tinker_learner, ajet.view
print(code, [name for name in ("vllm", "agentscope", "datasets", "pytest") if find_spec(name)])
"""
    done = run(environment_of(["tinker"], tmp_path / "own"), "-c", code)
    assert done.stdout.splitlines()[-1] == "1 []", done.stdout + done.stderr
    assert "the Tinker server at http://127.0.0.1:9 cannot be reached" in done.stderr


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the interpreter of an environment of its own comes to, in the folder that the environment is in."""
    folder = python.parents[2]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], cwd=folder, env=own, capture_output=True, text=True, timeout=120)
