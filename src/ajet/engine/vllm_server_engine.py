"""vLLM's own servers, on this machine or others: the engine that samples while something else computes.

In: sampling requests. Out: completions, with the log-probabilities and the weights' version that vLLM says. Ids go in
and come out by HTTP; no tokenizer is loaded on either side. New weights go by a file that both sides see
(`ajet.engine.handover`). A request that runs while whole weights change goes on with the new ones, its cache computed
again. One event loop or many may wait.
Left out: vLLM in this process (`ajet.engine.vllm_engine`), how servers are started (`ajet.engine.server_start`).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from ajet.config.hardware import rank_and_size
from ajet.engine.base import Adapters, SamplingRequest, checked_weights
from ajet.engine.handover import AdaptersBeside, Handover, Policy, WholeWeights, handover_folder
from ajet.engine.nccl_transfer import SETTINGS, NcclTransfer
from ajet.engine.policies_in_use import PoliciesInUse
from ajet.engine.server import GENERATE, Server, completion_of, said
from ajet.engine.server_process import answers
from ajet.engine.server_start import SERVER_SETTINGS, given_servers, server_environments, started_servers
from ajet.engine.vllm_server import VllmServerConfig
from ajet.engine.vllm_settings import engine_settings, parameters_of, sampling_settings
from ajet.errors import EngineError, EngineLostError
from ajet.records import Completion

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MOST_REPEATS = 3
"""Of a request whose connection broke though the server lives."""


class VllmServerEngine:
    """Sampling by vLLM's servers.

    Args:
        config: the engine's settings.
        model_path: a Hugging Face checkpoint directory or hub id, which the servers can read, too.
        max_context: most tokens of prompt and completion together.
        dtype: of weights, activations and KV cache.
        device: `cpu` or `cuda`.
        num_threads: torch threads of a server that is started; None for vLLM's own choice.
        adapters: what updates bring; None for whole weights.

    Raises:
        ConfigError: there is no such `weights_dir`, or not as many GPUs.
        EngineError: a server does not start, or at a URL there is none that can do what the run needs.
    """

    def __init__(
        self,
        config: VllmServerConfig,
        model_path: str,
        *,
        max_context: int,
        dtype: str = "float32",
        device: str = "cpu",
        num_threads: int | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        from transformers import AutoConfig

        self.max_context = max_context
        self.policy_version = 0
        self._model_config = AutoConfig.from_pretrained(model_path)
        self._vocab_size: int = self._model_config.get_text_config().vocab_size
        by_nccl = config.weight_transfer == "nccl" and adapters is None
        settings = SERVER_SETTINGS | engine_settings(
            config,
            model_path,
            max_context=max_context,
            dtype=dtype,
            on_cpu=device == "cpu",
            adapters=adapters,
            num_adapters=2,  # that of requests which run while there is a newer one
        )
        settings |= SETTINGS if by_nccl else {}
        own = server_environments(config, device, num_threads)
        # Servers that several training processes share get their weights from one of them.
        self._puts_weights = config.urls is None or rank_and_size()[0] == 0
        self._weights_dir = handover_folder(config.weights_dir)
        self._folder = Path(tempfile.mkdtemp(prefix="ajet-vllm-"))
        self._adapters = None if adapters is None else AdaptersBeside(self._weights_dir, self._meta_model, adapters)
        self._handover: Handover = self._adapters or WholeWeights(self._weights_dir, self._meta_model)
        self._policies = PoliciesInUse(self._handover)
        self._client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None
        self._unusable: str | None = None
        self._has_failed = False
        self._putting = threading.Lock()
        """Held while weights change, so that a server that is started again in between misses none."""
        self._servers: list[Server] = []
        self._nccl: NcclTransfer | None = None
        """Connects after the servers have started."""
        try:
            self._servers = (
                started_servers(
                    settings, own, handover=self._weights_dir, logs=self._folder, timeout_s=config.startup_timeout_s
                )
                if config.urls is None
                else self._given_servers(config, config.urls, model_path)
            )
            if by_nccl and self._puts_weights:
                self._nccl = NcclTransfer(self._servers, dtype)
        except BaseException:
            self._has_failed = True
            self.close()
            raise

    @cached_property
    def _parameters(self) -> Module:
        return parameters_of(self._model_config)

    def _meta_model(self) -> Module:
        return self._parameters

    @property
    def urls(self) -> list[str]:
        """Where the servers are now."""
        return [server.url for server in self._servers]

    def _given_servers(self, config: VllmServerConfig, urls: Sequence[str], model_path: str) -> list[Server]:
        a_token = SamplingRequest(prompt_ids=(0,), max_tokens=1, temperature=1.0, seed=0)
        reads_files = self._adapters is not None or config.weight_transfer == "file"
        return given_servers(
            urls,
            model_path,
            max_context=self.max_context,
            handover=self._weights_dir if reads_files else None,
            probe=self._body(a_token, 1, None) if self._puts_weights else None,
            with_adapters=self._adapters is not None,
        )

    async def generate(self, request: SamplingRequest) -> Completion:
        """See `Engine.generate`."""
        max_tokens = request.budget(self.max_context)
        if self._unusable is not None:
            raise EngineLostError(self._unusable)
        server = min(self._servers, key=lambda server: server.num_running)
        server.num_running += 1
        try:
            return await self._completion(server, request, max_tokens)
        finally:
            server.num_running -= 1

    def _body(self, request: SamplingRequest, max_tokens: int, adapter: str | None) -> dict[str, Any]:
        return {
            "token_ids": list(request.prompt_ids),
            "sampling_params": sampling_settings(request, max_tokens, vocab_size=self._vocab_size),
            **({} if adapter is None else {"model": adapter}),
        }

    async def _completion(self, server: Server, request: SamplingRequest, max_tokens: int) -> Completion:
        """What the server samples; asked again, with the same seed, where it had to be started again."""
        repeats = 0
        while True:
            with self._policies.asked(by_starting_model=request.by_starting_model) as policy:
                try:
                    answer = await self._answer(server, self._body(request, max_tokens, policy.adapter))
                except httpx.TransportError as error:
                    repeats += 1
                    await self._revive(server, error, is_last=repeats > MOST_REPEATS)
                    continue
            completion = completion_of(answer)
            # The server knows versions of whole weights only.
            return completion if self._adapters is None else replace(completion, policy_version=policy.version)

    async def _answer(self, server: Server, body: dict[str, Any]) -> Any:
        response = await self._own_client().post(f"{server.url}{GENERATE}", json=body)
        if response.is_success:
            return response.json()
        raise EngineError(f"vLLM's server at {server.url} refused a request: {said(response)}")

    def _own_client(self) -> httpx.AsyncClient:
        """One of the running loop's: connections cannot move from loop to loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            # A long reply says nothing until it is there; whether anybody is there shows in the connection.
            client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=30), limits=limits, trust_env=False)
            self._client = (loop, client)
        return self._client[1]

    async def _revive(self, server: Server, error: httpx.TransportError, *, is_last: bool) -> None:
        """Let a server that has died live again, once."""
        async with server.reviving:
            if self._unusable is not None:
                raise EngineLostError(self._unusable) from error
            if await asyncio.to_thread(answers, server.url):
                if is_last:
                    raise EngineError(
                        f"vLLM's server at {server.url} lives, but {MOST_REPEATS} requests in a row broke off "
                        f"({type(error).__name__}): does something between cut long replies?"
                    ) from error
                return
            await asyncio.to_thread(self._restart_between_updates, server, error)

    def _restart_between_updates(self, server: Server, error: httpx.TransportError) -> None:
        with self._putting:
            self._restart(server, error)

    def _restart(self, server: Server, error: httpx.TransportError) -> None:
        """Under `_putting`."""
        try:
            if self._nccl is not None:
                raise EngineError("it died, and engine.weight_transfer=nccl keeps no weights for another one")
            server.restart(error, lambda: self._put_again(server))
        except (EngineError, httpx.TransportError) as failure:
            raise self._lost(f"vLLM's server at {server.url} failed: {failure}") from failure

    def _lost(self, why: str) -> EngineLostError:
        """What ends the run: from now on every request is answered so, and what the servers said is kept."""
        self._unusable, self._has_failed = why, True
        return EngineLostError(why)

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], policy_version: int) -> None:
        """See `Engine.update_weights`. Requests may run meanwhile: they go on with the new weights, or end with the
        adapters that they began with.

        Raises:
            EngineError: the weights do not fit the model, or a server has failed for good.
        """
        if self._unusable is not None:
            raise EngineLostError(self._unusable)
        self._policies.await_older()
        if not self._puts_weights:
            deque(weights, maxlen=0)  # gathered by all training processes together
            new = Policy(version=policy_version)
            self._take(new if self._adapters is None else self._adapters.named(policy_version))
            return
        if self._nccl is not None:
            self._send(self._nccl, weights, policy_version)
            return
        new = self._handover.write(weights, policy_version)
        with self._putting:
            with ThreadPoolExecutor(len(self._servers)) as threads:
                for done in [threads.submit(self._put_or_restart, server, new) for server in self._servers]:
                    done.result()
            self._take(new)

    def _send(self, nccl: NcclTransfer, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        with self._putting:
            try:
                nccl.send(checked_weights(weights, self._parameters), version)
            except (EngineError, httpx.TransportError) as failure:
                raise self._lost(f"weights did not reach vLLM's servers by NCCL: {failure}") from failure
            self._take(Policy(version=version))

    def _take(self, new: Policy) -> None:
        self._policies.take(new)
        self.policy_version = new.version

    def _put_again(self, server: Server) -> None:
        if self._policies.newest.path is not None:
            self._handover.put(server, self._policies.newest, Policy())

    def _put_or_restart(self, server: Server, new: Policy) -> None:
        """The policy into a server, once more where it broke off in between."""
        for is_last in (False, True):
            try:
                self._handover.put(server, new, self._policies.newest)
            except httpx.TransportError as error:
                if is_last:
                    raise self._lost(f"vLLM's server at {server.url} took no weights: {error}") from error
                self._restart(server, error)
            except EngineError as refusal:
                raise self._lost(f"{refusal} (weights: {new.path})") from refusal
            else:
                return

    def close(self) -> None:
        """See `Engine.close`; servers that were given go on."""
        self._unusable = "the engine was closed"
        if self._nccl is not None:
            self._nccl.close()
        for server in self._servers:
            server.close()
        shutil.rmtree(self._weights_dir, ignore_errors=True)
        if not self._has_failed:  # what a server said is then told by its place
            shutil.rmtree(self._folder, ignore_errors=True)
