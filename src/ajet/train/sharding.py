"""A model whose weights are shared out among the processes of a run (FSDP2), and its tensors put together again.

In: a model, the same on every rank. Out: the same model, of which each rank keeps a share: weights are gathered layer
by layer while they are needed, gradients are added up into the shares, and so is what the optimizer keeps. Torch does
all of it. Every rank must call the model equally often, and whatever gathers here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer


def shard(root: nn.Module, device_type: str) -> None:
    """Share out the weights below `root`, layer by layer where transformers says what the layers are.

    Args:
        root: what will be called: its `forward` has the weights that are in no layer, whichever modules use them.
        device_type: `cpu` or `cuda`, where each rank's share goes.
    """
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    layers = [module for module in root.modules() if isinstance(module, GradientCheckpointingLayer)]
    for module in (*layers, root):
        fully_shard(module, mesh=mesh)
        assert isinstance(module, FSDPModule)
        # Weights of tokens are shares of the whole batch's loss: gradients are added up, where FSDP would take means.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process has a share of it only."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered where it is shared out."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shared_out_as(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, which every rank has, as the parameter is shared out."""
    if not isinstance(parameter, DTensor):
        return tensor
    # No rank need send anything, for all of them have read the same file.
    here = tensor.to(parameter.device_mesh.device_type)
    return distribute_tensor(here, parameter.device_mesh, parameter.placements, src_data_rank=None)


def kept_whole(named: Iterator[tuple[Any, Tensor]], *, kept: bool) -> dict[Any, Tensor]:
    """Gather tensors one after another onto the CPU; with `kept` false only help the others to, and return nothing."""
    found = {}
    for name, tensor in named:
        gathered = whole(tensor)
        if kept:
            found[name] = gathered.detach().cpu()
    return found
