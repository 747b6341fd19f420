"""What the plots share: a metric's curve, names as they are written, colours.

In: frames of metrics and names. Out: what matplotlib draws. The colours are those of Okabe and Ito, which most readers
can tell apart.
"""

from __future__ import annotations

import pandas as pd

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#f0e442")


def plain(name: str) -> str:
    """A name as it is: a dollar sign would start a formula."""
    return name.replace("$", r"\$")


def curve_of(metrics: pd.DataFrame, name: str) -> pd.Series:
    """A metric by step, steps without it left out."""
    if name not in metrics:
        return pd.Series(dtype="float64")
    values: pd.Series = metrics.set_index("step")[name].dropna()
    return values


def colors(num: int) -> list[str]:
    """That many, again from the first where there are no more."""
    return [COLORS[i % len(COLORS)] for i in range(num)]
