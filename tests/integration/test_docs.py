"""Every snippet of docs/ runs: each Python block is a program that trains a step, each command line goes to ajet."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.adder_model import save_adder_model

from ajet.config.cli.entry import run_entry
from ajet.config.compose import load_training
from ajet.report.__main__ import main as report
from ajet.rollout.__main__ import load as load_playing
from ajet.rollout.__main__ import play
from ajet.train.__main__ import train
from ajet.workflows.debate import workflow as debate

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ["openai-sdk", "http", "langchain", "agentscope", "from-agentjet", "tasks", "debate"]
AGENTSCOPE_2 = Path(sys.prefix) / "agentscope2"
"""AgentScope 2 in a folder of its own: it has the name of AgentScope 1."""
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONAL = ("agents", "langchain", "langchain_core", "langchain_openai", "langgraph")
OVERRIDES = [
    "model.max_context=1024",
    "engine=transformers",
    "hardware.sampling_threads=1",
    "hardware.training_threads=1",
    "total_steps=1",
    "algorithm.warmup_steps=0",
    "rollout.num_tasks=1",
    "rollout.group_size=2",
    "rollout.max_tokens=2",
    "rollout.max_retries=0",
    "eval=none",
    "logger=quiet",
    "checkpoint.every=0",
]


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((DOCS / f"{page}.md").read_text())


def programs(page: str) -> dict[str, str]:
    """The Python blocks by the file that their first line names."""
    return {code.split("\n", 1)[0].removeprefix("# "): code for kind, code in blocks(page) if kind == "python"}


def commands(page: str) -> list[list[str]]:
    """The command lines, and for each program that none of them runs, one as the page teaches it."""
    lines = [line for kind, code in blocks(page) if kind == "bash" for line in code.splitlines()]
    written = [shlex.split(line) for line in lines]
    for name, code in programs(page).items():
        if not any(name in line for line in lines):
            (workflow,) = re.findall(r"^class (\w+)\(Workflow\)", code, re.MULTILINE)
            command = ["python", "-m", "ajet.train", "workflow=custom", f"workflow.entry={name}->{workflow}"]
            written.append(command)
    return written


CASES = [
    pytest.param(page, command, id=f"{page}: {command[4]}")
    for page in PAGES
    for command in commands(page)
    if command[3] == "workflow=custom"
]
WALK = [command for command in commands("debate") if command[3] != "workflow=custom"]
"""What the page on debate runs one after the other."""


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_adder_model(tmp_path_factory.mktemp("adder"))


ASKS_THE_ADAPTER = """
from ajet import Workflow

class Asks(Workflow):
    async def execute(self, workflow_task, tuner):
        tuner.as_agentscope_model()
"""


def run_with_agentscope_2(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    assert AGENTSCOPE_2.is_dir(), "make setup installs it there"
    own = os.environ | {"PYTHONPATH": os.pathsep.join([str(AGENTSCOPE_2), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "ajet.train", *arguments]
    return subprocess.run(command, env=own, check=False, capture_output=True, text=True)


def test_the_adapter_says_which_agentscope_it_speaks(
    tmp_path: Path, model_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asks.py").write_text(ASKS_THE_ADAPTER)
    monkeypatch.chdir(tmp_path)
    arguments = ["workflow=custom", "workflow.entry=asks.py->Asks", *OVERRIDES, f"model.path={model_path}"]
    said = run_with_agentscope_2(arguments)
    assert said.returncode == 2
    assert re.search(r"AgentScope 1 and agentscope 2\S* is installed: take as_oai_baseurl_apikey", said.stderr)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run(page: str) -> None:
    assert {kind for kind, _ in blocks(page)} <= {"python", "bash", "jsonl"}
    assert programs(page) and all(re.fullmatch(r"\w+\.py", name) for name in programs(page))


@pytest.mark.parametrize(("page", "command"), CASES)
def test_a_snippet_trains_a_step(
    page: str, command: list[str], model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in programs(page).items():
        (tmp_path / name).write_text(code)
    (tmp_path / "tasks.jsonl").write_text("".join(code for kind, code in blocks(page) if kind == "jsonl"))
    file = command[4].removeprefix("workflow.entry=").partition("->")[0]
    for package in re.findall(r"^from (\w+)", (tmp_path / file).read_text(), re.MULTILINE):
        if package in OPTIONAL and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'ajet[clients]'")
    assert command[:3] == ["python", "-m", "ajet.train"]
    monkeypatch.chdir(tmp_path)
    arguments = [*command[3:], *OVERRIDES, f"model.path={model_path}", "hydra.run.dir=run"]
    if file.startswith("agentscope2"):
        played = run_with_agentscope_2(arguments)
        assert played.returncode == 0, played.stderr
    else:
        assert run_entry("train", load_training, train, arguments) == 0
    first: dict[str, Any] = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["episode/ok"] == 2.0 and first["tokens/sampled"] > 0


def test_the_debate_page_shows_the_workflow_that_ships() -> None:
    assert programs("debate") == {"workflow.py": f"# workflow.py\n{Path(debate.__file__).read_text()}"}


def test_the_debate_page_runs_from_start_to_end(
    model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    playing, training, reporting = WALK
    assert playing[:3] == ["python", "-m", "ajet.rollout"]
    of_any_run = [setting for setting in OVERRIDES if setting.startswith(("model.", "hardware.", "rollout.max_tokens"))]
    assert run_entry("play", load_playing, play, [*playing[3:], *of_any_run, f"model.path={model_path}"]) == 0
    assert capsys.readouterr().out.count("Round 2 of 2.") == 4  # two debates, two sides
    assert training[:3] == ["python", "-m", "ajet.train"]
    arguments = [*training[3:], *OVERRIDES, f"model.path={model_path}", "hydra.run.dir=run"]
    assert run_entry("train", load_training, train, arguments) == 0
    assert reporting == ["python", "-m", "ajet.report", "outputs/<date>/<time>"]
    assert report(["run"]) == 0 and "pro" in (tmp_path / "run" / "report.html").read_text()
