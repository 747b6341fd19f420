"""The viewer finds episodes, shows every token once, and lets nothing that a model wrote out of its box."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html import escape, unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
import pytest
import uvicorn
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.run_dirs import make_run
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from ajet.records import Call, Episode, EpisodeGroup, Task
from ajet.tracking.files.checkpoints import seal
from ajet.tracking.store import TrajectoryStore
from ajet.view.__main__ import main
from ajet.view.app import make_app
from ajet.view.catalog import Catalog, EpisodeFilter, EpisodeKey
from ajet.view.conversation import BranchPath, tokens_of, tree_of, turns_of
from ajet.view.serving import application

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\"'&"


def call(index: int, agent: str, asked: str, reply: str, prompt: tuple[int, ...], sampled: tuple[int, ...]) -> Call:
    return Call(
        index=index,
        agent_name=agent,
        target_tag="seer" if agent == "P1" else "werewolf",
        trained=bool(sampled),
        messages=({"role": "user", "content": asked},),
        reply=reply,
        prompt_ids=prompt,
        sampled_ids=sampled,
        logprobs=tuple(-0.1 * (place + 1) for place in range(len(sampled))),
    )


def episode(repeat: int, *calls: Call, won: bool = True, task: str = "t&<b>") -> Episode:
    return Episode(
        task=Task(task_id=task),
        repeat=repeat,
        status="ok",
        rewards={"P1": float(won)},
        agent_tags={"P1": "seer"},
        calls=calls,
        is_success=won,
        metadata={"note": HOSTILE},
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose step 0 holds the group `t&<b>`: two hostile episodes of three calls that part at the last one."""
    folder = make_run(tmp_path / HOSTILE[:8].replace("/", ""))
    shared = (
        call(0, "P1", f"look {HOSTILE}", f"I look {HOSTILE}", (1, 2, 3), (4, 5)),
        call(1, HOSTILE, "howl", "awoo", (), ()),
    )
    group = EpisodeGroup(
        task=Task(task_id="t&<b>"),
        episodes=(
            episode(0, *shared, call(2, "P1", "vote", "P2", (1, 2, 3, 4, 5, 6), (7,))),
            episode(1, *shared, call(2, "P1", "vote", "P1", (1, 2, 9), (8,)), won=False),
        ),
    )
    advantages = {("t&<b>", repeat, index): (1.25, -1.25)[repeat] for repeat in (0, 1) for index in (0, 2)}
    TrajectoryStore(folder / "trajectories").write([group], advantages, step=0, split="train")
    words = Tokenizer(WordLevel({f"w{number}<i>": number for number in range(10)}, unk_token="w0<i>"))
    model = folder / "checkpoints" / "step_2" / "model"
    model.mkdir(parents=True)
    words.save(str(model / "tokenizer.json"))
    seal(model.parent)
    return folder


GROUP = "split=train&step=0&task=t%26%3Cb%3E"


@pytest.fixture
def client(run: Path) -> TestClient:
    return TestClient(make_app(run), base_url="http://127.0.0.1")


def tokens(html: str, kind: str) -> list[str]:
    return [unescape(text) for text in re.findall(rf'<span class="{kind}[^"]*" title="[^"]*">(.*?)</span>', html)]


def test_the_list_can_be_narrowed_by_each_property(run: Path) -> None:
    catalog = Catalog(run)
    assert len(catalog.select(EpisodeFilter())) == 6  # two a training step, two held out
    assert set(catalog.select(EpisodeFilter(split="eval"))["task"]) == {"eval-0"}
    assert set(catalog.select(EpisodeFilter(step=1))["task"]) == {"train-1"}
    assert set(catalog.select(EpisodeFilter(task="&<"))["repeat"]) == {0, 1}
    assert set(catalog.select(EpisodeFilter(status="timeout"))["task"]) == {"eval-0"}
    assert set(catalog.select(EpisodeFilter(outcome="open"))["task"]) == {"eval-0"}
    assert catalog.select(EpisodeFilter(outcome="lost"))["success"].sum() == 0
    assert set(catalog.select(EpisodeFilter(tag="seer", least=0.5))["reward/seer"]) == {1.0}
    assert catalog.select(EpisodeFilter(tag="witch")).empty
    assert catalog.select(EpisodeFilter(order="oldest", split="train"))["step"].is_monotonic_increasing
    assert catalog.select(EpisodeFilter(order="worst"))["score"].iloc[0] == 0.0


