"""The plot of what is measured of the policy, a panel a measure and a colour a tag.

In: the metrics frame of a run. Out: a `Figure`. docs/troubleshooting.md shows it of runs that went wrong.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ajet.analysis.plot_parts import colors, curve_of, plain

MEASURES = {
    "reward/<tag>/mean": "mean reward",
    "episode/success_rate": "successful episodes, share",
    "policy/<tag>/entropy": "entropy, nats",
    "policy/<tag>/sampled_entropy": "entropy as sampled, nats",
    "policy/<tag>/clip_fraction": "clipped tokens, share",
    "policy/<tag>/ratio_p99": "ratio that 1% exceed",
    "policy/<tag>/effective_sample_size": "effective sample size, share",
    "policy/<tag>/mismatch_kl": "engine against trainer, nats",
    "policy/<tag>/kl_ref": "KL from the start, nats",
    "policy/<tag>/grad_weight": "share of the gradient",
    "group/<tag>/zero_std_fraction": "silent groups, share",
    "advantage/<tag>/std": "spread of advantages",
    "format/<tag>/error_rate": "malformed replies, share",
    "tokens/<tag>/per_call_mean": "tokens a reply",
    "policy/grad_norm": "norm of the gradient",
}
"""What the plot of the policy shows, and under which heading."""
MEASURES_A_ROW = 3
STILL = 1e-3
"""A curve that moves by less than this share of its height is drawn as one that stands still."""


def plot_policy(metrics: pd.DataFrame) -> Figure:
    """What is measured of the policy by step: a panel a measure, a colour a tag; what a run does not log is left out.

    Args:
        metrics: of one run.
    """
    measures = [
        (label, by_tag)
        for pattern, label in MEASURES.items()
        if (by_tag := _by_tag(metrics, pattern)) and any(len(curve) for curve in by_tag.values())
    ]
    num_rows = max(1, -(-len(measures) // MEASURES_A_ROW))
    figure = Figure(figsize=(8.4, 0.6 + 1.7 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, MEASURES_A_ROW, sharex=True, squeeze=False)
    for axis in grid.flat[max(len(measures), 1) :]:
        axis.remove()
    tags = sorted({tag for _, by_tag in measures for tag in by_tag})
    color_of = dict(zip(tags, colors(len(tags)), strict=True))
    for axis, (label, by_tag) in zip(grid.flat, measures, strict=False):
        for tag, curve in by_tag.items():
            axis.plot(curve.index, curve, color=color_of[tag], linewidth=1.4, label=plain(tag) if tag else None)
        axis.set_title(label, fontsize="medium")
        axis.ticklabel_format(axis="y", useOffset=False)
        _keep_still(axis)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    lines = {line.get_label(): line for axis in figure.axes for line in axis.get_legend_handles_labels()[0]}
    if lines:
        handles, names = list(lines.values()), [str(name) for name in lines]
        figure.legend(handles, names, loc="outside lower center", ncols=len(lines), frameon=False)
    return figure


def _keep_still(axis: Axes) -> None:
    """Of a curve that does not move, rounding would be drawn as if it did."""
    low, high = axis.get_ylim()
    middle = (low + high) / 2
    if high - low < STILL * middle:
        axis.set_ylim(0.95 * middle, 1.05 * middle)


def _by_tag(metrics: pd.DataFrame, pattern: str) -> dict[str, pd.Series]:
    """Curves of a family of metrics by their tag; of a metric without, by an empty one."""
    before, _, behind = pattern.partition("<tag>")
    return {
        name.removeprefix(before).removesuffix(behind) if behind else "": curve_of(metrics, name)
        for name in sorted(metrics.columns)
        if (name.startswith(before) and name.endswith(behind) and "/" not in name[len(before) : -len(behind)])
        if behind or name == pattern
    }
