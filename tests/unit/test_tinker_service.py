"""What a Tinker server is asked beside its client: where the key goes, and under which names exports are looked for."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps

import pytest
from tests.sentences import names

from ajet.engine.base import SamplingRequest
from ajet.engine.silence import OtherWork, Silence
from ajet.engine.tinker import TinkerConfig, TinkerEngineConfig
from ajet.engine.tinker_engine import TinkerEngine
from ajet.engine.tinker_retries import RetriedAnswers
from ajet.engine.tinker_service import TinkerService
from ajet.errors import ConfigError, EngineError, EngineLostError
from ajet.rollout.boundary import ProgramResult, run_within

KEY = "tml-secret"
PLACE = "/api/v1/training_runs/run/checkpoints/last/archive"
FILE = "/file?signature=private"
SLOW_S = 0.2
JSON = {"Content-Type": "application/json"}
SESSION = {"session_id": "one", "info_message": None, "warning_message": None, "error_message": None}
OPENING: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/api/v1/healthz": (200, JSON, b"{}"),
    "/api/v1/client/config": (200, JSON, b"{}"),
    "/api/v1/create_session": (200, JSON, dumps(SESSION).encode()),
}
"""What a client asks before anything else."""
SAMPLING = OPENING | {
    "/api/v1/get_server_capabilities": (200, JSON, b'{"supported_models": [{"model_name": "any"}]}'),
    "/api/v1/create_sampling_session": (200, JSON, b'{"sampling_session_id": "s"}'),
    "/api/v1/asample": (200, JSON, b'{"request_id": "1", "sample_sequence_ids": ["a"]}'),
    "/api/v1/retrieve_future": (408, JSON, b'{"type": "try_again", "queue_state": "active"}'),
}
"""And to sample, which is never done."""
Answers = Mapping[str, tuple[int, dict[str, str], bytes]]


@contextmanager
def answering(
    answers: Answers, *, slow: str = "", stands_still: threading.Event | None = None
) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that answers paths as told, one of them slowly, others by 404, and nothing while it stands still; its
    URL, and the paths that came with their keys."""
    stopped = stands_still or threading.Event()
    seen: list[tuple[str, str | None]] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["X-API-Key"]))
            until(lambda: not stopped.is_set())
            time.sleep(SLOW_S * (self.path == slow))
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(BrokenPipeError):  # of who waits no longer
                self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def moved_to(storage: str) -> Answers:
    return {PLACE: (302, {"Location": f"{storage}{FILE}"}, b"")}


@contextmanager
def service(
    url: str, monkeypatch: pytest.MonkeyPatch, *, timeout_s: float = 10, key: str = KEY
) -> Iterator[TinkerService]:
    monkeypatch.setenv("MY_KEY", key)
    service = TinkerService(TinkerConfig(base_url=url, api_key_env="MY_KEY", timeout_s=timeout_s), "any")
    yield service
    service.close()


@pytest.mark.parametrize("path", ["tinker://run/sampler_weights/last", "tinker://run/last"])
def test_an_export_is_found_under_either_name_and_the_key_stays_with_the_server(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        answering({FILE: (200, {}, b"export")}) as (storage, asked_there),
        answering(moved_to(storage)) as (url, asked),
        service(url, monkeypatch) as connected,
    ):
        assert connected.archive(path) == b"export"
    assert {key for _, key in asked} == {KEY}
    assert asked_there == [(FILE, None)]


def test_a_download_that_is_refused_shows_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        answering({FILE: (403, {}, b"")}) as (storage, _),
        answering(moved_to(storage)) as (url, _),
        service(url, monkeypatch) as connected,
        pytest.raises(EngineError) as refused,
    ):
        connected.archive("tinker://run/last")
    assert "403" in str(refused.value) and "private" not in str(refused.value)