def test_a_run_that_goes_on_is_read_on(run: Path) -> None:
    catalog = Catalog(run)
    assert len(catalog.episodes()) == 6
    again = EpisodeGroup(task=Task(task_id="new"), episodes=(episode(0, task="new"),))
    TrajectoryStore(run / "trajectories").write([again], {}, step=1, split="train")
    assert set(catalog.select(EpisodeFilter(step=1))["task"]) == {"new"}


def test_a_run_that_has_only_begun_says_so(tmp_path: Path) -> None:
    begun = make_run(tmp_path / "begun", num_steps=0, finished=False)
    answer = TestClient(make_app(begun), base_url="http://127.0.0.1").get("/")
    assert answer.status_code == 200 and "no episodes yet" in answer.text


def test_a_turn_tells_what_its_agent_had_not_been_told() -> None:
    first = {"role": "user", "content": "one"}
    own = {"role": "assistant", "content": [{"type": "text", "text": "as the program writes it down"}]}
    second = {"role": "user", "content": "two"}
    calls = pd.DataFrame(
        {
            "agent": ["a", "b", "a"],
            "tag": "t",
            "call_index": [0, 1, 2],
            "trained": True,
            "messages": [[first], [first], [first, own, second]],
            "reply": ["as the model said it", "yes", "no"],
            "format_error": [None, "not JSON", None],
            "reward": [1.0, np.nan, 1.0],
            "call_reward": [0.0, np.nan, 1.0],
            "advantage": [0.5, np.nan, 0.5],
            "policy_version": [3, 3, 3],
            "prompt_ids": [[1], [1], [1, 2, 3]],
            "sampled_ids": [[2], [], [4]],
        }
    )
    turns = turns_of(calls)
    assert [[message.text for message in turn.told] for turn in turns] == [["one"], ["one"], ["two"]]
    assert [len(turn.repeated) for turn in turns] == [0, 0, 2]
    assert [turn.format_error for turn in turns] == [None, "not JSON", None]
    assert [turn.advantage for turn in turns] == [0.5, None, 0.5]


def test_tokens_are_those_of_the_call_in_their_order(run: Path) -> None:
    calls = Catalog(run).calls(EpisodeKey(split="train", step=0, task="t&<b>", repeat=0))
    later = tokens_of(calls, 2, None)
    assert [token.token_id for token in (*later.shared, *later.prompt, *later.sampled)] == [1, 2, 3, 4, 5, 6, 7]
    assert (len(later.shared), later.shared_with) == (5, 0)
    assert later.sampled[0].logprob == pytest.approx(-0.1)
    assert later.sampled[0].shade == 9  # exp(-0.1) = 0.905
    first = tokens_of(calls, 0, None)
    assert (first.shared, first.shared_with) == ([], None)
    assert first.logprob == pytest.approx(-0.3)


def test_a_tree_forks_where_calls_part(run: Path) -> None:
    calls = Catalog(run).calls(EpisodeKey(split="train", step=0, task="t&<b>", repeat=1))
    tree = tree_of(calls, None)
    assert (tree.num_tokens, tree.num_unique) == (5 + 4, 7)
    shared, first, second = tree.spans
    assert (shared.text, shared.calls, shared.depth, shared.path) == ("1 2", [0, 2], 0, None)
    assert (first.text, first.calls, first.depth, first.path) == (
        "3 4 5",
        [0],
        1,
        BranchPath(fork=1, number=1, num_paths=2),
    )
    assert (second.text, second.calls, second.depth, second.path) == (
        "9 8",
        [2],
        1,
        BranchPath(fork=1, number=2, num_paths=2),
    )


def test_an_agent_that_says_more_than_functions_nest_has_a_tree(run: Path) -> None:
    # Each call goes on where the last one ended, but for the last two, which part from the 398th.
    longest = tuple(range(2 * 400))
    calls = [call(n, "P1", "on", "yes", longest[: 2 * n + 1], (longest[2 * n + 1],)) for n in range(399)]
    calls.append(call(399, "P1", "on", "no", longest[:796], (999,)))
    group = EpisodeGroup(task=Task(task_id="long"), episodes=(episode(0, *calls, task="long"),))
    TrajectoryStore(run / "trajectories").write([group], {}, step=1, split="train")
    catalog = Catalog(run)
    tree = tree_of(catalog.calls(EpisodeKey(split="train", step=1, task="long", repeat=0)), None)
    assert (len(tree.spans), tree.num_unique) == (400, 799)
    assert [stretch.depth for stretch in tree.spans] == [0] * 398 + [1, 1]
    assert len(tree.spans[0].calls) == 400
    page = TestClient(make_app(run), base_url="http://127.0.0.1").get("/tree?split=train&step=1&task=long&repeat=0")
    assert page.status_code == 200 and page.text.count("fork 1, path ") == 2 and "and 388 more" in page.text


