"""The machine: device, threads, number format of the arithmetic, of each process that trains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ajet.config.fields import TRAINING_ONLY, marks, one_of, ruled, with_marks
from ajet.errors import ConfigError


@dataclass
class PackCosts:
    """What a pack takes of an update, counted in tokens: by it rows are joined to packs, and packs are shared out to
    processes. `python -m ajet.tune` measures it for a model on a machine.

    The defaults were measured on one CPU core with the shipped model's architecture: a fit over single packs of 128 to
    3,072 tokens gave 1/600 for a pair and 80 for a pass; over whole batches of shared-prefix and of short rows 1/300
    was 5 to 20% faster. Packs of 500 to 2,000 tokens took 0.48 times as long for pairs without a mask as with one.
    """

    pair: float = ruled(1 / 300, at_least=0)
    """A pair of tokens in the attention of a pack that branches, against all else that a token takes."""
    chain_share: float = ruled(0.5, at_least=0, at_most=1)
    """Of that, where nothing branches and no mask is needed."""
    start: float = ruled(80.0, at_least=0)
    """One more pack, however small; without it short rows would each have a pack of their own."""


@dataclass
class HardwareConfig:
    """Device, threads and precision of the process."""

    device: str = one_of("cpu", "cpu", "cuda")
    """Where sampling and training run."""
    sampling_threads: int | None = ruled(None, at_least=1)
    """CPU threads while sampling; null: every core."""
    training_threads: int | None = with_marks(ruled(None, at_least=1), TRAINING_ONLY)
    """CPU threads while training; null: every core."""
    mixed_precision: str = with_marks(one_of("no", "no", "bf16"), TRAINING_ONLY)
    """Accelerate's mixed precision in training."""
    data_parallel: str = with_marks(one_of("ddp", "ddp", "fsdp"), TRAINING_ONLY)
    """With several processes: `ddp` keeps the whole model and its optimizer on each, `fsdp` (FSDP2) a share of them.
    With one process both are the same."""
    compile: bool = field(default=False, metadata=marks(TRAINING_ONLY))
    """Let torch compile the model's layers: on GPUs updates take two thirds to half of the time, after seconds to
    minutes of compiling, again for packs of a new kind. For long runs."""
    attention: str = with_marks(one_of("auto", "auto", "dense", "flex"), TRAINING_ONLY)
    """How packs whose rows share beginnings attend: `dense` makes a mask of all pairs of tokens, `flex` (torch's
    FlexAttention, on GPUs alone) leaves out blocks of pairs that see nothing of each other. `auto` is `dense` on the
    CPU and in packs of up to 4,096 tokens, where both were equally fast on an H100, and `flex` above."""
    costs: PackCosts = field(default_factory=PackCosts, metadata=marks(TRAINING_ONLY))
    gradient_checkpointing: bool = field(default=False, metadata=marks(TRAINING_ONLY))
    """Keep of each layer its input alone for the backward pass and compute the layer again there: less memory for long
    contexts, about a third more time."""
    offload_optimizer: bool = field(default=False, metadata=marks(TRAINING_ONLY))
    """With `device=cuda`: keep Adam's moments, 8 bytes a trained weight, in the CPU's memory and compute its steps
    there."""

    def check(self) -> None:
        """Refuse what the device cannot do.

        Raises:
            ConfigError: what to change.
        """
        if self.attention == "flex" and self.device == "cpu":
            raise ConfigError(
                "hardware.attention=flex has no gradients on a CPU: choose hardware.attention=auto or dense, or "
                "hardware=gpu_1"
            )

    def blocks_from(self, most_tokens: int) -> int | None:
        """From how many tokens on a branching pack goes by FlexAttention, by the settings alone; None for never.

        Args:
            most_tokens: of a branching pack, `algorithm.max_pack_tokens`.
        """
        wanted = {"dense": None, "flex": BLOCK, "auto": WORTH_BLOCKS if self.device == "cuda" else None}
        first = wanted[self.attention]
        return None if first is None or most_tokens < first else first


BLOCK = 128
"""Tokens of a block of FlexAttention's mask: a pack below has one block, of which nothing can be left out."""
WORTH_BLOCKS = 4097
"""On an H100 one layer's attention, forward and backward, was 1.1 times as fast by blocks as by a dense mask with 4,096
tokens, which compiling outweighs, and 4.6 times with 16,384."""


PROCESS_ENVIRONMENT = {
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # a NUMA warning that no user can act upon
    # Threads that spin long at a barrier, OpenMP's habit, wait for one that any other process keeps off its core;
    # those that sleep at once take longer to wake than a small model's layer takes.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "2000",
    # oneDNN and torch above it keep what they prepared for 1,024 shapes each. Packs are hardly ever of one length
    # twice, so that it only fills memory, 15 MB a pack; 32 are enough for the layers of one pack.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "LRU_CACHE_CAPACITY": "32",
}
"""What torch and the libraries below it read from the environment when they are loaded."""


def rank_and_size() -> tuple[int, int]:
    """This process's number among those of its run, and how many they are, as torchrun and `accelerate launch` say it;
    (0, 1) where nothing does."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_rank_and_size() -> tuple[int, int]:
    """The same among the processes of the run on this machine."""
    rank, size = (int(os.environ.get(name, missing)) for name, missing in _OF_THIS_MACHINE)
    return rank, size


def prepare_process() -> None:
    """Set `PROCESS_ENVIRONMENT` where the user has not, and let each of several ranks see its own GPUs. Where torch is
    loaded already, as it may be in a notebook, some of it comes too late: runs are slower then, their numbers the
    same."""
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    own = share_of_gpus(visible_gpus(), *local_rank_and_size())
    if own is not None and _SHARED not in os.environ:
        os.environ |= {_VISIBLE: ",".join(own), _SHARED: "1"}


_OF_THIS_MACHINE = (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
_VISIBLE, _SHARED = "CUDA_VISIBLE_DEVICES", "AJET_GPUS_ARE_SHARED_OUT"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, without loading torch."""
    listed = os.environ.get(_VISIBLE)
    if listed is not None:
        return [name for name in listed.split(",") if name]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def share_of_gpus(gpus: Sequence[str], local_rank: int, local_size: int) -> list[str] | None:
    """The GPUs of one of the ranks on a machine; None where they cannot be shared out.

    vLLM in the process takes the first one that it sees, whatever the rank, and `tensor_parallel_size` of them.
    """
    each = len(gpus) // local_size
    return list(gpus[local_rank * each : (local_rank + 1) * each]) if local_size > 1 and each else None
