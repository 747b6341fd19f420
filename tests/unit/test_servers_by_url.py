"""Servers that a user names are asked before a run relies on them; those that ajet starts leave nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ajet.config.model import resolve_model_path
from ajet.engine.server_start import SERVER_ENVIRONMENT, started_servers
from ajet.engine.vllm_server import VllmServerConfig
from ajet.engine.vllm_server_engine import VllmServerEngine
from ajet.engine.vllm_settings import PROCESS_DEFAULTS
from ajet.errors import ConfigError, EngineError

MODEL = resolve_model_path("builtin:tiny")
CARD = {"id": "policy", "root": f"/elsewhere/{Path(MODEL).name}", "max_model_len": 1024}
SERVES = {
    "/health": {},
    "/v1/models": {"data": [CARD]},
    "/collective_rpc": {"results": ["True"]},
    "/resume": {},
    "/reset_prefix_cache": {"success": True},
    "/update_weight_version": {},
    "/inference/v1/generate": {
        "choices": [
            {
                "finish_reason": "length",
                "token_ids": [5],
                "logprobs": {"content": [{"logprob": -1.5}]},
                "weight_versions": [{"version": "0"}],
            }
        ]
    },
}
"""What a server answers that can do all that is asked of one."""


@contextmanager
def serving(answers: Mapping[str, object]) -> Iterator[str]:
    """A server with these answers, and 404 for all else; its URL."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            content = json.dumps(answers.get(path)).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def engine_of(*urls: str, **settings: Any) -> VllmServerEngine:
    return VllmServerEngine(VllmServerConfig(urls=list(urls), **settings), MODEL, max_context=1024)


def test_a_server_that_can_do_everything_is_taken() -> None:
    with serving(SERVES) as url:
        engine = engine_of(f"{url}/")
        assert engine.urls == [url]
        engine.close()


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"/v1/models": {"data": []}}, "is not a vLLM server: it names no model"),
        ({"/v1/models": {"data": [CARD | {"root": "/models/other"}]}}, "serves /models/other, but the run's model is"),
        ({"/v1/models": {"data": [CARD | {"max_model_len": 512}]}}, "takes 512 tokens, but model.max_context=1024"),
        ({"/collective_rpc": {"results": ["False"]}}, "does not see .*: set engine.weights_dir"),
        ({"/inference/v1/generate": {"choices": [{"text": "no", "finish_reason": "length"}]}}, "does not say ids"),
    ],
)
def test_a_server_that_lacks_something_is_told_at_the_start(answers: dict[str, object], told: str) -> None:
    with serving(SERVES | answers) as url, pytest.raises(EngineError, match=told):
        engine_of(url)


def test_a_server_without_the_interface_for_ids_is_told_how_to_start() -> None:
    without = {path: answer for path, answer in SERVES.items() if not path.startswith("/inference")}
    with serving(without) as url, pytest.raises(EngineError, match=r"404.*docs/engines\.md says how"):
        engine_of(url)


def test_a_server_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(EngineError, match=r"no vLLM server answers at http://127\.0\.0\.1:9"):
        engine_of("http://127.0.0.1:9")


def test_a_folder_for_weights_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"engine\.weights_dir=/not/there takes no files"):
        engine_of("http://127.0.0.1:9", weights_dir="/not/there")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"urls": []}, "must name servers"),
        ({"urls": ["gpu-2:8000"]}, "must name a server"),
        ({"urls": ["http://gpu-2:port"]}, "no URL"),
        ({"urls": ["http://localhost:1", "http://localhost:1/"]}, "names http://localhost:1 twice"),
        ({"urls": ["http://gpu-2:8000"]}, "set engine.weights_dir to a directory that both share"),
        ({"urls": ["http://localhost:1"], "num_servers": 2}, "engine.num_servers"),
        ({"gpus": [0]}, "engine.gpus has no effect with hardware.device=cpu"),
    ],
)
def test_servers_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        VllmServerConfig(**settings).check(device="cpu", temperature=1.0)


def test_each_server_needs_its_gpus() -> None:
    config = VllmServerConfig(gpus=[1], num_servers=2, kv_cache_gib=None, gpu_memory_utilization=0.9)
    with pytest.raises(ConfigError, match=r"names 1 GPUs, but engine\.num_servers=2 .* need 2"):
        config.check(device="cuda", temperature=1.0)


STARTS = """
import sys, time
from pathlib import Path
from ajet.engine.server_process import ServerProcess

# Held, as an engine does: the pipe of one that nobody holds is closed at once.
handover, log = map(Path, sys.argv[1:])
server = ServerProcess({"model": "nowhere"}, handover=handover, log=log, environment={}, timeout_s=1)
print("started", flush=True)
time.sleep(1000)
"""


def servers_with(folder: Path) -> list[str]:
    """Processes of servers that take weights from there."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if b"ajet.engine.vllm_serving" in words and str(folder).encode() in words:
            found.append(process.parent.name)
    return found


def test_weights_and_server_of_a_trainer_that_is_killed_go_with_it(tmp_path: Path) -> None:
    handover = tmp_path / "weights"
    handover.mkdir()
    (handover / "weights_1.safetensors").touch()
    trainer = subprocess.Popen(
        [sys.executable, "-c", STARTS, str(handover), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdout is not None and trainer.stdout.readline() == "started\n"
    deadline = time.monotonic() + 60
    while not servers_with(handover):  # a process has its command line a moment after it was started
        assert time.monotonic() < deadline
        time.sleep(0.01)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    while (handover.exists() or servers_with(handover)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not handover.exists() and servers_with(handover) == []


def test_where_one_of_several_servers_ends_the_others_are_ended_too_and_nobody_waits_for_them(tmp_path: Path) -> None:
    """The first is still loading when the second has ended, having no Python to run on."""
    handover = tmp_path / "weights"
    handover.mkdir()
    settings = {"model": MODEL, "dtype": "float32"}
    environments = [PROCESS_DEFAULTS | SERVER_ENVIRONMENT, {"PYTHONHOME": "/nowhere"}]
    with pytest.raises(EngineError, match=r"ended with exit code 1: .*server_1\.log") as caught:
        started_servers(settings, environments, handover=handover, logs=tmp_path, timeout_s=120)
    assert "did not answer" not in str(caught.value)
    assert servers_with(handover) == []
