"""Frames and effects -> matplotlib figures, readable in print and on a narrow screen.

In: what `runs` and `effects` give. Out: a `Figure` each; the caller shows or saves it, and no global state of pyplot is
touched. Colours are those of Okabe and Ito, which most readers can tell apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ajet.analysis.effects import Effect
from ajet.analysis.plot_parts import COLORS, colors, curve_of, plain
from ajet.analysis.runs import is_reward, tag_of

SMOOTHED = 0.15
"""Share of a run's steps that the running mean of its curve takes in."""
PANELS_A_ROW = 2
LABEL_WIDTH = 28
"""Characters of a line of a label; a condition that differs in much has several lines."""
LONGEST_TOKEN = 20
"""Characters of a token's text that are shown."""
ROUNDING = 1e-6
"""Advantages are of the size of one where rewards differ at all."""
LEAST_REACH = 0.1
"""The mean advantage that has the full colour at least, so that what is written as nothing looks like it."""
NUM_TURNS = 12
"""Turns that the plot of credit shows; later ones are added to the last."""


def plot_rewards(conditions: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Mean training reward by step: a panel a tag, a colour a condition.

    The line is the running mean over the runs' mean; the band reaches from the lowest to the highest run, and a single
    run shows its steps as dots instead.

    Args:
        conditions: the metrics frames of the runs of each condition, e.g. one a seed.
    """
    frames = [frame for runs in conditions.values() for frame in runs]
    tags = sorted({tag_of(name) for frame in frames for name in frame.columns if is_reward(name)})
    num_columns = min(PANELS_A_ROW, max(len(tags), 1))
    num_rows = max(1, -(-len(tags) // num_columns))
    figure = Figure(figsize=(4.2 * num_columns, 0.6 + 2.6 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    for axis in grid.flat[max(len(tags), 1) :]:
        axis.remove()
    for axis, tag in zip(grid.flat, tags, strict=False):
        for color, (label, runs) in zip(colors(len(conditions)), conditions.items(), strict=True):
            _plot_curve(axis, [curve_of(frame, f"reward/{tag}/mean") for frame in runs], label, color)
        axis.set(title=plain(tag), xlabel="step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    for axis in grid[:, 0]:
        axis.set_ylabel("mean reward")
    # Not every panel knows every condition.
    lines = {line.get_label(): line for axis in figure.axes for line in axis.get_legend_handles_labels()[0]}
    if len(conditions) > 1 and lines:
        named = [label for label in map(_wrapped, conditions) if label in lines]
        handles = [lines[label] for label in named]
        figure.legend(handles, named, loc="outside lower center", ncols=num_columns, frameon=False)
    return figure


def _wrapped(label: str) -> str:
    return plain(textwrap.fill(label, LABEL_WIDTH))


def _plot_curve(axis: Axes, curves: Sequence[pd.Series], label: str, color: str) -> None:
    known = [curve for curve in curves if len(curve)]
    if not known:
        return
    runs = pd.concat(known, axis=1)
    # Where some runs are ahead, the mean over the others would jump.
    shared = runs.dropna()
    window = max(1, round(SMOOTHED * len(shared)))
    smooth = shared.rolling(window, center=True, min_periods=1).mean()
    if runs.shape[1] > 1:
        axis.fill_between(smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=color, alpha=0.2, linewidth=0)
    else:
        axis.plot(runs.index, runs.iloc[:, 0], ".", color=color, alpha=0.7, markersize=6)
    axis.plot(smooth.index, smooth.mean(axis=1), color=color, linewidth=2, label=_wrapped(label))


def plot_scores(effects: Sequence[Effect]) -> Figure:
    """Held-out scores before and after, bars with intervals, e.g. win rates."""
    names = [_wrapped(effect.label) for effect in effects]
    figure = Figure(figsize=(6.4, 0.9 + 0.75 * len(effects)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(effects))
    for offset, color, when in ((-0.2, "#bbbbbb", "before"), (0.2, COLORS[0], "after")):
        intervals = [getattr(effect, when) for effect in effects]
        means = np.array([interval.mean for interval in intervals])
        errors = _errors(means, [(interval.low, interval.high) for interval in intervals])
        axis.barh(places + offset, means, 0.38, color=color, xerr=errors, label=when, ecolor="#333333", capsize=3)
    axis.set(yticks=places, yticklabels=names, xlabel="held-out score")
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def plot_forest(effects: Sequence[Effect]) -> Figure:
    """A forest plot: the paired difference of every effect with its interval, against the line of no difference."""
    names = [_wrapped(effect.label) for effect in effects]
    num_lines = sum(1 + name.count("\n") for name in names)
    figure = Figure(figsize=(6.4, 1.1 + 0.25 * len(names) + 0.2 * num_lines), layout="constrained")
    axis = figure.subplots()
    for place, effect in enumerate(effects):
        color = {True: COLORS[2], False: COLORS[1], None: "#777777"}[effect.helps]
        difference = effect.difference
        errors = _errors(np.array([difference.mean]), [(difference.low, difference.high)])
        axis.errorbar(difference.mean, place, xerr=errors, fmt="s", color=color, capsize=4, markersize=6)
    axis.axvline(0, color="#333333", linewidth=1)
    axis.set(
        yticks=range(len(effects)),
        yticklabels=names,
        ylim=(len(effects) - 0.4, -0.6),
        xlabel="held-out score, after minus before",
    )
    axis.grid(axis="x", alpha=0.3)
    return figure


def _errors(means: np.ndarray, bounds: Sequence[tuple[float, float]]) -> np.ndarray:
    """Distances [2, n] from the means down and up to the bounds; none for bounds that lie at infinity."""
    lows, highs = np.array(bounds, dtype=float).T
    distances = np.stack([means - lows, highs - means])
    return np.where(np.isfinite(distances), distances.clip(min=0), 0.0)


def plot_credit(calls: pd.DataFrame) -> Figure:
    """Where credit went: by tag and turn, the mean advantage, the share of |advantage| x sampled tokens, and the mean
    reward that replies were given by themselves, if any were.

    Args:
        calls: of training steps; agents without an advantage are left out.
    """
    credited = calls[(calls["split"] == "train") & calls["advantage"].notna()]
    # What equal rewards leave of a mean is rounding, and no credit.
    credited = credited.assign(advantage=credited["advantage"].where(credited["advantage"].abs() > ROUNDING, 0.0))
    turn = credited["turn"].clip(upper=NUM_TURNS - 1)
    mean = credited.groupby(["tag", turn])["advantage"].mean().unstack("turn")
    weight = (credited["advantage"].abs() * credited["num_sampled"]).groupby([credited["tag"], turn]).sum()
    share = (weight / (weight.sum() or 1.0)).unstack("turn")
    rewarded = credited["call_reward"].fillna(0.0).any()
    figure = Figure(figsize=(7.2, 1.5 + (1.2 if rewarded else 0.8) * len(mean)), layout="constrained")
    if mean.empty:
        return figure
    axes = figure.subplots(3 if rewarded else 2, 1, sharex=True)
    _heatmap(axes[0], mean, "mean advantage", "PuOr", _symmetric(mean), "{:+.2f}")
    _heatmap(axes[1], share, "share of credit", "Blues", (0.0, float(np.nanmax(share.to_numpy())) or 1.0), "{:.0%}")
    if rewarded:
        given = credited.groupby(["tag", turn])["call_reward"].mean().unstack("turn")
        _heatmap(axes[2], given, "mean reward of the reply alone", "PuOr", _symmetric(given), "{:+.2f}")
    axes[-1].set_xlabel("turn of the agent in its episode")
    return figure


def _symmetric(table: pd.DataFrame) -> tuple[float, float]:
    """Colour limits around 0."""
    reach = max(float(np.nanmax(np.abs(table.to_numpy()))), LEAST_REACH)
    return -reach, reach


def _heatmap(
    axis: Axes, table: pd.DataFrame, title: str, colors: str, limits: tuple[float, float], written: str
) -> None:
    values = table.to_numpy(dtype=float)
    axis.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], aspect="auto")
    names = [f"{turn + 1}+" if turn == NUM_TURNS - 1 else str(turn + 1) for turn in table.columns]
    axis.set(title=title, xticks=range(len(names)), xticklabels=names, yticks=range(len(table)))
    axis.set_yticklabels([plain(str(name)) for name in table.index])
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "white" if abs(value) > 0.6 * limits[1] else "black"
            axis.text(column, row, written.format(value), ha="center", va="center", fontsize=7, color=color)


def plot_tokens(tokens: pd.DataFrame) -> Figure:
    """How probable each token of a reply was when it was sampled, first token on top.

    Args:
        tokens: `text` and `probability`, e.g. of `tokens.sampled_tokens`.
    """
    figure = Figure(figsize=(6.4, 0.8 + 0.22 * len(tokens)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(tokens))
    axis.barh(places, tokens["probability"], 0.7, color=COLORS[4])
    # What is not printable would be an empty box.
    names = [plain(_cut(ascii(text)[1:-1])) for text in tokens["text"]]
    axis.set(yticks=places, yticklabels=names, xlim=(0, 1), xlabel="probability when it was sampled")
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    return figure


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TOKEN else f"{text[: LONGEST_TOKEN - 1]}…"


def plot_budget(metrics: pd.DataFrame, *, in_all: Mapping[str, float] | None = None) -> Figure:
    """Seconds a step by phase, stacked; tokens a step: sampled, trained on, and distinct after merging.

    Args:
        metrics: of one run.
        in_all: its seconds by phase; what its steps do not account for, the last evaluation, stands at the last step.
    """
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    times, tokens = figure.subplots(2, 1, sharex=True)
    steps = metrics.dropna(subset=["time/rollout"]) if "time/rollout" in metrics else metrics.iloc[:0]
    phases = [name for name in metrics.columns if name.startswith("time/") and name != "time/step"]
    seconds = metrics.set_index("step")[phases].groupby(level="step").sum()
    if in_all and phases:
        unseen = pd.Series(in_all).add_prefix("time/").reindex(phases).fillna(0.0) - seconds.sum()
        seconds.iloc[-1] += unseen.clip(lower=0)
    floor = np.zeros(len(seconds))
    phases.sort(key=lambda name: -seconds[name].sum())
    for color, name in zip(colors(len(phases)), phases, strict=True):
        times.bar(seconds.index, seconds[name], 0.8, bottom=floor, color=color, label=name.removeprefix("time/"))
        floor = floor + seconds[name].to_numpy()
    if phases:
        times.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for color, kind in zip(COLORS, ("prompt", "unique", "sampled", "trained"), strict=False):
        if f"tokens/{kind}" in steps:
            tokens.plot(steps["step"], steps[f"tokens/{kind}"], color=color, label=kind)
    if tokens.lines:
        tokens.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        tokens.set_yscale("log")
    times.set(ylabel="seconds a step")
    tokens.set(ylabel="tokens a step", xlabel="step")
    tokens.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
