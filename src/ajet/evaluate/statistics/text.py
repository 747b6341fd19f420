"""How estimates, intervals and p-values are written, wherever people read them: console, notebooks, report, W&B."""

from __future__ import annotations

import math

from ajet.evaluate.statistics.intervals import Interval


def p_value_text(p_value: float) -> str:
    """To three digits; `<0.001` below."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def interval_text(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """`[0.170, 0.320]`, with `signed` `[+0.170, +0.320]`.

    `[unknown]` where the ends are missing, infinite or one number: of one value, or of equal ones, which say nothing
    about the spread.
    """
    if low is None or high is None or not (math.isfinite(low) and low < high):
        return "[unknown]"
    return f"[{number_text(low, signed=signed)}, {number_text(high, signed=signed)}]"


def number_text(value: float | None, *, signed: bool = False) -> str:
    """`0.245`, with `signed` `+0.245`; `?` where there is none."""
    return "?" if value is None else f"{value:{'+' if signed else ''}.3f}"


def estimate_text(found: Interval, *, signed: bool = False) -> str:
    """`0.245 [0.170, 0.320]`."""
    return f"{number_text(found.mean, signed=signed)} {interval_text(found.low, found.high, signed=signed)}"
