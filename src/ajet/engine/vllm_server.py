"""The settings of `engine=vllm_server`; `vllm_server_engine` has the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import httpx
from typing_extensions import override

from ajet.config.fields import named, one_of, ruled
from ajet.engine.base import EngineNeeds
from ajet.engine.server_gpus import gpus_of_servers
from ajet.engine.vllm_settings import VllmBaseConfig
from ajet.errors import ConfigError

if TYPE_CHECKING:
    from ajet.engine.vllm_server_engine import VllmServerEngine

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass
class VllmServerConfig(VllmBaseConfig):
    """Servers of vLLM: started by us on this machine, or given by URL. They need not wait for training."""

    name: str = named("vllm_server")
    samples_meanwhile: ClassVar[bool] = True
    follows_grammars: ClassVar[bool] = False
    urls: list[str] | None = None
    """Servers that are there already, e.g. `[http://gpu-2:8000]`, started as docs/engines.md says; null: ours."""
    num_servers: int = ruled(1, at_least=1)
    """How many to start; requests are shared out among them. Each training process starts so many."""
    gpus: list[int] | None = None
    """The GPUs of the servers that are started, as `CUDA_VISIBLE_DEVICES` names them, `tensor_parallel_size` for each;
    null: the first of those that the process may use and does not train on."""
    weights_dir: str | None = None
    """Where weights are handed over; with servers on other machines a directory that they share. Null: this machine's
    memory."""
    weight_transfer: str = one_of("file", "file", "nccl")
    """How whole weights reach servers: by a `file`, or from GPU to GPU by `nccl`, vLLM's own transfer."""
    startup_timeout_s: float = ruled(600.0, above=0)
    """For a server to load the model and answer."""

    @override
    def build(self, needs: EngineNeeds) -> VllmServerEngine:
        from ajet.engine.vllm_server_engine import VllmServerEngine

        return VllmServerEngine(
            self,
            needs.model_path,
            max_context=needs.max_context,
            dtype=needs.dtype,
            device=needs.device,
            num_threads=needs.num_threads,
            adapters=needs.adapters,
        )

    @override
    def check(self, *, device: str, temperature: float) -> None:
        super().check(device=device, temperature=temperature)
        if self.urls is not None:
            self._check_urls(self.urls)
        if self.weight_transfer == "nccl":
            self._check_nccl(device)
        if self.gpus is None:
            return
        if device == "cpu":
            raise ConfigError(
                "engine.gpus has no effect with hardware.device=cpu: leave it out, or choose hardware=gpu_1"
            )
        wanted = self.num_servers * self.gpus_each
        if len(self.gpus) != wanted:
            raise ConfigError(
                f"engine.gpus={self.gpus} names {len(self.gpus)} GPUs, but engine.num_servers={self.num_servers} of "
                f"engine.tensor_parallel_size={self.gpus_each} need {wanted}"
            )

    def _check_nccl(self, device: str) -> None:
        if device == "cpu":
            raise ConfigError("engine.weight_transfer=nccl is from GPU to GPU: choose file, or hardware=gpu_1")
        if self.weights_dir is not None and self.lora == "merged":
            raise ConfigError(
                f"engine.weights_dir={self.weights_dir} has no effect with engine.weight_transfer=nccl, which writes "
                "no file: leave it out"
            )

    @property
    def gpus_each(self) -> int:
        """GPUs of one server."""
        return self.tensor_parallel_size or 1

    def _check_urls(self, urls: list[str]) -> None:
        for setting, is_set in (("num_servers", self.num_servers != 1), ("gpus", self.gpus is not None)):
            if is_set:
                raise ConfigError(f"engine.{setting} is of servers that ajet starts: leave it out beside engine.urls")
        if not urls:
            raise ConfigError("engine.urls=[] must name servers, e.g. [http://gpu-2:8000]; null starts them")
        places = [_parsed(url) for url in urls]
        for url, place in zip(urls, places, strict=True):
            if places.count(place) > 1:
                raise ConfigError(f"engine.urls={urls} names {url} twice")
            needs_folder = self.weight_transfer == "file" or self.wants_adapters
            if needs_folder and place.host not in LOCAL_HOSTS and self.weights_dir is None:
                raise ConfigError(
                    f"engine.urls names {url}, which may be on another machine and then cannot see this one's memory: "
                    "set engine.weights_dir to a directory that both share"
                )

    @override
    def check_gpus(self, num_gpus: int) -> None:
        if self.urls is None:
            gpus_of_servers(self.gpus, num_servers=self.num_servers, each=self.gpus_each)

    @override
    def check_second(self, *, opponent: str) -> None:
        for setting, value in (("urls", self.urls), ("gpus", self.gpus)):
            if value is not None:
                raise ConfigError(
                    f"opponent={opponent} needs servers of its own, whose weights stay, but engine.{setting} names one "
                    f"set for both: leave engine.{setting} out, or choose engine=vllm"
                )
        if self.gpu_memory_utilization is not None:
            raise ConfigError(
                f"opponent={opponent} needs servers of its own, which would be on the GPUs of the others: "
                "choose engine=vllm_gpu, or another opponent"
            )


def _parsed(url: str) -> httpx.URL:
    """A server's address, written in one way."""
    try:
        place = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ConfigError(f"engine.urls names {url}, no URL ({error}): write e.g. http://gpu-2:8000") from error
    if place.scheme not in ("http", "https") or not place.host:
        raise ConfigError(f"engine.urls names {url}, which must name a server: write e.g. http://gpu-2:8000")
    return place
