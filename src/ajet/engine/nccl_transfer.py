"""Whole weights from the GPU that trains to the GPUs of vLLM's servers, by vLLM's own transfer over NCCL.

In: names and whole tensors. Out: servers that sample from them; nothing is written to a file. Each server has a group
of its own with this process, and weights go to all of them piece by piece. A server that dies cannot be given weights
again between updates, so that the run ends then. Written from vLLM's source and never run. Left out: CUDA's IPC, by
which processes share the memory of one GPU, while servers have GPUs of their own.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx

from ajet.engine.server import Server
from ajet.engine.server_process import answers
from ajet.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS = {"weight_transfer_config": '{"backend": "nccl"}'}
"""Of a server that takes weights so."""
CHUNK_BYTES = 2**30
"""Weights that are put together at once."""
POLL_S = 5.0
"""Between looks whether a server that weights are on their way to lives."""


def chunks(weights: Iterable[tuple[str, Tensor]], num_bytes: int = CHUNK_BYTES) -> Iterator[list[tuple[str, Tensor]]]:
    """Pieces of at least `num_bytes`, but for the last."""
    chunk: list[tuple[str, Tensor]] = []
    held = 0
    for name, tensor in weights:
        chunk.append((name, tensor))
        held += tensor.numel() * tensor.element_size()
        if held >= num_bytes:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


class NcclTransfer:
    """This process's connections to servers, by which it sends weights."""

    def __init__(self, servers: Sequence[Server], dtype: str) -> None:
        """Connect.

        Args:
            servers: that answer, and were started with `SETTINGS`.
            dtype: of their weights, a torch dtype's name.

        Raises:
            EngineError: a server was not started so.
        """
        self._links = [_Link(server) for server in servers]
        self._dtype = dtype

    def send(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Put weights in place on every server; requests that run stand still meanwhile.

        Raises:
            EngineError: a server refused, or died. It has neither the old nor the new weights then.
        """
        import torch

        device, dtype = torch.cuda.current_device(), getattr(torch, self._dtype)
        with ExitStack() as paused:
            for link in self._links:
                paused.enter_context(link.server.paused())
                link.server.ask("/start_weight_update")
            for chunk in chunks(weights):
                on_gpu = [(name, tensor.detach().to(device, dtype).contiguous()) for name, tensor in chunk]
                # vLLM packs on streams of its own, which do not wait for what this one still computes.
                torch.cuda.synchronize()
                for link in self._links:
                    link.send(on_gpu)
            for link in self._links:
                link.server.ask("/finish_weight_update", {})
                link.server.forget_prefixes()
                link.server.put_version(version)

    def close(self) -> None:
        """Leave the groups."""
        for link in self._links:
            link.trainer.shutdown()


class _Link:
    """One server's group with this process; also what vLLM's trainer side takes as its client."""

    def __init__(self, server: Server) -> None:
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLTrainerWeightTransferEngine

        self.server = server
        self._source = _Source()
        world_size = 1 + int(server.ask("/get_world_size", method="GET").json()["world_size"])
        address = own_address(server.url)
        info = NCCLTrainerInitInfo(
            master_address=address, master_port=free_port(address), world_size=world_size, rank=0
        )
        self.trainer: Any = NCCLTrainerWeightTransferEngine.trainer_init(info, client=self, source=self._source)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """For vLLM, as the next three."""
        self.server.ask("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Started for all pieces at once."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Returns when the server has received a piece."""
        self.server.ask("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Finished for all pieces at once."""

    def send(self, piece: list[tuple[str, Tensor]]) -> None:
        """Send a piece. What waits in NCCL for a server that dies waits for good, and so has a thread of its own."""
        import torch

        self._source.piece = piece
        failure: list[Exception] = []
        device = torch.cuda.current_device()

        def run() -> None:
            torch.cuda.set_device(device)  # each thread has its own
            try:
                self.trainer.send_weights()
            except Exception as error:  # the boundary to vLLM, whose errors are raised again below
                failure.append(error)

        thread = threading.Thread(target=run, daemon=True, name="ajet-nccl")
        thread.start()
        while thread.is_alive():
            thread.join(POLL_S)
            if thread.is_alive() and not answers(self.server.url):
                raise EngineError(f"vLLM's server at {self.server.url} died while weights were on their way to it")
        if failure:
            words = f"{type(failure[0]).__name__}: {failure[0]}"
            raise EngineError(f"vLLM's server at {self.server.url} took no weights by NCCL: {words}") from failure[0]


class _Source:
    """The piece that is being sent, as vLLM's trainer side asks for it."""

    piece: Sequence[tuple[str, Tensor]] = ()

    def metadata(self) -> list[Any]:
        """Names, number formats and shapes."""
        from vllm.distributed.weight_transfer.base import ParamMeta

        return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self.piece]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.piece)


def own_address(url: str) -> str:
    """This machine's address as the server sees it."""
    place = httpx.URL(url)
    with socket.create_connection((place.host, place.port or 80), timeout=30) as connection:
        return str(connection.getsockname()[0])


def free_port(address: str) -> int:
    """A port for others to meet at."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
