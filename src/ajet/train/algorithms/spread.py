"""How far a step's values lie apart, each episode counting once: in it its agents share its weight, an agent's calls
the agent's, as in the loss. Pure numpy.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from ajet.train.algorithms.outcomes import FloatArray, nearby_power


@dataclass(slots=True)
class StepValues:
    """A value a call, or one an agent.

    Example: an agent's calls with 1 and 0 in one episode, one with 3 in another: weights 1/4, 1/4, 1/2, mean 1.75.
    """

    cells: dict[Hashable, dict[str, list[float]]] = field(default_factory=dict)
    """By what counts once, an episode mostly; then by agent."""

    def add(self, cell: Hashable, agent: str, values: list[float]) -> None:
        """Take in values of an agent, at least one."""
        self.cells.setdefault(cell, {}).setdefault(agent, []).extend(values)

    def mean(self) -> float:
        """Their mean; not finite where a value is not."""
        with np.errstate(invalid="ignore"):
            values_N, weight_N, unit = self._weighted()
            return float(weight_N @ values_N) * unit

    def abs_mean(self) -> float:
        """The mean of how large they are; not finite where a value is not."""
        values_N, weight_N, unit = self._weighted()
        return float(weight_N @ np.abs(values_N)) * unit

    def std(self, *, of_sample: bool) -> float:
        """Their deviation; that of a sample (n - 1) for n cells, or of these values alone; nan where one is not
        finite."""
        num = len(self.cells)
        with np.errstate(invalid="ignore"):
            values_N, weight_N, unit = self._weighted()
            variance = float(weight_N @ np.square(values_N - weight_N @ values_N))
        return math.sqrt(variance * (num / max(num - 1, 1) if of_sample else 1.0)) * unit

    def _weighted(self) -> tuple[FloatArray, FloatArray, float]:
        """N values in a unit in which the largest have squares, too; N weights, which add up to 1; the unit."""
        each = [
            (value, 1 / (len(self.cells) * len(agents) * len(values)))
            for agents in self.cells.values()
            for values in agents.values()
            for value in values
        ]
        values_N, weight_N = np.array(each, float).T
        unit = nearby_power(values_N)
        return values_N / unit, weight_N, unit
