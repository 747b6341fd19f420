"""Curves are read from a run directory alone, also while it is being written."""

from __future__ import annotations

from pathlib import Path

from ajet.analysis.curves import plot_rewards, reward_curves


def run_dir(folder: Path, *rewards: float, torn: str = "") -> Path:
    folder.mkdir()
    lines = [f'{{"step": {i}, "reward/seer/mean": {r}, "reward/seer/std": 0.5}}\n' for i, r in enumerate(rewards)]
    (folder / "metrics.jsonl").write_text("".join(lines) + torn)
    return folder


def test_a_curve_is_the_mean_reward_of_each_step_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = run_dir(tmp_path / "run", 0.25, 0.5, torn='{"step": 2, "rew')
    assert reward_curves(run) == {"seer": {0: 0.25, 1: 0.5}}


def test_a_plot_is_a_real_picture(tmp_path: Path) -> None:
    runs = [run_dir(tmp_path / "a", 0.1, 0.4), run_dir(tmp_path / "b", 0.2, 0.6, 0.7)]
    plot_rewards(runs, tmp_path / "curves.png", title="reward per tag")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
