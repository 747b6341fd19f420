"""One tool-using agent a client: the same sums, brought to ajet by whatever their users write agents with.

Each imports its own client where it is used, as installations have some of them. The reward is the share of
calls to the tool whose sum is even, so that it differs from episode to episode whatever the model says.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from ajet import AjetTuner, OpenAIAddress, Workflow, WorkflowOutput, WorkflowTask

MAX_TURNS = 4
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
ASK: Any = [{"role": "system", "content": "You add."}, {"role": "user", "content": "What is 2 + 3?"}]


class Sums(Workflow):
    """What they share: a tool that remembers its sums, and what an episode is worth."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        sums: list[int] = []

        def add(a: int, b: int) -> str:
            """Add two numbers."""
            sums.append(a + b)
            return str(a + b)

        await self.converse(tuner, add)
        return WorkflowOutput(
            reward=sum(1.0 - number % 2 for number in sums) / max(len(sums), 1),
            log_metrics={"tool_calls": float(len(sums))},
        )

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        """Talk to the model until it calls no more tools."""
        raise NotImplementedError


def answered(add: Any, call: Any) -> dict[str, Any]:
    """The message with a tool's result."""
    return {"role": "tool", "tool_call_id": call["id"], "content": add(**json.loads(call["function"]["arguments"]))}


class SdkInProcess(Sums):
    """`openai.AsyncOpenAI` without a socket."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        client: Any = tuner.as_raw_openai_sdk_client(agent_name="adder", target_tag="adder")
        messages = list(ASK)
        for _ in range(MAX_TURNS):
            reply = (await client.chat.completions.create(messages, tools=[ADD])).choices[0].message
            messages.append(reply.model_dump(exclude_none=True))
            if not reply.tool_calls:
                return
            messages += [answered(add, call.model_dump()) for call in reply.tool_calls]


class SdkAsync(Sums):
    """`openai.AsyncOpenAI` by URL, streaming."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        from openai import AsyncOpenAI

        address = tuner.as_oai_baseurl_apikey(agent_name="adder", target_tag="adder")
        async with AsyncOpenAI(base_url=address.base_url, api_key=address.api_key) as client:
            messages = list(ASK)
            for _ in range(MAX_TURNS):
                stream = await client.chat.completions.create(
                    model=address.model, messages=messages, tools=[ADD], stream=True
                )
                messages.append(await joined(stream))
                if "tool_calls" not in messages[-1]:
                    return
                messages += [answered(add, call) for call in messages[-1]["tool_calls"]]


async def joined(stream: Any) -> dict[str, Any]:
    """The message that a stream's pieces make up."""
    text, calls = "", []
    async for piece in stream:
        delta = piece.choices[0].delta
        text += delta.content or ""
        for part in delta.tool_calls or []:
            if part.id:
                calls.append(part.model_dump(exclude={"index"}))
            else:
                calls[part.index]["function"]["arguments"] += part.function.arguments
    return {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})


class SdkSync(Sums):
    """`openai.OpenAI`, which blocks."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        from openai import OpenAI

        address = tuner.as_oai_baseurl_apikey(agent_name="adder", target_tag="adder")
        with OpenAI(base_url=address.base_url, api_key=address.api_key) as client:
            messages = list(ASK)
            for _ in range(MAX_TURNS):
                completion = client.chat.completions.create(model=address.model, messages=messages, tools=[ADD])
                reply = completion.choices[0].message
                messages.append(reply.model_dump(exclude_none=True))
                if not reply.tool_calls:
                    return
                messages += [answered(add, call.model_dump()) for call in reply.tool_calls]


class Requests(Sums):
    """Plain HTTP, which blocks."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        import requests

        address = tuner.as_oai_baseurl_apikey(agent_name="adder", target_tag="adder")
        messages = list(ASK)
        for _ in range(MAX_TURNS):
            answer = requests.post(
                f"{address.base_url}/chat/completions",
                headers={"Authorization": f"Bearer {address.api_key}"},
                json={"messages": messages, "tools": [ADD]},
                timeout=60,
            )
            answer.raise_for_status()
            reply = answer.json()["choices"][0]["message"]
            messages.append(reply)
            if not reply.get("tool_calls"):
                return
            messages += [answered(add, call) for call in reply["tool_calls"]]


