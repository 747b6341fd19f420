"""`python -m ajet.rollout`: calls as they happen, failures at the user's line, everything kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.integration.adder_model import save_adder_model

PROGRAM = """
from ajet import PolicyError, Workflow, WorkflowOutput

class Speaks(Workflow):
    async def execute(self, workflow_task, tuner):
        client = tuner.as_raw_openai_sdk_client(agent_name="Ada", target_tag="solver")
        reply = await client.chat.completions.create([{"role": "user", "content": "Say a word."}])
        return WorkflowOutput(reward=self.judge(reply), log_metrics={"words": 1.0})

    def judge(self, reply):
        return 0.5

class Breaks(Speaks):
    def judge(self, reply):
        nothing = {}
        return nothing["the word"]

class Blames(Speaks):
    def judge(self, reply):
        try:
            return {}["the word"]
        except KeyError as error:
            raise PolicyError("it does not know the word") from error

class Stops(Speaks):
    def judge(self, reply):
        breakpoint()
        return 0.25
"""
SMALL = ["model.max_context=1024", "hardware.sampling_threads=1", "rollout.max_tokens=4"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_adder_model(tmp_path_factory.mktemp("adder"))


def rollout(folder: Path, model_path: str, name: str, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    (folder / "my_agent.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "ajet.rollout", f"workflow.entry=my_agent.py->{name}", *SMALL, *arguments]
    played = subprocess.run(
        [*command, f"model.path={model_path}"],
        cwd=folder,
        input=typed,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    return played.returncode, played.stdout, played.stderr


def test_it_tells_each_call_and_keeps_the_episodes(tmp_path: Path, model_path: str) -> None:
    code, said, _ = rollout(tmp_path, model_path, "Speaks", "num_episodes=2")
    assert code == 0
    assert said.count("Ada (solver, policy)") == 2 and said.count("user: Say a word.") == 2
    assert "4 sampled, log-probability -" in said or "finished by stop" in said
    assert said.count("ok; reward Ada 0.5; 1 calls") == 2 and "words 1" in said
    (transcript,) = tmp_path.glob("outputs/rollout/*/*/transcript.txt")
    assert transcript.read_text() in said and f"transcript: {transcript}" in said
    rows = pq.read_table(transcript.parent / "trajectories" / "play_000000.parquet").to_pylist()
    assert [row["reward"] for row in rows] == [0.5, 0.5] and all(row["sampled_ids"] for row in rows)


def test_a_failure_points_at_the_users_line(tmp_path: Path, model_path: str) -> None:
    code, said, error = rollout(tmp_path, model_path, "Breaks")
    line = 1 + PROGRAM.splitlines().index('        return nothing["the word"]')
    assert code == 1 and "error: 1 of 1 episodes failed: train-0" in error
    assert f"at {tmp_path}/my_agent.py:{line}: return nothing" in said and "KeyError: 'the word'" in said
    # Only the user's frames: nothing of ajet's or asyncio's above them.
    assert "src/ajet" not in said.partition("Traceback")[2].partition("KeyError")[0]


def test_the_policys_own_fault_is_told_with_its_cause_and_is_no_failure(tmp_path: Path, model_path: str) -> None:
    code, said, _ = rollout(tmp_path, model_path, "Blames")
    assert code == 0 and "policy_error, no success; reward Ada 0;" in said
    assert said.index("KeyError: 'the word'") < said.index("direct cause") < said.index("PolicyError: it does not know")
    assert f"at {tmp_path}/my_agent.py" in said and "src/ajet" not in said


def test_a_breakpoint_stops_where_it_stands(tmp_path: Path, model_path: str) -> None:
    code, said, _ = rollout(tmp_path, model_path, "Stops", "rollout.concurrency=1", typed="p 40 + 2\nc\n")
    assert code == 0 and "(Pdb) 42" in said and "ok; reward Ada 0.25" in said


def test_an_arrow_that_the_shell_took_is_explained(tmp_path: Path, model_path: str) -> None:
    command = [sys.executable, "-m", "ajet.rollout", "workflow.entry=my_agent.py-"]
    refused = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2 and "quote the setting: 'workflow.entry=my_agent.py->MyWorkflow'" in refused.stderr
