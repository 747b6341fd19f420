"""Programs that ask a model a few times, one by interface: what the cost of a call is measured on."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx

from ajet import AjetTuner, OpenAIAddress, Workflow, WorkflowOutput, WorkflowTask

NUM_CALLS = 4
"""An episode's, one behind the other."""
MESSAGES = [{"role": "user", "content": f"What is {n} + {n}? Think aloud, then answer."} for n in range(NUM_CALLS)]
PATIENCE_S = 600


class Asks(Workflow):
    """By AgentScope's model."""

    target_tags: ClassVar[tuple[str, ...]] = ("asker",)

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        model = tuner.as_agentscope_model(agent_name="Ada", target_tag="asker")
        for message in MESSAGES:
            await model([message])
        return WorkflowOutput(reward=workflow_task.repeat % 2)


class AsksOpenAI(Workflow):
    """By the OpenAI SDK's client, in the process."""

    target_tags: ClassVar[tuple[str, ...]] = ("asker",)

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        client = tuner.as_raw_openai_sdk_client(agent_name="Ada", target_tag="asker")
        await ask_by_openai(client)
        return WorkflowOutput(reward=workflow_task.repeat % 2)


class AsksHttp(Workflow):
    """By plain HTTP, each episode with a client and a connection of its own."""

    target_tags: ClassVar[tuple[str, ...]] = ("asker",)

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        address = tuner.as_oai_baseurl_apikey(agent_name="Ada", target_tag="asker")
        await ask_by_http(address)
        return WorkflowOutput(reward=workflow_task.repeat % 2)


async def ask_by_openai(client: Any) -> None:
    """What a client of the SDK's asks in one episode."""
    for message in MESSAGES:
        await client.chat.completions.create([message])


async def ask_by_http(address: OpenAIAddress) -> None:
    """What a client by HTTP asks in one episode."""
    headers = {"Authorization": f"Bearer {address.api_key}"}
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        for message in MESSAGES:
            body = {"model": address.model, "messages": [message]}
            answer = await client.post(f"{address.base_url}/chat/completions", headers=headers, json=body)
            answer.raise_for_status()
