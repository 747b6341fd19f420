"""What AgentJet's files import and read is there under its names, and does there what it did."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_rollout.dashscope_llm_bridge import NUM_TRIES, create_external_llm_fn
from ajet.utils.robust_dashscope import RobustDashScopeChatModel
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Run, agent_model
from transformers import PreTrainedTokenizerBase

from ajet.chat.types import ChatReply, ChatRequest
from ajet.data.rows import TaskRow
from ajet.data.tasks import make_tasks
from ajet.evaluate.scores import play_held_out
from ajet.records import Episode, Task
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.environment import episode_uuid
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow

ASKED = [{"role": "user", "content": "Is it right?"}]


@dataclass
class Echo:
    """Says back what it was asked."""

    requests: list[ChatRequest] = field(default_factory=list)

    async def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        return ChatReply(content=f"You said: {request.messages[-1]['content']}")


@dataclass
class Server:
    """An OpenAI-compatible server with one model."""

    url: str
    key: str
    model: Echo


@pytest.fixture
def server() -> Iterator[Server]:
    endpoint, model = Endpoint(), Echo()
    key = endpoint.open(agent_model(model, name="judge", tag="judge", trained=False))
    yield Server(url=endpoint.base_url(), key=key, model=model)
    endpoint.close()


@pytest.fixture
def environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as the environment names it; the first of its keys opens nothing."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", server.url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-wrong")
    monkeypatch.setenv("DASHSCOPE_API_KEY_BACKUP", server.key)
    return server


def test_an_external_model_is_asked_by_its_name_with_the_key_that_opens(environment: Server) -> None:
    ask = create_external_llm_fn(alien_llm_model="qwen-max", alien_llm_response_length=77)
    assert ask(messages=ASKED) == {"role": "assistant", "content": "You said: Is it right?"}
    assert ask(ASKED, sampling_params_override={"temperature": 0.5}, request_id="r1")["role"] == "assistant"
    (first, second) = environment.model.requests
    assert (first.max_tokens, first.settings["temperature"], second.settings["temperature"]) == (77, 0.0, 0.5)


def test_an_agentscope_model_answers_with_text_and_structure(environment: Server) -> None:
    model = RobustDashScopeChatModel("qwen-plus", stream=False)
    reply = asyncio.run(model(ASKED))
    assert "".join(block["text"] for block in reply.content) == "You said: Is it right?"


@dataclass
class Refusing:
    """A server that takes no key; counts the requests."""

    url: str
    num_asked: list[str] = field(default_factory=list)


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["authorization"])
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps({"error": {"message": "no such key"}}).encode()
            self.send_response(401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield Refusing(url=f"http://127.0.0.1:{listening.server_port}/v1", num_asked=asked)
        listening.shutdown()
        thread.join()


def test_a_server_that_never_answers_is_one_sentence_after_every_key_was_tried(refusing: Refusing) -> None:
    ask = create_external_llm_fn("m", 8, base_url=refusing.url, api_key="a|b")
    with pytest.raises(RuntimeError, match=r"gave no reply in 4 tries: .*no such key"):
        ask(ASKED)
    assert refusing.num_asked == ["Bearer a", "Bearer b", "Bearer a", "Bearer b"] and NUM_TRIES == 4
    with pytest.raises(RuntimeError, match="gave no reply in 2 tries"):
        asyncio.run(RobustDashScopeChatModel("m", max_try=2, base_url=refusing.url, api_key="c")(ASKED))
    assert refusing.num_asked[4:] == ["Bearer c", "Bearer c"]


def test_without_a_server_or_a_key_the_sentence_says_what_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DASHSCOPE_BASE_URL", "DASHSCOPE_API_KEY", "DASHSCOPE_API_KEY_BACKUP"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match="DASHSCOPE_API_KEY is not set: export a key of DashScope, or DASHSCOPE_BAS"):
        create_external_llm_fn("m", 8)(ASKED)
    with pytest.raises(RuntimeError, match="DASHSCOPE_API_KEY is not set"):
        RobustDashScopeChatModel()


def test_a_tasks_messages_are_a_list_that_can_be_added_to() -> None:
    for messages in ([ASKED[0]], (ASKED[0],)):
        task = Task(init_messages=messages)  # type: ignore[arg-type]
        assert task.init_messages + [{"role": "assistant"}] == [ASKED[0], {"role": "assistant"}]  # noqa: RUF005
    (read,) = make_tasks([TaskRow(place="x, line 1", values={"init_messages": ASKED})], {})
    assert type(read.init_messages) is list and read.init_messages == ASKED


def test_columns_that_became_fields_stay_in_the_metadata_under_their_names() -> None:
    rows = [TaskRow(place="x, line 1", values={"id": "7", "question": "2 + 2?", "answer": "4"})]
    (task,) = make_tasks(rows, {"main_query": "question", "task_id": "id"})
    assert (task.task_id, task.main_query) == ("7", "2 + 2?")
    assert task.metadata == {"question": "2 + 2?", "answer": "4"}
    # What names a task without an id is what it is, not what its columns are called.
    (mapped,) = make_tasks([TaskRow(place="x, line 1", values={"question": "2 + 2?"})], {"main_query": "question"})
    (plain,) = make_tasks([TaskRow(place="x, line 1", values={"main_query": "2 + 2?"})], {})
    assert mapped.task_id == plain.task_id


def test_a_workflow_task_says_its_tasks_id_and_environment() -> None:
    task = WorkflowTask(task=Task(task_id="t-1", env_type="appworld"))
    assert (task.task_id, task.env_type, task.repeat) == ("t-1", "appworld", 0)


SEEN: list[tuple[str, str, int]] = []


class Spoils(Workflow):
    """Writes into the task that it was given."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        task = workflow_task.task
        SEEN.append((workflow_task.episode_uuid, workflow_task.task_id, len(task.init_messages)))
        task.init_messages.append({"role": "user", "content": "mine"})
        task.metadata["list"].append(1)
        assert task.metadata["list"] == [1]
        return WorkflowOutput(reward=1.0)


