"""Too few file descriptors: raised, counted, or one sentence."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import Program, Run, post

from ajet.errors import ConfigError
from ajet.rollout.endpoint.endpoint import Endpoint
from ajet.rollout.open_files import PER_EPISODE
from ajet.rollout.own_thread import run_on_own_thread
from ajet.tuner import AjetTuner

ASKED = """
import logging, resource
from ajet.errors import ConfigError
from ajet.rollout.open_files import fitting_concurrency
logging.basicConfig(format="%(message)s")
try:
    print(fitting_concurrency(512), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except ConfigError as error:
    print(error)
"""


def asked(soft: int, hard: int) -> tuple[str, str]:
    """What a process of its own says with these limits: on stdout, on stderr."""
    limited = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["bash", "-c", limited, sys.executable, ASKED], check=True, capture_output=True, text=True, env=dict(os.environ)
    )
    return done.stdout.strip(), done.stderr


def test_the_soft_limit_is_raised_and_concurrency_that_does_not_fit_is_lowered_with_a_word() -> None:
    assert asked(256, 4096) == ("512 4096", "")
    said, warned = asked(128, 300)
    lowered, limit = map(int, said.split())
    # 300 files less 64 kept back and the few that are open, by three an episode.
    assert limit == 300 and (300 - 64 - 20) // PER_EPISODE <= lowered <= (300 - 64) // PER_EPISODE
    assert warned.startswith(f"rollout.concurrency=512 is lowered to {lowered}: this process may have 300 files open")
    assert "too few for a single episode: raise the limit (ulimit -n)" in asked(60, 60)[0]


def test_an_episode_by_url_holds_no_more_descriptors_than_are_counted_for_it() -> None:
    tokenizer = train_tokenizer(["hello"], vocab_size=280, max_context=256)
    made = Run(tokenizer)
    together = threading.Barrier(8)
    most: list[int] = []

    def program(tuner: AjetTuner) -> None:
        address = tuner.as_oai_baseurl_apikey(agent_name="P1", target_tag="seer")
        with socket.create_connection(("127.0.0.1", int(address.base_url.split(":")[2].split("/")[0]))):
            time.sleep(0.2)
            if together.wait(60) == 0:  # one of them looks
                most.append(len(os.listdir("/dev/fd")))
            together.wait(60)
        post(address)

    made.play(lambda: Program(program=lambda tuner: post(tuner.as_oai_baseurl_apikey("P1"))))
    before = len(os.listdir("/dev/fd"))
    episodes = made.play(lambda: Program(program=program), group_size=8)
    made.endpoint.close()
    assert [episode.status for episode in episodes] == ["ok"] * 8, episodes[0].error
    assert most[0] - before <= PER_EPISODE * 8 + 4  # and the rollout's own loop


@contextmanager
def every_descriptor_taken() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError as error:
                assert error.errno == errno.EMFILE
                break
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_endpoint_without_descriptors_says_so_once_and_serves_later(caplog: pytest.LogCaptureFixture) -> None:
    made = Run(train_tokenizer(["hello"], vocab_size=280, max_context=256))
    port = int(made.endpoint.base_url().removesuffix("/v1").rsplit(":", 1)[1])
    time.sleep(0.5)  # the server's own loop begins
    with socket.socket() as client:
        client.settimeout(10)
        with every_descriptor_taken():
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(1.5)  # asyncio tries again each second
        assert client.recv(12) == b"HTTP/1.1 401"
    made.endpoint.close()
    (warning,) = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert "as many files open as it may (ulimit -n)" in warning.getMessage() and warning.exc_info is None


def test_an_endpoint_that_cannot_start_for_lack_of_descriptors_is_one_sentence() -> None:
    endpoint = Endpoint()
    with every_descriptor_taken(), pytest.raises(ConfigError, match=r"endpoint cannot start.*\(ulimit -n\)"):
        endpoint.base_url()
    assert endpoint.base_url().startswith("http://127.0.0.1:")
    endpoint.close()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_episode_that_gets_no_loop_for_lack_of_descriptors_fails_with_the_reason() -> None:
    async def started_without() -> None:
        with every_descriptor_taken():
            await run_on_own_thread(lambda: None)

    with pytest.raises(OSError, match="Too many open files"):
        asyncio.run(asyncio.wait_for(started_without(), 60))
    gc.collect()  # what could not be made goes in silence
