"""Checks a stream of new weights against the model that they are meant for.

In: named tensors and the model's parameters. Out: the same tensors, each parameter once. A forgotten or
misnamed weight is an error here; engines would keep the old one without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ajet.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def checked_weights(weights: Iterable[tuple[str, Tensor]], model: Module) -> Iterator[tuple[str, Tensor]]:
    """Pass on what fits, detached. A tied parameter may come under any of its names; its first goes out.

    Raises:
        EngineError: an unknown name, another shape, or, at the end, parameters that did not come.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    # By the parameter itself, as in torch's optimizers: tied names are one parameter.
    expected = {parameter: name for name, parameter in model.named_parameters()}
    for name, tensor in weights:
        if name not in parameters:
            raise EngineError(f"the model has no parameter {name!r}")
        parameter = parameters[name]
        if tensor.shape != parameter.shape:
            raise EngineError(f"{name} has shape {tuple(parameter.shape)}, not {tuple(tensor.shape)}")
        if first_name := expected.pop(parameter, None):
            yield first_name, tensor.detach()
    if expected:
        raise EngineError(f"the update lacks the weights of {sorted(expected.values())}")