def test_the_hosted_service_needs_a_key_and_is_given_the_one_that_was_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TINKER_API_KEY", "TINKER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"export TINKER_API_KEY=.*tinker\.base_url"):
        TinkerService(TinkerConfig(), "any")
    with pytest.raises(ConfigError, match=r"export MY_KEY="):
        TinkerService(TinkerConfig(api_key_env="MY_KEY"), "any")
    # Before anything loads, too.
    with pytest.raises(ConfigError, match=r"export TINKER_API_KEY=.*tinker\.base_url"):
        TinkerEngineConfig().check_key()
    TinkerEngineConfig(service=TinkerConfig(base_url="http://my-skyrl:8000")).check_key()
    monkeypatch.setenv("MY_KEY", KEY)
    TinkerEngineConfig(service=TinkerConfig(api_key_env="MY_KEY")).check_key()


def test_a_server_that_was_waited_for_in_vain_is_asked_only_once_it_is_there_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    answer = threading.Event()
    with answering({}) as (url, _), service(url, monkeypatch, timeout_s=1) as connected:
        with pytest.raises(EngineError, match=r"did not answer within tinker\.timeout_s=1 seconds \(a step\)"):
            connected.called(answer.wait, "a step")
        connected.called(lambda: asked.append("it is there"), "saving")
    answer.set()
    with pytest.raises(EngineError, match="cannot be reached"):
        connected.called(lambda: asked.append("it is gone"), "saving")
    assert asked == ["it is there"]


def test_what_every_further_request_would_hear_is_the_end_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({PLACE: (401, {}, b"")}) as (url, _), service(url, monkeypatch) as connected:
        with pytest.raises(EngineLostError, match="does not take the key in MY_KEY"):
            connected.archive("tinker://run/last")
        with pytest.raises(EngineError) as refused:
            connected.archive("tinker://run/another")
    assert type(refused.value) is EngineError


def test_a_key_that_cannot_be_sent_is_refused_and_what_surrounds_one_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OWN_KEY", "tml-one\ntml-two")
    with pytest.raises(ConfigError, match=r"the key in OWN_KEY .* line break"):
        TinkerService(TinkerConfig(base_url="http://a", api_key_env="OWN_KEY"), "any")
    place = "/api/v1/training_runs/run/checkpoints/last/archive"
    with answering({place: (200, {}, b"export")}) as (url, asked), service(url, monkeypatch, key=f"{KEY}\n") as one:
        one.archive("tinker://run/last")
    assert asked == [(place, KEY)]


def test_an_address_that_is_none_is_told_with_what_may_be_wrong_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({}) as (url, _):
        with service(f"{url}/api", monkeypatch) as one, pytest.raises(EngineError) as told:
            one.base_sampler()
        assert "is no Tinker server: tinker.base_url is what comes before /api/v1" in str(told.value)
        with (
            service(url.replace("http:", "https:"), monkeypatch) as one,
            pytest.raises(EngineError, match="http:// in place of https://"),
        ):
            one.base_sampler()
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://me:secret@127.0.0.1:1")
    with service("http://server.example", monkeypatch) as one, pytest.raises(EngineError) as told:
        one.base_sampler()
    assert "by way of the proxy in http_proxy (no_proxy=server.example" in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, {"detail": "LoRA rank 64 must be between 1 and 32"}, "model.lora.rank=64 ... must be between 1 and 32"),
        (400, {"error": "rank exceeds the maximum"}, "model.lora.rank=64 ... rank exceeds the maximum"),
        (400, {"detail": "Maximum number of LoRA adapters (8) reached"}, "no place for more adapters ... (8) reached"),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "too large"}]}, "model.lora.rank=64 on any: body.seed: too"),
        (401, {"detail": "Invalid key"}, "does not take the key in MY_KEY ... Invalid key"),
    ],
)
def test_what_a_server_refuses_of_adapters_is_told_in_its_own_words(
    status: int, body: dict[str, object], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = OPENING | {"/api/v1/create_model": (status, JSON, dumps(body).encode())}
    with answering(answers) as (url, _), service(url, monkeypatch) as connected, pytest.raises(EngineError) as refused:
        connected.trainer(rank=64, seed=0)
    assert names(str(refused.value), told) and "detail" not in str(refused.value)


def test_a_server_that_stands_still_is_lost_and_not_waited_for_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    request = SamplingRequest(prompt_ids=(1, 2), max_tokens=2, temperature=1.0, seed=1)
    stands_still, asked = threading.Event(), list[str]()
    with answering(SAMPLING, stands_still=stands_still) as (url, _):
        settings = TinkerConfig(base_url=url, api_key_env="MY_KEY")
        config = TinkerEngineConfig(service=settings, episode_timeout_s=0.5)
        engine = TinkerEngine(config, "any", max_context=8)
        stands_still.set()  # it takes connections and says nothing, as a process that was stopped
        with pytest.raises(
            EngineLostError, match=r"did not answer within rollout\.timeout_s=0\.5 seconds \(sampling\)"
        ):
            asyncio.run(engine.generate(request))
        with pytest.raises(EngineError, match=r"cannot be reached.*\(saving the state\)"):
            engine.service.called(lambda: asked.append("to save"), "saving the state")
        engine.close()
        assert asked == []
        stands_still.clear()


def test_a_sample_that_waits_for_training_is_waited_for_longer_by_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    request = SamplingRequest(prompt_ids=(1, 2), max_tokens=2, temperature=1.0, seed=1)
    is_trained, played = threading.Event(), threading.Event()
    with answering(SAMPLING, slow="/api/v1/retrieve_future") as (url, _):
        settings = TinkerConfig(base_url=url, api_key_env="MY_KEY")
        config = TinkerEngineConfig(service=settings)
        engine = TinkerEngine(config, "any", max_context=8)
        settings.timeout_s = 0.4

        def train() -> None:
            engine.service.called(lambda: played.wait(1.5), "a step", within_s=600)
            is_trained.set()

        trainer = threading.Thread(target=train)
        trainer.start()
        until(lambda: engine.service.other_work.is_under_way)
        with pytest.raises(EngineError, match=r"tinker\.timeout_s=0\.4"):
            asyncio.run(engine.generate(request))
        assert is_trained.is_set(), "it had not waited for the server itself before"
        assert config.held_up_s(engine)() >= 1.5
        trainer.join()
        engine.close()


def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.01)


