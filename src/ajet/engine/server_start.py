"""The servers that an engine begins with: its own, until they answer, or a user's, checked before a run relies on them.

In: settings of vLLM, or URLs. Out: servers with the checkpoint's weights. Left out: what becomes of them later
(`ajet.engine.vllm_server_engine`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from ajet.engine.server import Server
from ajet.engine.server_gpus import gpus_of_servers
from ajet.engine.server_process import POLL_S, ServerProcess
from ajet.engine.vllm_server import VllmServerConfig
from ajet.engine.vllm_settings import PROCESS_DEFAULTS
from ajet.errors import EngineError

SERVER_SETTINGS = {
    "enable_scale_out": True,  # the interface that takes ids and gives ids
    "worker_extension_cls": "ajet.engine.vllm_worker.WeightsFromFile",
    "disable_uvicorn_access_log": True,
}
SERVER_ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # the interface that weights are changed by
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several servers would be bound to the same cores
}


def server_environments(config: VllmServerConfig, device: str, num_threads: int | None) -> list[dict[str, str]]:
    """What each server that is started has in its environment, beside this process's own.

    Raises:
        ConfigError: there are not as many GPUs.
    """
    if config.urls is not None:
        return []
    environment = PROCESS_DEFAULTS | SERVER_ENVIRONMENT
    environment |= {} if num_threads is None else {"OMP_NUM_THREADS": str(num_threads)}
    if device == "cpu":
        return [environment] * config.num_servers
    placed = gpus_of_servers(config.gpus, num_servers=config.num_servers, each=config.gpus_each)
    return [environment | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} for gpus in placed]


def started_servers(
    settings: Mapping[str, Any],
    environments: Sequence[Mapping[str, str]],
    *,
    handover: Path,
    logs: Path,
    timeout_s: float,
) -> list[Server]:
    """Servers of ours, a process for each environment; all load at once.

    Args:
        settings: of vLLM.
        environments: variables beside this process's own.
        handover: the folder that weights are handed over in.
        logs: the folder that their output goes to.
        timeout_s: for each to answer.

    Raises:
        EngineError: one does not start; the others are ended.
    """
    servers: list[Server] = []
    try:
        for i, environment in enumerate(environments):
            starter = partial(
                ServerProcess,
                settings,
                handover=handover,
                log=logs / f"server_{i}.log",
                environment=environment,
                timeout_s=timeout_s,
            )
            servers.append(Server.started(starter))
        _wait_for([server.process for server in servers if server.process is not None])
        for server in servers:
            with _whole_conversation(server):
                server.put_version(0)
    except BaseException:
        for server in servers:
            server.close()
        raise
    return servers


def _wait_for(processes: Sequence[ServerProcess]) -> None:
    """Until all answer; one that ends is told of at once, not when those before it have loaded."""
    waiting = list(processes)
    while waiting := [process for process in waiting if not process.is_ready()]:
        time.sleep(POLL_S)


def given_servers(
    urls: Sequence[str],
    model: str,
    *,
    max_context: int,
    handover: Path | None,
    probe: object | None,
    with_adapters: bool,
) -> list[Server]:
    """Servers of the user's, which may have another run's weights.

    Args:
        urls: where they are.
        model: what they should serve.
        max_context: tokens that they must take.
        handover: the folder that weights are handed over in, if they are.
        probe: body of a request for a token, which shows that they can do what the run needs; None where another
            process asks them for it and puts the checkpoint's weights in place.
        with_adapters: whether they must take adapters.

    Raises:
        EngineError: there is none, or one that cannot do what the run needs.
    """
    servers = [Server(url=url.rstrip("/")) for url in urls]
    for server in servers:
        with _whole_conversation(server):
            server.check(model, max_context, handover)
            if probe is not None:
                server.start_anew(probe)
                if with_adapters:
                    server.drop_adapters()
    return servers


@contextmanager
def _whole_conversation(server: Server) -> Iterator[None]:
    """Around what a server is asked at the start: where it breaks off, an `EngineError`."""
    try:
        yield
    except httpx.HTTPError as error:
        raise EngineError(f"vLLM's server at {server.url} broke off ({type(error).__name__})") from error