def test_pages_show_what_a_model_wrote_as_text(client: TestClient) -> None:
    for page in (
        "/",
        f"/group?{GROUP}",
        f"/episode?{GROUP}&repeat=0",
        f"/episode?{GROUP}&repeat=0&agent=P1",
        f"/call?{GROUP}&repeat=0&index=0",
        f"/call?{GROUP}&repeat=0&index=1",
        f"/tree?{GROUP}&repeat=1",
        f"/compare?{GROUP}&left=0&right=1",
        f"/group?split=train&step=0&task={quote(HOSTILE)}",
        f"/?task={quote(HOSTILE)}&least={quote(HOSTILE)}",
    ):
        answer = client.get(page)
        assert answer.status_code in (200, 400, 404), page
        assert not re.search(r"<script|<img|<i>|t&<b>|I look .*(onerror=alert\(1\)>|49)", answer.text), page
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "script" not in policy


def test_a_call_shows_each_token_with_its_text_and_probability(client: TestClient) -> None:
    html = client.get(f"/call?{GROUP}&repeat=0&index=2").text
    assert tokens(html, "shared") == [f"w{number}<i>" for number in (1, 2, 3, 4, 5)]
    assert tokens(html, "asked") == ["w6<i>"]
    assert tokens(html, "sampled") == ["w7<i>"]
    assert "+1.2500" in html
    assert '<b>5</b> shared + <b>1</b> prompt + <b>1</b> <a href="#sampled">sampled</a> tokens' in html
    assert "logprob -0.1000 · probability 0.9048" in html


def test_two_episodes_stand_beside_each_other_from_where_they_part(client: TestClient) -> None:
    html = client.get(f"/compare?{GROUP}&left=0&right=1").text
    assert html.count("2 calls in common") == 2
    assert html.count('class="turn trained differs"') == 2


def test_only_who_was_trained_speaks_for_a_version_of_the_policy(client: TestClient) -> None:
    html = client.get(f"/episode?{GROUP}&repeat=0").text
    # Of three calls one is a scripted player's.
    assert (html.count('class="who"'), html.count("version 0")) == (3, 2)


def test_a_group_offers_its_best_and_its_worst_episode(client: TestClient) -> None:
    html = client.get(f"/group?{GROUP}").text
    assert re.search(r'name="left" value="0"[^>]* checked', html)
    assert re.search(r'name="right" value="1"[^>]* checked', html)


def test_pages_of_the_list_follow_each_other(run: Path) -> None:
    groups = [EpisodeGroup(task=Task(task_id=f"many-{n}"), episodes=(episode(0, task=f"many-{n}"),)) for n in range(60)]
    TrajectoryStore(run / "trajectories").write(groups, {}, step=1, split="train")
    client = TestClient(make_app(run), base_url="http://127.0.0.1")
    first = client.get("/?task=many&split=train").text
    following = re.search(r'href="([^"]*page=1)"', first)
    assert following is not None
    second = client.get(unescape(following[1])).text
    both = [set(re.findall(r">(many-\d+)<", html)) for html in (first, second)]
    assert [len(tasks) for tasks in both] == [50, 10] and not both[0] & both[1]


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        (f"/episode?{GROUP}&repeat=7", 404, "it has 0, 1"),
        ("/group?split=eval&step=9&task=x", 404, "no episode of task x"),
        (f"/call?{GROUP}&repeat=0&index=9", 404, "it has 3 calls"),
        ("/?least=lots", 400, "not a number"),
        ("/?step=inf", 400, "step: 'inf' is not a whole number"),
        ("/?step=1.5", 400, "step: '1.5' is not a whole number"),
        (f"/?page={10**30}", 400, "page: "),
        (f"/episode?split=train&step={2**63}&task=x", 400, "step: "),
        ("/nothing", 404, "nothing at this address"),
        ("/?order=sideways", 400, "newest"),
        ("/episode?split=train", 400, "step"),
    ],
)
def test_a_wrong_address_is_answered_by_a_sentence(client: TestClient, address: str, status: int, words: str) -> None:
    answer = client.get(address)
    assert answer.status_code == status
    assert words in unescape(answer.text)


