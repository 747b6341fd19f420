"""What can only be said of all sampled tokens of an optimizer step together: from which entropy on they are credited,
and which of them are held where they were.

In: packs of this process. Out: `StepBounds`, the same on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from ajet.config.algorithm import AlgorithmConfig
from ajet.train.algorithms.kl_cov import LargestCovariances, largest_covariances
from ajet.train.algorithms.objective import least_of_top
from ajet.train.packing import IDLE, Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBounds:
    """Of one optimizer step."""

    least_entropy: float = 0.0
    """Of a token that is credited, nats."""
    covariances: LargestCovariances | None = None
    """Tokens that are held; None where none are."""


NO_BOUNDS = StepBounds()
"""All tokens are credited, and none are held."""


@torch.no_grad()
def step_bounds(
    algorithm: AlgorithmConfig,
    packs: Sequence[Pack],
    old: Sequence[Tensor | None],
    *,
    entropies: Callable[[Pack], Tensor] | None,
    accelerator: Accelerator,
) -> StepBounds:
    """The bounds of an optimizer step; every rank asks alike, and at least one of them has tokens.

    Args:
        algorithm: what is bounded.
        packs: of this rank.
        old: log-probabilities of each pack before the training step; None where they are those that were sampled with.
        entropies: gives those of a pack, nats: a forward pass. Not asked where nothing goes by them; None where nobody
            can tell.
        accelerator: gathers over ranks.
    """
    least, held = algorithm.min_entropy, None
    if algorithm.top_entropy_quantile < 1:
        assert entropies is not None, "refused when the run was configured"
        # All packs are asked, idle ones too: where weights are shared out, ranks call the model equally often.
        found = [(entropies(pack), pack) for pack in packs]
        (entropy_N,) = _of_all([entropy_E[:, None] for entropy_E, pack in found if pack is not IDLE], 1, accelerator)
        least = least_of_top(entropy_N, algorithm.top_entropy_quantile)
    if algorithm.kl_cov_share:
        pairs = [_logps_and_advantages(*each) for each in zip(packs, old, strict=True) if each[0] is not IDLE]
        logp_N, advantages_N = _of_all(pairs, 2, accelerator)
        held = largest_covariances(logp_N, advantages_N, algorithm.kl_cov_share)
    return StepBounds(least_entropy=least, covariances=held)


def _logps_and_advantages(pack: Pack, old_E: Tensor | None) -> Tensor:
    """(E, 2), as the loss is told them."""
    logp_E = torch.from_numpy(pack.logprobs).float() if old_E is None else old_E.float()
    return torch.stack([logp_E, torch.from_numpy(pack.advantages).to(logp_E)], dim=1)


def _of_all(values: Sequence[Tensor], width: int, accelerator: Accelerator) -> list[Tensor]:
    """Columns of N values, of all ranks together, from (E, width) each; in float32, which keeps what they are."""
    device = accelerator.device
    rows = torch.cat([torch.zeros(0, width, device=device), *(value.to(device, torch.float32) for value in values)])
    # Ranks have different numbers of rows: what fills them up is told by a column of its own.
    marked = torch.cat([rows, torch.ones(len(rows), 1, device=device)], dim=1)
    everywhere = accelerator.gather(accelerator.pad_across_processes(marked))
    return list(everywhere[everywhere[:, -1] == 1, :-1].unbind(dim=1))
