"""A program whose rewards are finite and whose gradients are not: nothing of it may reach the weights."""

from __future__ import annotations

from collections import defaultdict
from itertools import count

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

NUMBERS: defaultdict[str, count[int]] = defaultdict(count)
"""Counts the episodes of a task, so that its rewards differ in whatever order they end."""


class Overflowing(Workflow):
    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        client = tuner.as_raw_openai_sdk_client(agent_name="only", target_tag="only")
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Say something."}])
        # Their differences are infinite in float32, in which gradients are computed.
        return WorkflowOutput(reward=3e38 if next(NUMBERS[workflow_task.task.task_id]) % 2 else -3e38)