def test_a_foreign_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_a_folder_of_runs_lists_them_and_lets_one_choose(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.parent / "outputs"
    for name in ("2026-01-01/10-00-00", "multirun/2026-01-02/10-00-00/0", "multirun/2026-01-02/10-00-00/1"):
        make_run(folder / name)
    run.rename(folder / "2026-01-01" / HOSTILE[:8])
    client = TestClient(application(folder), base_url="http://127.0.0.1")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("  1  2026-01-01/10-00-00  werewolves, seer, seed 0: finished, 2 st")
    html = client.get("/").text
    assert HOSTILE[:8] not in html and escape(HOSTILE[:8]) in html
    links = re.findall(r'href="(/[0-9]+/)"', html)
    assert links == ["/1/", "/2/", "/3/", "/4/"]
    # Every page of a run leads to pages of that run, and back to the list.
    found = False
    for link in links:
        page = client.get(link)
        assert page.status_code == 200 and 'href="/">all runs' in page.text
        ways = {unescape(path) for path in re.findall(r'(?:href|action)="([^"]*)"', page.text)} - {"/"}
        assert all(path.startswith(link) for path in ways)
        assert {client.get(path).status_code for path in ways} == {200}
        found |= "t&amp;&lt;b&gt;" in page.text
    assert found
    make_run(folder / "later")
    assert 'href="/5/">later' in client.get("/").text and client.get("/5/").status_code == 200


@pytest.mark.parametrize("address", ["/9/", "/0/", "/x/", "/1/nothing", "/99999999999999999999/", "/-1/", "/nothing"])
def test_what_no_folder_holds_is_a_sentence(tmp_path: Path, address: str) -> None:
    make_run(tmp_path / "outputs" / "0")
    client = TestClient(application(tmp_path / "outputs"), base_url="http://127.0.0.1")
    answer = client.get(address)
    assert answer.status_code == 404 and "There is nothing at this address" in answer.text


def test_a_damaged_run_in_a_folder_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    make_run(tmp_path / "outputs" / "0")
    (make_run(tmp_path / "outputs" / "1") / "config.yaml").unlink()
    (tmp_path / "outputs" / "empty").mkdir()
    html = TestClient(application(tmp_path / "outputs"), base_url="http://127.0.0.1").get("/").text
    assert re.findall(r'href="(/[0-9]+/)"', html) == ["/1/"] and "empty" not in html


NAMES = [
    *("split", "step", "task", "repeat", "index", "left", "right", "other_step"),
    *("page", "least", "most", "order", "agent", "tag", "status", "outcome"),
]
WORDS = st.text(max_size=12) | st.sampled_from(
    ["inf", "-inf", "nan", "1e999", "9" * 400, "-1", "0x1", "1_0", "\u0661", ""]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    page=st.sampled_from(["/", "/group", "/episode", "/call", "/tree", "/compare", "/style.css"]) | st.text(max_size=8),
    query=st.dictionaries(
        st.sampled_from(NAMES) | st.text(max_size=5),
        WORDS,
        max_size=6,
    ),
    known=st.booleans(),
)
def test_no_address_is_a_failure_of_the_viewer(
    client: TestClient, page: str, query: dict[str, str], known: bool
) -> None:
    begun = {"split": "train", "step": "0", "task": "t&<b>", "repeat": "0", "index": "0", "left": "0", "right": "1"}
    asked = urlencode({**(begun if known else {}), **query}, errors="surrogatepass")
    answer = client.get(f"/{quote(page.lstrip('/'), errors='surrogatepass')}?{asked}")
    assert answer.status_code in (200, 400, 404)
    assert "Traceback" not in answer.text


def test_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_viewing_loads_no_torch(run: Path) -> None:
    code = f"import sys; from ajet.view.app import make_app; from pathlib import Path; make_app(Path({str(run)!r}))"
    check = "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    """The viewer on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(make_app(run), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_walks_from_the_list_to_a_token_and_runs_nothing(address: str, tmp_path: Path) -> None:
    def visit(url: str) -> str:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", url]
        page = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        assert "<title>owned" not in page and "<title>" in page
        return page

    def follow(page: str, link: str) -> str:
        found = re.search(rf'href="(/{link}\?[^"]*)"', page)
        assert found is not None, page
        return visit(address + unescape(found[1]))

    listed = visit(f"{address}/?task=t%26&order=best")
    group = follow(listed, "group")
    assert "t&amp;&lt;b&gt;" in group
    episode_page = follow(group, "episode")
    assert "I look &lt;script&gt;" in episode_page
    assert tokens(follow(episode_page, "call"), "sampled") == ["w4<i>", "w5<i>"]
    follow(episode_page, "tree")
    compared = visit(f"{address}/compare?{GROUP}&left=0&right=1")
    assert compared.count(f"<b>{escape(HOSTILE, quote=False)}</b>") == 2
