"""Real clients, each a multi-turn agent with a tool, train a step through the interface that they come by."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.episodes import agent_model
from tests.integration.adder_model import save_adder_model
from tests.measured import MEASURED

from ajet.assemble import build_trainer
from ajet.chat.types import ChatReply, ChatRequest, ToolCall
from ajet.config.compose import compose
from ajet.errors import WorkflowError
from ajet.rollout.agents.openai_sdk import in_process_client
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.running_episode import RunningEpisode

HERE = Path(__file__).parent
IN_PROCESS = ["SdkInProcess", "AgentsSdk"]
BY_URL = ["SdkAsync", "SdkSync", "Requests", "AgentScopeByUrl", "LangGraphReAct", "LangGraphStreaming"]
BY_URL += ["LangChainAgent"]
OPTIONAL = {
    "AgentsSdk": "agents",
    "LangGraphReAct": "langgraph",
    "LangGraphStreaming": "langgraph",
    "LangChainAgent": "langchain",
    "LangChainAwaited": "langchain",
}


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_adder_model(tmp_path_factory.mktemp("adder"))


def train(model_path: str, run_dir: Path, workflow: str, *overrides: str) -> list[dict[str, Any]]:
    """One step; the lines of its metrics without what a clock says."""
    if workflow in OPTIONAL and importlib.util.find_spec(OPTIONAL[workflow]) is None:
        pytest.skip(f"{OPTIONAL[workflow]} is not installed: pip install 'ajet[clients]'")
    settings = [
        "workflow=custom",
        f'workflow.entry="{HERE / "client_workflows.py"}->{workflow}"',
        f"model.path={model_path}",
        "model.max_context=1024",
        "engine=transformers",
        "hardware.sampling_threads=1",
        "hardware.training_threads=1",
        "total_steps=1",
        "algorithm.warmup_steps=0",
        "rollout.num_tasks=2",
        "rollout.group_size=4",
        "rollout.max_tokens=2",
        "rollout.timeout_s=60",
        "eval=none",
        "logger=quiet",
        "checkpoint.every=0",
    ]
    run_dir.mkdir(exist_ok=True)
    build_trainer(compose([*settings, *overrides], run_dir=run_dir)).run()
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(MEASURED)} for line in lines]


@pytest.mark.parametrize("workflow", [*IN_PROCESS, *BY_URL])
def test_an_agent_with_a_tool_trains_a_step(model_path: str, tmp_path: Path, workflow: str) -> None:
    first = train(model_path, tmp_path, workflow)[0]
    assert first["episode/ok"] == 8.0 and first["workflow/tool_calls"] > 0
    assert first["policy/optimizer_steps"] == 1.0 and first["policy/max_logprob_gap"] < 1e-5
    rows = pq.read_table(tmp_path / "trajectories" / "train_000000.parquet").to_pylist()
    assert all(row["trained"] and row["tag"] == "adder" and row["sampled_ids"] for row in rows)
    # Later turns carry the tool's results, and start from the very ids of earlier ones.
    episodes: dict[Any, list[Any]] = {}
    for row in rows:
        episodes.setdefault((row["task"], row["repeat"]), []).append(row)
    longest = max(episodes.values(), key=len)
    assert len(longest) > 1
    before, after = longest[0], longest[1]
    assert any(message["role"] == "tool" for message in json.loads(after["messages"]))
    said = [*before["prompt_ids"], *before["sampled_ids"]]
    assert list(after["prompt_ids"])[: len(said)] == said


@pytest.mark.parametrize(("workflow", "concurrency"), [("SdkInProcess", 8), ("SdkSync", 1)])
def test_two_runs_of_one_seed_give_the_same_metrics(
    model_path: str, tmp_path: Path, workflow: str, concurrency: int
) -> None:
    """Threads meet in whatever batches the clock makes, which shows in the last digits, so there one at a time."""
    first, again = (
        train(model_path, tmp_path / name, workflow, f"rollout.concurrency={concurrency}") for name in ("1", "2")
    )
    assert first == again


def test_by_url_two_runs_of_one_seed_sample_the_same_tokens(model_path: str, tmp_path: Path) -> None:
    sampled = []
    for name in ("1", "2"):
        train(model_path, tmp_path / name, "Requests")
        rows = pq.read_table(tmp_path / name / "trajectories" / "train_000000.parquet").to_pylist()
        sampled.append([(row["task"], row["repeat"], row["sampled_ids"]) for row in rows])
    assert sampled[0] == sampled[1]


def test_langchain_awaited_over_three_steps_records_as_many_calls_as_it_received(
    model_path: str, tmp_path: Path
) -> None:
    steps = train(model_path, tmp_path, "LangChainAwaited", "total_steps=3")
    assert [step["episode/ok"] for step in steps] == [8.0] * 3
    assert [step["episode/calls_mean"] for step in steps] == [step["workflow/received"] for step in steps]
    assert all(step["episode/undelivered_calls"] == 0 for step in steps)


def test_what_cannot_be_trained_on_stops_a_run_with_the_reason_unless_it_is_to_be_ignored(
    model_path: str, tmp_path: Path
) -> None:
    with pytest.raises(WorkflowError, match=r"temperature=1\.5.*rollout\.temperature=1"):
        train(model_path, tmp_path / "refused", "TooWarm")
    assert train(model_path, tmp_path / "ignored", "TooWarm", "endpoint.unsupported=ignore")[0]["episode/ok"] == 8.0


def test_after_a_handoff_every_message_is_there() -> None:
    """The Agents SDK tells calls apart by their ids: were two agents' alike, it would drop the first of them."""
    agents = pytest.importorskip("agents")
    endpoint, episode = Endpoint(), RunningEpisode()

    def model(name: str, replies: _Replies) -> Any:
        client = in_process_client(endpoint, agent_model(replies, name=name, tag=name, episode=episode))
        return agents.OpenAIChatCompletionsModel(model=name, openai_client=client)

    asked = _Replies(_call("lookup"), ChatReply(content="It is 7."))
    lookup = agents.function_tool(lambda: "7", name_override="lookup")
    billing = agents.Agent(name="billing", model=model("billing", asked), tools=[lookup])
    first = model("triage", _Replies(_call("transfer_to_billing")))
    triage = agents.Agent(name="triage", model=first, handoffs=[billing])
    asyncio.run(agents.Runner.run(triage, "my bill?", run_config=agents.RunConfig(tracing_disabled=True)))
    called = [
        (message["role"], [call["function"]["name"] for call in message.get("tool_calls") or []])
        for message in asked.asked[-1].messages
    ]
    handed_over = [("user", []), ("assistant", ["transfer_to_billing"]), ("tool", [])]
    assert called == [*handed_over, ("assistant", ["lookup"]), ("tool", [])]


class _Replies:
    """A model that says what it was given, and keeps what it was asked."""

    def __init__(self, *replies: ChatReply) -> None:
        self._replies, self.asked = list(replies), list[ChatRequest]()

    async def chat(self, request: ChatRequest) -> ChatReply:
        self.asked.append(request)
        return self._replies.pop(0)


def _call(name: str) -> ChatReply:
    return ChatReply(content="", tool_calls=(ToolCall(name=name, arguments="{}"),))