class AgentScopeByUrl(Sums):
    """AgentScope 1's own OpenAI model, streaming as is its default."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        from agentscope.agent import ReActAgent
        from agentscope.formatter import OpenAIChatFormatter
        from agentscope.message import Msg, TextBlock
        from agentscope.model import OpenAIChatModel
        from agentscope.tool import Toolkit, ToolResponse

        def add_numbers(a: int, b: int) -> Any:
            return ToolResponse(content=[TextBlock(type="text", text=add(a, b))])

        address = tuner.as_oai_baseurl_apikey(agent_name="adder", target_tag="adder")
        toolkit = Toolkit()
        toolkit.register_tool_function(add_numbers, func_name="add", json_schema=ADD)
        agent = ReActAgent(
            name="adder",
            sys_prompt="You add.",
            model=OpenAIChatModel(
                model_name=address.model, api_key=address.api_key, client_args={"base_url": address.base_url}
            ),
            formatter=OpenAIChatFormatter(),
            toolkit=toolkit,
            max_iters=MAX_TURNS,
        )
        agent.set_console_output_enabled(False)
        await agent(Msg("user", "What is 2 + 3?", "user"))


class LangGraphReAct(Sums):
    """LangChain's chat model in LangGraph's ReAct agent, called synchronously."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        from langchain_openai import ChatOpenAI
        from langgraph.errors import GraphRecursionError
        from langgraph.prebuilt import create_react_agent

        agent = create_react_agent(chat_openai(tuner.as_oai_baseurl_apikey("adder"), ChatOpenAI), [add])
        with suppress(GraphRecursionError):
            agent.invoke({"messages": [("user", "What is 2 + 3?")]}, {"recursion_limit": 2 * MAX_TURNS})


class LangGraphStreaming(Sums):
    """The same agent, awaited and streaming."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        from langchain_openai import ChatOpenAI
        from langgraph.errors import GraphRecursionError
        from langgraph.prebuilt import create_react_agent

        model = chat_openai(tuner.as_oai_baseurl_apikey("adder"), ChatOpenAI, streaming=True, stream_usage=True)
        agent = create_react_agent(model, [add])
        with suppress(GraphRecursionError):
            await agent.ainvoke({"messages": [("user", "What is 2 + 3?")]}, {"recursion_limit": 2 * MAX_TURNS})


class LangChainAgent(Sums):
    """LangChain 1's own agent, called synchronously."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        from langchain.agents import create_agent
        from langchain_openai import ChatOpenAI
        from langgraph.errors import GraphRecursionError

        agent = create_agent(chat_openai(tuner.as_oai_baseurl_apikey("adder"), ChatOpenAI), [add])
        with suppress(GraphRecursionError):
            agent.invoke({"messages": [("user", "What is 2 + 3?")]}, {"recursion_limit": 2 * MAX_TURNS})


class LangChainAwaited(Sums):
    """The same agent, awaited, whose client LangChain keeps by URL for the life of the process; counts its replies."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        from langchain.agents import create_agent
        from langchain_core.callbacks import AsyncCallbackHandler
        from langchain_openai import ChatOpenAI
        from langgraph.errors import GraphRecursionError

        class Received(AsyncCallbackHandler):  # type: ignore[misc]
            count = 0

            async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
                self.count += 1

        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        received = Received()
        agent = create_agent(chat_openai(tuner.as_oai_baseurl_apikey("adder"), ChatOpenAI), [add])
        question: Any = {"messages": [("user", "What is 2 + 3?")]}
        with suppress(GraphRecursionError):
            await agent.ainvoke(question, {"recursion_limit": 2 * MAX_TURNS, "callbacks": [received]})
        return WorkflowOutput(reward=received.count % 2, log_metrics={"received": float(received.count)})


def chat_openai(address: OpenAIAddress, kind: Any, **settings: Any) -> Any:
    """LangChain's chat model at an address."""
    return kind(model=address.model, base_url=address.base_url, api_key=address.api_key, **settings)


class AgentsSdk(Sums):
    """OpenAI's Agents SDK over the in-process client."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        from agents import Agent, MaxTurnsExceeded, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool

        client: Any = tuner.as_raw_openai_sdk_client(agent_name="adder", target_tag="adder")
        agent = Agent(
            name="adder",
            instructions="You add.",
            model=OpenAIChatCompletionsModel(model=client.model, openai_client=client),
            tools=[function_tool(add)],
        )
        with suppress(MaxTurnsExceeded):
            await Runner.run(agent, "What is 2 + 3?", max_turns=MAX_TURNS, run_config=RunConfig(tracing_disabled=True))


class TooWarm(Sums):
    """Asks for another temperature than it is trained at."""

    async def converse(self, tuner: AjetTuner, add: Any) -> None:
        client: Any = tuner.as_raw_openai_sdk_client(agent_name="adder", target_tag="adder")
        await client.chat.completions.create(ASK, temperature=1.5, top_p=0.9)