def test_work_at_once_counts_once_and_none_is_counted_between() -> None:
    now = 0.0
    work = OtherWork(lambda: now)
    work.begin()
    now = 5.0
    work.begin()
    work.end()
    assert work.is_under_way and work.seconds == 5.0
    now = 6.0
    work.end()
    now = 100.0
    assert not work.is_under_way and work.seconds == 6.0


def test_a_deadline_moves_by_the_seconds_that_do_not_count() -> None:
    timeout_s, begun = 0.05, time.monotonic()

    async def play() -> str:
        while time.monotonic() - begun < 4 * timeout_s:
            await asyncio.sleep(timeout_s / 5)
        return "played"

    def outcome(held_up_s: Callable[[], float]) -> ProgramResult[str]:
        within = run_within(play, timeout_s=timeout_s, grace_s=1.0, on_deadline=lambda: None, held_up_s=held_up_s)
        return asyncio.run(within)

    assert outcome(lambda: time.monotonic() - begun).result() == "played"
    begun = time.monotonic()
    assert outcome(lambda: 1000.0).is_late, "those before it began are none of its own"


def test_silence_is_that_of_all_who_wait_and_does_not_grow_while_nobody_does() -> None:
    now = 0.0
    silence = Silence(lambda: now)
    silence.begin()
    now = 5.0
    silence.begin()
    silence.end()
    silence.end()
    assert silence.seconds == 5.0
    now = 100.0
    silence.begin()
    now = 102.0
    assert silence.seconds == 7.0
    silence.broken()
    now = 103.0
    assert silence.seconds == 1.0


def test_the_clients_log_is_heard_while_anyone_listens_and_is_silent_after(capfd: pytest.CaptureFixture[str]) -> None:
    one, other = RetriedAnswers(), RetriedAnswers()
    logger = logging.getLogger("tinker.lib")
    one.leave()
    logger.warning("HTTP Response: %s %s %i %s", "POST", "http://a/api/v1/asample", 503, "Busy")
    assert [each.latest("http://a", 0.0) is None for each in (one, other)] == [True, False]
    other.leave()
    logger.warning("a client that lives on")
    assert not logger.isEnabledFor(logging.ERROR) and capfd.readouterr().err == ""
