"""What a network and a busy server do to a run on a Tinker server: waits end, requests are sent again, and no optimizer
step is taken twice. The server is real, and so are its weights; the proxy before it does what it is told."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from recipes.tinker_server.process import BACKEND, TinkerServer
from tests.integration.faulty_proxy import Fault, FaultyProxy
from tests.integration.test_tinker_learner import MODEL, PLAIN, TAGS, base_model, learner_of, packs, samples
from tests.sentences import names

from ajet.engine.base import SamplingRequest
from ajet.engine.tinker import TinkerConfig, TinkerEngineConfig
from ajet.engine.tinker_engine import TinkerEngine
from ajet.errors import EngineError, EngineLostError, StorageError
from ajet.records import Completion

pytestmark = pytest.mark.slow
ALWAYS = 1000
SHORT_S = 10.0
BRIEF_S = 4.0
"""Where nothing has to be computed meanwhile."""
KEY = "tml-a-secret"


@pytest.fixture(scope="module")
def proxy(tinker_server: TinkerServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(tinker_server.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def own_key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OWN_TINKER_KEY", KEY)
        yield


@pytest.fixture(scope="module")
def engine(proxy: FaultyProxy, own_key: None) -> Iterator[TinkerEngine]:
    engine = engine_at(proxy, timeout_s=60)
    yield engine
    proxy.injects()
    engine.close()


def engine_at(
    proxy: FaultyProxy, *, timeout_s: float, model: str = MODEL, episode_timeout_s: float | None = None
) -> TinkerEngine:
    settings = TinkerConfig(
        base_url=proxy.url,
        timeout_s=timeout_s,
        # Without probes: the first optimizer step is the learner's.
        normalization="sequence_mean",
        loss="linearised",
        api_key_env="OWN_TINKER_KEY",
    )
    config = TinkerEngineConfig(service=settings, episode_timeout_s=episode_timeout_s)
    return TinkerEngine(config, model, max_context=512)


def sampled(engine: TinkerEngine) -> Completion:
    request = SamplingRequest(prompt_ids=(7, 3, 11), max_tokens=8, temperature=1.0, seed=1)
    return asyncio.run(engine.generate(request))


def test_no_optimizer_step_is_taken_twice_and_none_is_lost(engine: TinkerEngine, proxy: FaultyProxy) -> None:
    batch = [packs(samples(base_model()), PLAIN)]
    undisturbed, disturbed = learner_of(engine, PLAIN), learner_of(engine, PLAIN)
    proxy.injects()
    expected = [undisturbed.train_batch(batch, TAGS, num_steps_done=step) for step in range(6)]
    faults = [
        Fault(path="optim_step", cut_after=True),
        Fault(path="optim_step", cut_before=True),
        Fault(path="optim_step", status=503, times=2),
        Fault(path="optim_step", status=429, headers={"Retry-After": "1"}),
        Fault(path="forward_backward", cut_after=True, times=2),
    ]
    # The first step makes the adapters; each later one has a fault, and the last tells what those before have done.
    told = [disturbed.train_batch(batch, TAGS, num_steps_done=0)]
    asked, passed_on = [], []
    for step, fault in enumerate(faults, 1):
        proxy.injects(fault)
        told.append(disturbed.train_batch(batch, TAGS, num_steps_done=step))
        asked.append(proxy.came["optim_step"])
        passed_on.append(proxy.passed["optim_step"])
    assert told == expected, "the same steps, to the last digit"
    assert asked == [2, 2, 3, 2, 1], "asked again after each fault"
    assert passed_on == [2, 1, 1, 1, 1], "the server was asked twice for one step, and took it once"


def test_saving_and_sampling_go_on_after_a_fault(engine: TinkerEngine, proxy: FaultyProxy) -> None:
    learner = learner_of(engine, PLAIN)
    proxy.injects()
    expected = sampled(engine)
    saved: list[str] = []
    for fault in (
        Fault(path="save_weights", status=503),
        Fault(path="save_weights", cut_before=True),
        # The server has saved it and says that the name is taken: it is saved under another.
        Fault(path="save_weights", cut_after=True),
        Fault(path="save_weights_for_sampler", cut_after=True),
    ):
        proxy.injects(fault)
        saved.append(learner.state_dict()["state_path"])
    assert len(set(saved)) == len(saved)
    for fault in (
        Fault(path="asample", status=429),
        Fault(path="asample", status=503),
        Fault(path="asample", cut_after=True),
        Fault(path="retrieve_future", cut_after=True),
        Fault(path="retrieve_future", slow_s=1),
    ):
        proxy.injects(fault)
        assert sampled(engine) == expected


def test_a_wait_ends_and_says_what_was_answered_meanwhile(proxy: FaultyProxy, own_key: None) -> None:
    for fault, words in (
        (Fault(path="asample", hangs_s=BRIEF_S + 2), "did not answer within tinker.timeout_s=4 ... (sampling)"),
        (Fault(path="asample", status=429, times=ALWAYS), "allows no more for now: 429 ... tinker.timeout_s=4"),
        (Fault(path="asample", status=402, times=ALWAYS), "asks for payment: 402 ... (sampling)"),
        (Fault(path="create_model", status=500, times=ALWAYS), "has failed: 500 ... (making adapters)"),
    ):
        proxy.injects()
        engine = engine_at(proxy, timeout_s=BRIEF_S)
        proxy.injects(fault)
        begun = time.monotonic()
        with pytest.raises((EngineError, StorageError)) as told:
            sampled(engine) if fault.path == "asample" else learner_of(engine, PLAIN).state_dict()
        assert names(str(told.value), words) and KEY not in str(told.value)
        assert time.monotonic() - begun < 10 * BRIEF_S, "a time-out is part of what is promised"
        proxy.injects()
        engine.close()


def test_a_server_that_answers_nobody_for_as_long_as_an_episode_has_is_lost_and_a_state_is_tried_to_be_saved_once(
    proxy: FaultyProxy, own_key: None
) -> None:
    proxy.injects()
    engine = engine_at(proxy, timeout_s=600, episode_timeout_s=BRIEF_S)
    learner = learner_of(engine, PLAIN)
    learner.state_dict()
    proxy.injects(Fault(path="asample", status=503, times=ALWAYS))
    with pytest.raises(EngineLostError) as told:
        sampled(engine)
    assert names(str(told.value), "has failed: 503 ... rollout.timeout_s=4 ... (sampling)")
    assert learner.state_dict()["state_path"].startswith("tinker://"), "it can be reached, and saves"
    proxy.injects(Fault(path="healthz", cut_before=True), Fault(path="save_weights", hangs_s=60, times=ALWAYS))
    with pytest.raises(StorageError, match=r"cannot be reached.*saving the state"):
        learner.state_dict()
    assert proxy.came["save_weights"] == 0
    proxy.injects()
    engine.close()


def test_a_step_that_is_given_up_is_not_sent_later(engine: TinkerEngine, proxy: FaultyProxy, own_key: None) -> None:
    proxy.injects()
    batch = [packs(samples(base_model()), PLAIN)]
    # A server that has not compiled the rows' shapes yet takes longer than is waited for below.
    first = learner_of(engine, PLAIN)
    first.train_batch(batch, TAGS, num_steps_done=0)
    engine.service.unload(first.state_dict()["state_path"].removeprefix("tinker://").partition("/")[0])
    engine = engine_at(proxy, timeout_s=SHORT_S)
    learner = learner_of(engine, PLAIN)
    learner.state_dict()
    proxy.injects(Fault(path="optim_step", status=503, times=ALWAYS))
    with pytest.raises(EngineError, match=r"503.*an optimizer step"):
        learner.train_batch(batch, TAGS, num_steps_done=0)
    proxy.injects()
    time.sleep(SHORT_S)  # the client's own pauses are shorter
    assert proxy.came["optim_step"] == 0
    engine.close()


def test_adapters_are_kept_by_heartbeats_and_said_to_be_dropped_once_none_has_come_for_minutes(
    tinker_server: TinkerServer, proxy: FaultyProxy, own_key: None
) -> None:
    proxy.injects()
    engine = engine_at(proxy, timeout_s=60)
    learner = learner_of(engine, PLAIN)
    model_id = learner.state_dict()["state_path"].removeprefix("tinker://").partition("/")[0]
    learner.publish(engine, 1)
    until(lambda: proxy.passed["session_heartbeat"] > 0)  # though nothing is asked
    assert status_of_model(tinker_server, model_id) != "unloaded"
    proxy.injects(Fault(path="session_heartbeat", cut_before=True, times=ALWAYS))
    with database(tinker_server) as rows:  # minutes pass at once; what drops the adapters is the server itself
        rows.execute(
            "UPDATE sessions SET last_heartbeat_at = '2000-01-01 00:00:00.000000' "
            "WHERE session_id = (SELECT session_id FROM models WHERE model_id = ?)",
            (model_id,),
        )
    until(lambda: status_of_model(tinker_server, model_id) == "unloaded")
    with pytest.raises(EngineLostError, match="has dropped the adapters"):
        sampled(engine)
    with pytest.raises(EngineLostError, match="has dropped the adapters"):
        learner.train_batch([packs(samples(base_model()), PLAIN)], TAGS, num_steps_done=0)
    with pytest.raises(StorageError, match="has dropped the adapters"):
        learner.state_dict()
    proxy.injects()
    engine.close()


@contextmanager
def database(server: TinkerServer) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(server.log.with_name("tinker.db"), timeout=30)) as connection, connection:
        yield connection


def status_of_model(server: TinkerServer, model_id: str) -> str:
    with database(server) as rows:
        (status,) = rows.execute("SELECT status FROM models WHERE model_id = ?", (model_id,)).fetchone()
    return str(status)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_unknown_model_is_refused_with_those_that_there_are(proxy: FaultyProxy, own_key: None) -> None:
    proxy.injects()
    with pytest.raises(EngineError) as told:
        engine_at(proxy, timeout_s=SHORT_S, model="Qwen/Unknown-1B")
    assert names(str(told.value), f"does not have Qwen/Unknown-1B ... tinker.base_model ... {MODEL}")


def test_a_rank_that_the_server_cannot_do_is_named_and_so_is_a_server_that_is_full(engine: TinkerEngine) -> None:
    service = engine.service
    with pytest.raises(EngineError) as told:
        service.trainer(rank=BACKEND["max_lora_rank"] + 1, seed=0)
    assert names(str(told.value), "model.lora.rank=9 ... LoRA rank 9 must be between 1 and 8 ... (making adapters)")
    made = []
    try:
        with pytest.raises(EngineError) as told:
            for seed in range(BACKEND["max_lora_adapters"]):
                made.append(service.trainer(rank=1, seed=seed))
        assert names(str(told.value), "no place for more adapters ... Maximum number of LoRA adapters (8) reached")
        assert "model.lora.rank" not in str(told.value)
    finally:
        for client in made:
            service.forget(client)
    service.forget(service.trainer(rank=1, seed=0))  # what was given back is free again
    with pytest.raises(EngineError) as told:
        service.restored("tinker://model_00000000/weights/nothing", rank=1, seed=0)
    assert names(str(told.value), "does not have tinker://model_00000000/weights/nothing ... Checkpoint not found")


def test_an_address_where_nobody_listens_is_said_at_once(own_key: None) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"http://127\.0\.0\.1:1 cannot be reached"):
        settings = TinkerConfig(base_url="http://127.0.0.1:1", timeout_s=60)
        TinkerEngine(TinkerEngineConfig(service=settings), MODEL, max_context=512)
    assert time.monotonic() - begun < 10


def test_a_key_that_is_none_is_named_by_its_variable(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_TINKER_KEY", "sk-of-somebody-else")
    with pytest.raises(EngineError, match="the key in OWN_TINKER_KEY") as told:
        engine_at(proxy, timeout_s=SHORT_S)
    assert "sk-of-somebody-else" not in str(told.value)