class Asks(Workflow):
    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        SEEN.append((workflow_task.episode_uuid, workflow_task.task_id, workflow_task.repeat))
        await tuner.as_agentscope_model(agent_name="P1", target_tag="seer")([{"role": "user", "content": "?"}])
        return WorkflowOutput(reward=1.0)


def test_every_attempt_has_an_id_and_a_task_of_its_own() -> None:
    SEEN.clear()
    tokenizer: PreTrainedTokenizerBase = train_tokenizer(["hello"], vocab_size=280, max_context=256)
    given = Task(task_id="t", init_messages=[*ASKED], metadata={"list": []})
    runner = Run(tokenizer).scheduler(Spoils).runner

    async def play() -> list[Episode]:
        attempts = [(0, 0), (0, 1), (1, 0), (2, 0)]
        return [await runner.run(given, repeat=n, stream="train/0", attempt=attempt) for n, attempt in attempts]

    episodes = asyncio.run(play())
    assert [episode.status for episode in episodes] == ["ok"] * 4, episodes[0].error
    assert {messages for _, _, messages in SEEN} == {1} and {name for _, name, _ in SEEN} == {"t"}
    uuids = [uuid for uuid, _, _ in SEEN]
    assert len(set(uuids)) == 4 and all(len(uuid) == 32 for uuid in uuids)
    assert given == Task(task_id="t", init_messages=ASKED, metadata={"list": []})


def test_evaluations_draw_alike_and_their_episodes_have_ids_of_their_own() -> None:
    SEEN.clear()
    tokenizer: PreTrainedTokenizerBase = train_tokenizer(["hello"], vocab_size=280, max_context=256)
    scheduler = Run(tokenizer).scheduler(Asks)
    task = Task(task_id="t", metadata={"list": []})

    async def play() -> list[str]:
        played = [
            await play_held_out(scheduler, [task], repeats=2, collection=name)
            for name in ("eval/0", "eval/10", "eval/trajectories/scripted/1-a", "eval/0")
        ]
        return [str([call.reply for call in episode.calls]) for _, (group,) in played for episode in group.episodes]

    replies = asyncio.run(play())
    assert replies == replies[:2] * 4 and replies[0] != replies[1]
    uuids = [uuid for uuid, _, _ in SEEN]
    assert uuids[:2] == uuids[-2:] and len(set(uuids)) == 6


def test_an_episodes_id_is_the_same_again_in_its_run_and_nowhere_else() -> None:
    key = (0, "train/0", "t", 1, 0)
    assert episode_uuid("outputs/a", key) == episode_uuid("outputs/a", key)
    others = [("outputs/b", key), ("outputs/a", (0, "train/0", "t", 1, 1)), ("outputs/a", (0, "train/01", "", 1, 0))]
    assert len({episode_uuid("outputs/a", key), *(episode_uuid(*other) for other in others)}) == 4
