"""Which GPUs servers take: none that a training process has, and none twice.

In: `engine.gpus`, and what the environment says of this process: the GPUs that it may use (`CUDA_VISIBLE_DEVICES`) and
its number among those of the machine. Out: each server's GPUs, by the names that `CUDA_VISIBLE_DEVICES` takes. Left
out: other programs on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from ajet.config.hardware import local_rank_and_size, visible_gpus
from ajet.errors import ConfigError


def gpus_of_servers(gpus: Sequence[int] | None, *, num_servers: int, each: int) -> list[list[str]]:
    """The GPUs of this process's servers; errors as `placed`."""
    rank, size = local_rank_and_size()
    return placed(gpus, visible_gpus(), num_servers=num_servers, each=each, local_rank=rank, local_size=size)


def placed(
    gpus: Sequence[int] | None,
    visible: Sequence[str],
    *,
    num_servers: int,
    each: int,
    local_rank: int = 0,
    local_size: int = 1,
) -> list[list[str]]:
    """Each server's GPUs.

    Args:
        gpus: those that were chosen; None: the first that are free.
        visible: those that this process may use, its own share where several processes share them out.
        num_servers: to start.
        each: GPUs of one server.
        local_rank: of this process on its machine, by which Accelerate picks its GPU.
        local_size: training processes on this machine.

    Raises:
        ConfigError: one that was chosen is a training process's or not there, or too few are free; the choices.
    """
    training = visible[local_rank % len(visible)] if visible else None
    free = [gpu for gpu in visible if gpu != training]
    if gpus is not None and local_size > 1:
        raise ConfigError(
            f"engine.gpus={list(gpus)} is one set for {local_size} training processes: leave it out, and each starts "
            "its servers on those of its GPUs that it does not train on"
        )
    chosen = free[: num_servers * each] if gpus is None else [str(gpu) for gpu in gpus]
    if gpus is not None and (len(set(chosen)) < len(chosen) or not set(chosen) <= set(free)):
        raise ConfigError(
            f"engine.gpus={list(gpus)}: training has GPU {training}, and servers may have each of [{','.join(free)}] "
            f"once, of the GPUs [{','.join(visible)}] that CUDA_VISIBLE_DEVICES allows"
        )
    if len(chosen) < num_servers * each:
        most = len(free) // each
        choice = f"set engine.num_servers={most}" if most else "choose engine=vllm_gpu"
        raise ConfigError(
            f"engine.num_servers={num_servers} of engine.tensor_parallel_size={each} need {num_servers * each} GPUs "
            f"besides the one that each process trains on, but of [{','.join(visible)}] there are {len(free)}: {choice}"
        )
    return [chosen[i * each : (i + 1) * each] for i in range(num_servers)]
