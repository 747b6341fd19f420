"""A small server of the Tinker API, without a network: its model is a table, its gradients are real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import tinker
import torch
from torch import Tensor

from ajet.engine.tinker import TinkerConfig
from ajet.errors import EngineError

VOCABULARY, STEEP = 12, 30
Loss = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""(log-probabilities, those sampled with, advantages, settings) -> a loss a position."""


def importance(logp: Tensor, sampled: Tensor, advantages: Tensor, settings: Any) -> Tensor:
    return -torch.exp(logp - sampled) * advantages


def ppo(logp: Tensor, sampled: Tensor, advantages: Tensor, settings: Any) -> Tensor:
    ratio = torch.exp(logp - sampled)
    bounded = ratio.clamp(settings["clip_low_threshold"], settings["clip_high_threshold"])
    return -torch.minimum(ratio * advantages, bounded * advantages)


def cispo(logp: Tensor, sampled: Tensor, advantages: Tensor, settings: Any) -> Tensor:
    ratio = torch.exp(logp - sampled).clamp(settings["clip_low_threshold"], settings["clip_high_threshold"])
    return -ratio.detach() * logp * advantages


def cispo_by_its_own_bounds(logp: Tensor, sampled: Tensor, advantages: Tensor, settings: Any) -> Tensor:
    return cispo(logp, sampled, advantages, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2})


def reinforce(logp: Tensor, sampled: Tensor, advantages: Tensor, settings: Any) -> Tensor:
    return -logp * advantages


def cross_entropy(logp: Tensor, sampled: Tensor, advantages: Tensor, settings: Any) -> Tensor:
    return -logp


def clipped_both_ways(logp: Tensor, sampled: Tensor, advantages: Tensor, settings: Any) -> Tensor:
    return -torch.exp(logp - sampled).clamp(0.8, 1.2) * advantages


class TableServer:
    """A server whose model knows the token before: logits are `STEEP` times a table's row, its optimizer is Adam."""

    url = "http://table"

    def __init__(self, losses: Mapping[str, Loss], *, means: bool = False, loss: str = "auto") -> None:
        self._losses, self._means = losses, means
        self.settings = TinkerConfig(loss=loss)
        self.num_models = 0
        self.num_forwards = 0
        self.num_steps = 0

    def trainer(self, *, rank: int, seed: int) -> Any:
        self.num_models += 1
        self._table = torch.zeros(VOCABULARY, VOCABULARY, requires_grad=True)
        return SimpleNamespace(forward=self._forward, forward_backward=self._learn, optim_step=self._step)

    def forget(self, client: Any) -> None:
        self.num_models -= 1

    def called(self, call: Callable[[], Any], doing: str) -> Any:
        try:
            return call()
        except tinker.RequestFailedError as error:
            raise EngineError("refused") from error

    def wait(self, submit: Callable[[], Any], doing: str) -> Any:
        return self.called(submit, doing)

    def _logps(self, row: Any) -> Tensor:
        tokens = torch.tensor(row.model_input.to_ints())
        targets = row.loss_fn_inputs["target_tokens"].to_torch()
        return torch.log_softmax(STEEP * self._table[tokens], dim=-1)[range(len(tokens)), targets]

    def _forward(self, rows: list[Any], loss: str) -> Any:
        self.num_forwards += 1
        return self._told(rows)

    def _told(self, rows: list[Any]) -> Any:
        data = [SimpleNamespace(data=self._logps(row).tolist()) for row in rows]
        return SimpleNamespace(loss_fn_outputs=[{"logprobs": each} for each in data])

    def _learn(self, rows: list[Any], loss: str, settings: Any) -> Any:
        told = self._told(rows)
        if loss not in self._losses:
            raise tinker.RequestFailedError(
                "no such loss", request_id="1", category=tinker.types.RequestErrorCategory.User
            )
        for row in rows:
            sampled, advantages = (row.loss_fn_inputs[name].to_torch() for name in ("logprobs", "advantages"))
            values = self._losses[loss](self._logps(row), sampled, advantages, settings)
            (values.mean() / len(rows) if self._means else values.sum()).backward()
        return told

    def _step(self, adam: Any) -> None:
        self.num_steps += 1
        optimizer = torch.optim.Adam([self._table], adam.learning_rate, (adam.beta1, adam.beta2), adam.eps)
        optimizer.step()
        optimizer.zero_grad()
