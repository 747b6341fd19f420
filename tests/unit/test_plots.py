"""Figures show the numbers that they were given, also of runs that have hardly begun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import Collection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from tests.run_dirs import make_run

from ajet.analysis import load_run
from ajet.analysis.effects import Effect
from ajet.analysis.plots import plot_budget, plot_credit, plot_forest, plot_rewards, plot_scores
from ajet.analysis.policy_plot import plot_policy
from ajet.evaluate.statistics import Interval


def curve(*rewards: float) -> pd.DataFrame:
    return pd.DataFrame({"step": range(len(rewards)), "reward/seer/mean": rewards})


def heights(drawn: Collection) -> np.ndarray:
    return np.asarray(drawn.get_paths()[0].vertices)[:, 1]


def effect(label: str, before: float, after: float, *, width: float) -> Effect:
    def interval(mean: float) -> Interval:
        return Interval(mean=mean, low=mean - width, high=mean + width, num=10)

    return Effect(
        label=label,
        before=interval(before),
        after=interval(after),
        difference=interval(after - before),
        p_value=0.01,
        confidence=0.95,
        pairs_needed=12,
        num_runs=1,
    )


def test_the_reward_plot_shows_the_mean_over_seeds_and_a_band_from_lowest_to_highest() -> None:
    figure = plot_rewards({"seer": [curve(0.0, 0.2), curve(0.2, 0.6, 0.9)]})
    (axis,) = figure.axes
    assert axis.get_title() == "seer"
    # A step that only one seed has reached is left out.
    assert np.asarray(axis.lines[0].get_ydata()) == pytest.approx([0.1, 0.4])
    band = heights(axis.collections[0])
    assert (band.min(), band.max()) == (0.0, 0.6)


def test_panels_stand_two_in_a_row_and_a_condition_without_steps_has_no_entry() -> None:
    frame = pd.DataFrame({"step": [0, 1], **{f"reward/{tag}/mean": [0.0, 1.0] for tag in "abc"}})
    figure = plot_rewards({"all": [frame], "only c": [frame[["step", "reward/c/mean"]]], "none": [pd.DataFrame()]})
    assert len(figure.axes) == 3 and figure.get_figwidth() < 9
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all", "only c"]


def test_one_seed_has_no_band_but_dots() -> None:
    (axis,) = plot_rewards({"seer": [curve(0.0, 0.5, 0.25)]}).axes
    dots, line = axis.lines
    assert not axis.collections and dots.get_marker() == "."
    assert np.asarray(line.get_ydata()) == pytest.approx([0.0, 0.5, 0.25])


def test_bars_reach_the_means_and_the_forest_marks_what_helps() -> None:
    effects = [effect("seer", 0.3, 0.6, width=0.1), effect("witch", 0.3, 0.35, width=0.1)]
    bars = [bar for bar in plot_scores(effects).axes[0].containers if isinstance(bar, BarContainer)]
    assert [[patch.get_width() for patch in bar] for bar in bars] == [[0.3, 0.3], [0.6, 0.35]]
    forest = plot_forest(effects).axes[0]
    markers = [line for line in forest.lines if line.get_marker() == "s"]
    assert [np.asarray(line.get_xdata()).item() for line in markers] == pytest.approx([0.3, 0.05])
    assert markers[0].get_color() != markers[1].get_color()
    assert [label.get_text() for label in forest.get_yticklabels()] == ["seer", "witch"]


def test_an_interval_without_ends_is_drawn_without_whiskers() -> None:
    plot_forest([effect("seer", 0.3, 0.6, width=float("inf"))]).savefig("/dev/null", format="png")


def test_credit_is_shared_out_by_tag_and_turn(tmp_path: Path) -> None:
    figure = plot_credit(load_run(make_run(tmp_path / "run")).calls)
    # The one episode with an advantage has two calls of two tokens each.
    assert [text.get_text() for text in figure.axes[0].texts] == ["+0.50", "+0.50"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["50%", "50%"]


def test_rewards_of_single_replies_stand_below_the_credit_where_there_are_any(tmp_path: Path) -> None:
    calls = load_run(make_run(tmp_path / "run")).calls
    calls = calls.assign(call_reward=calls["turn"].astype(float) - 0.5)
    assert [text.get_text() for text in plot_credit(calls).axes[2].texts] == ["-0.50", "+0.50"]
    assert len(plot_credit(calls.assign(call_reward=np.nan)).axes) == 2, "a run of an earlier version"


def test_rounding_is_painted_as_no_credit(tmp_path: Path) -> None:
    calls = load_run(make_run(tmp_path / "run")).calls
    calls = calls.assign(advantage=calls["advantage"].map({0.5: -3e-17}))
    figure = plot_credit(calls)
    assert {text.get_text() for text in figure.axes[0].texts} == {"+0.00"}
    assert {text.get_text() for text in figure.axes[1].texts} == {"0%"}
    shown = [np.asarray(image.norm(np.asarray(image.get_array()))).tolist() for image in images(figure)]
    assert shown == [[[0.5, 0.5]], [[0.0, 0.0]]]
    # A mean advantage of a hundredth is a tenth of the way to the full colour.
    faint, _ = images(plot_credit(calls.assign(advantage=calls["advantage"].map({-3e-17: 0.01}))))
    assert np.asarray(faint.norm(np.asarray(faint.get_array()))).tolist() == [[pytest.approx(0.55)] * 2]


def images(figure: Figure) -> list[AxesImage]:
    return [image for axes in figure.axes for image in axes.images]


def test_the_budget_stacks_the_phases_of_every_step(tmp_path: Path) -> None:
    figure = plot_budget(load_run(make_run(tmp_path / "run")).metrics, in_all={"rollout": 9.0})
    (bars,) = figure.axes[0].containers
    assert bars.get_label() == "rollout" and isinstance(bars, BarContainer)
    # What two steps of 2 s leave of 9 s was spent after the last of them.
    assert [bar.get_height() for bar in bars] == [2.0, 2.0, 5.0]


def test_the_policy_has_a_panel_a_measure_and_a_line_a_role() -> None:
    metrics = pd.DataFrame(
        {
            "step": [0, 1],
            "policy/seer/entropy": [1.0, 0.5],
            "policy/witch/entropy": [0.9, 0.8],
            "policy/grad_norm": [2.0, 3.0],
            "eval/policy/fox/entropy": [0.1, 0.1],
        }
    )
    panels = {axis.get_title(): axis.get_lines() for axis in plot_policy(metrics).axes}
    assert {title: len(lines) for title, lines in panels.items()} == {"entropy, nats": 2, "norm of the gradient": 1}
    drawn = [np.asarray(line.get_ydata()).tolist() for line in panels["entropy, nats"]]
    assert drawn == [[1.0, 0.5], [0.9, 0.8]]


def test_a_curve_that_only_rounding_moves_is_drawn_as_one_that_stands_still() -> None:
    shares = {"policy/seer/grad_weight": [0.5, 0.500000002], "policy/witch/grad_weight": [0.5, 0.499999998]}
    (axis,) = plot_policy(pd.DataFrame({"step": [0, 1], **shares})).axes
    assert axis.get_ylim() == pytest.approx((0.475, 0.525))
    (axis,) = plot_policy(pd.DataFrame({"step": [0, 1], "policy/grad_norm": [1e-9, 2e-9]})).axes
    assert axis.get_ylim()[1] < 3e-9


def test_a_run_that_has_logged_nothing_gives_empty_figures(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run", num_steps=0, finished=False))
    for figure in (
        plot_rewards({"": [run.metrics]}),
        plot_credit(run.calls),
        plot_budget(run.metrics),
        plot_policy(run.metrics),
    ):
        figure.savefig(tmp_path / "empty.png")


def test_curves_are_drawn_from_the_command_line(tmp_path: Path) -> None:
    runs = [str(make_run(tmp_path / name)) for name in "ab"]
    command = [sys.executable, "-m", "ajet.analysis.curves", *runs, "--out", str(tmp_path / "curves.png")]
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_shown_as_they_are_and_never_read_as_formulas(tmp_path: Path) -> None:
    name = r"$\frac{ costs $5_ and ^"
    calls = load_run(make_run(tmp_path / "run")).calls.assign(tag=name)
    metrics = pd.DataFrame({"step": [0], f"reward/{name}/mean": [1.0], "time/rollout": [1.0]})
    effects = [effect(name, 0.1, 0.5, width=0.1)]
    for number, figure in enumerate(
        (
            plot_rewards({name: [metrics], "b": [metrics]}),
            plot_scores(effects),
            plot_forest(effects),
            plot_credit(calls),
        )
    ):
        figure.savefig(tmp_path / f"{number}.svg")
