"""Whole runs of a workflow in many odd forms: what fails is data, and exit code 0 says that a run is done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ODD = '''
import asyncio, math, sys
import numpy as np
from ajet import Workflow, WorkflowOutput

KINDS = (
    "exit", "own_cancel", "swallows", "numpy_key", "circular", "late_text", "late_none", "nan_metric", "keyboard",
    "subtask", "no_text",
)

class Odd(Workflow):
    """The first episodes of a group are odd, each in its way; as many again are not."""

    async def execute(self, workflow_task, tuner):
        repeat = workflow_task.repeat
        kind = KINDS[repeat] if repeat < len(KINDS) else ""
        model = tuner.as_agentscope_model(agent_name="solver", target_tag="solver")
        await model([{"role": "user", "content": "Say a."}])
        output = WorkflowOutput(reward=float(repeat % 2), log_metrics={"score": 1.0, "day": {"votes": np.int64(2)}})
        if kind == "exit":
            sys.exit(0)
        if kind == "own_cancel":
            task = asyncio.create_task(asyncio.sleep(100))
            task.cancel()
            await task
        while kind == "swallows":
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass
        if kind == "numpy_key":
            output.metadata["votes"] = {np.int64(1): 2}
        if kind == "circular":
            output.metadata["loop"] = output.metadata
        if kind == "late_text":
            output.reward = "good"
        if kind == "late_none":
            output.log_metrics["score"] = None
        if kind == "nan_metric":
            output.log_metrics["score"] = math.nan
        if kind == "keyboard":
            raise KeyboardInterrupt
        if kind == "subtask":
            await asyncio.gather(asyncio.sleep(1), self.exits())
        if kind == "no_text":
            output.metadata["said"] = "half \\ud83d"
        return output

    async def exits(self):
        sys.exit(0)

class Breaks(Workflow):
    """Plays one step of four episodes and then no more, or only `survivors` of each four."""

    survivors: int = 0

    async def execute(self, workflow_task, tuner):
        PLAYED.append(1)
        if len(PLAYED) > 4 and workflow_task.repeat >= self.survivors:
            raise ConnectionError("the service is gone")
        model = tuner.as_agentscope_model(agent_name="solver", target_tag="solver")
        await model([{"role": "user", "content": "Say a."}])
        return WorkflowOutput(reward=float(workflow_task.repeat % 2))

PLAYED = []
'''


def train(folder: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "odd.py").write_text(ODD)
    arguments = ["workflow=custom", f"workflow.entry=odd.py->{name}", "debug=fast", "eval=none", "run_dir=run"]
    return subprocess.run(
        [sys.executable, "-m", "ajet.train", *arguments, "rollout.max_retries=0", *more],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
    )


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_odd_episodes_are_counted_and_the_run_goes_on_to_its_end(tmp_path: Path) -> None:
    sizes = ["total_steps=1", "rollout.num_tasks=1", "rollout.group_size=22", "rollout.concurrency=22"]
    done = train(tmp_path, "Odd", *sizes, "rollout.timeout_s=15")
    assert done.returncode == 0, done.stderr
    assert "task " in done.stdout + done.stderr and "is left behind" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "destroyed" not in done.stderr
    (step,) = metrics(tmp_path)
    # exit, own_cancel, circular, late_text, late_none, keyboard and subtask
    assert (step["episode/infra_error"], step["episode/timeout"], step["episode/ok"]) == (7, 1, 14)
    assert step["workflow/score"] == 1 and step["workflow/score/not_finite"] == 1
    assert step["workflow/day/votes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("survivors", "words"),
    [
        (0, "All 4 episodes failed"),
        (1, "3 of 4 episodes were lost, more than rollout.max_lost_fraction=0.5 allows"),
    ],
)
def test_a_run_that_loses_its_episodes_stops_with_its_state_saved(survivors: int, words: str, tmp_path: Path) -> None:
    sizes = ["rollout.num_tasks=1", "rollout.group_size=4"]
    done = train(tmp_path, "Breaks", "total_steps=3", f"++workflow.params.survivors={survivors}", *sizes)
    assert done.returncode == 1
    assert f"error: {words}, the first with: ConnectionError: the service is gone (" in done.stderr
    assert done.stderr.endswith(f"; the state is saved, resume with: python -m ajet.train resume={tmp_path}/run\n")
    assert (tmp_path / "run" / "checkpoints" / "step_1").is_dir()
