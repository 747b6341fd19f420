"""Held-out play becomes scores by task, and two evaluations a comparison that proves something or does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from ajet.evaluate.scores import Evaluation, evaluation_from_json, score_groups
from ajet.evaluate.summary import comparison, write_summary
from ajet.evaluate.tables import results_table, seats_table
from ajet.records import Episode, EpisodeGroup, Task


def episode(task: str, reward: float, *, success: bool | None = None, status: str = "ok", agent: str = "P1") -> Episode:
    return Episode(
        task=Task(task_id=task),
        repeat=0,
        status=status,  # type: ignore[arg-type]
        rewards={agent: reward} if status == "ok" else {},
        agent_tags={agent: "seer"},
        calls=(),
        is_success=success,
    )


def group(*episodes: Episode) -> EpisodeGroup:
    return EpisodeGroup(task=episodes[0].task, episodes=episodes)


def test_the_comparison_matches_tasks_and_says_how_many_it_would_take() -> None:
    before = score_groups([group(episode(str(i), float(i % 2))) for i in range(8)])
    after = score_groups([group(episode(str(i), 1.0 if i else 0.0)) for i in range(9)])
    row = comparison(before, after, confidence=0.95)["reward/seer"]
    # Seven tasks of eight are won after, four before; three pairs differ, by 1.
    assert (row.before.mean, row.after.num, row.difference.mean, row.difference.num) == (0.5, 9, 3 / 8, 8)
    # With a gain and a loss besides s^2 = (5 - 10 * .3^2) / 9 and t = .3 / (s / sqrt 10) = 1.4056, of 7 degrees.
    assert row.p_value == pytest.approx(0.2027, abs=1e-4)
    assert row.pairs_needed is not None and 8 < row.pairs_needed < 30


def test_the_summary_holds_the_whole_comparison(tmp_path: Path) -> None:
    scored = score_groups([group(episode("a", 1.0)), group(episode("b", 0.0))])
    write_summary(tmp_path / "summary.json", {"comparison": comparison(scored, scored, confidence=0.95)})
    row = json.loads((tmp_path / "summary.json").read_text())["comparison"]["score"]
    assert row["difference"] == {"mean": 0.0, "low": -1.0, "high": 1.0, "num": 2}
    assert (row["p_value"], row["pairs_needed"]) == (1.0, None)


def test_several_episodes_of_a_task_say_what_the_best_of_k_reaches() -> None:
    wins = [True, False, False, False]
    metrics = score_groups([group(*(episode("a", float(win), success=win) for win in wins))]).metrics
    # Of the six pairs three hold the success.
    assert (metrics["episode/pass@2"], metrics["episode/best@2"], metrics["episode/pass@4"]) == (0.5, 0.5, 1.0)
    assert "episode/pass@8" not in metrics
    assert not [name for name in score_groups([group(episode("a", 1.0))]).metrics if "@" in name]


def test_the_same_role_in_two_seats_is_told_apart() -> None:
    scored = score_groups(
        [
            group(episode("a", 1.0), episode("a", 0.0), episode("a", 9.0, status="timeout")),
            group(episode("b", 1.0)),
            group(episode("c", 0.0, agent="P2")),
        ]
    )
    assert scored.seats == {"seer/P1": {"a": 0.5, "b": 1.0}, "seer/P2": {"c": 0.0}}
    rows = comparison(scored, scored, confidence=0.95)
    assert (rows["seat/seer/P1"].after.mean, rows["seat/seer/P1"].difference.num) == (0.75, 2)
    assert rows["seat/seer/P2"].difference.num == 1


def test_the_closing_tables_fit_a_terminal() -> None:
    before = score_groups([group(episode(str(i), float(i % 2), agent="Player10")) for i in range(200)])
    after = score_groups([group(episode(str(i), 1.0, agent="Player10")) for i in range(200)])
    rows = comparison(before, after, confidence=0.95)
    console = Console(width=80)
    with console.capture() as printed:
        console.print(results_table(rows, confidence=0.95), seats_table(rows, confidence=0.95))
    text = printed.get()
    # The p-value, the pairs, and those that it takes: ((1.96 + 0.84) / 1)^2 = 7.8, a few more for Student's t and for
    # the two pairs that are counted besides.
    assert text.count("+0.500 [+0.424, +0.566]  <0.001  200    14") == 3 and "seer/Player10" in text
    assert "reward/seer" in text and "seat/" not in text


def test_what_was_never_judged_has_no_pass_rate() -> None:
    metrics = score_groups([group(episode("a", 3.0), episode("a", 1.0))]).metrics
    assert metrics["episode/best@2"] == 3.0 and "episode/pass@2" not in metrics


def test_what_the_best_of_k_reaches_is_compared_by_task() -> None:
    def play(*wins: str) -> Evaluation:
        """Tasks of four episodes, `1` for a won one."""
        return score_groups(
            [
                group(*(episode(str(task), float(win), success=win == "1") for win in won))
                for task, won in enumerate(wins)
            ]
        )

    rows = comparison(play("0000", "1000"), play("1000", "1100"), confidence=0.95)
    assert list(rows) == ["score", "reward/seer", "pass@2", "best@2", "pass@4", "best@4", "seat/seer/P1"]
    # pass@2: 0 and 1/2 before; 1/2 and 1 - 1/6 after, for one pair of six has no success.
    assert [rows["pass@2"].before.mean, rows["pass@2"].difference.mean] == pytest.approx([0.25, 5 / 12])
    assert (rows["pass@4"].before.mean, rows["pass@4"].after.mean) == (0.5, 1.0)


def test_an_interval_without_ends_is_null_in_the_summary(tmp_path: Path) -> None:
    single = score_groups([group(episode("a", 3.0))])
    write_summary(tmp_path / "summary.json", {"comparison": comparison(single, single, confidence=0.95)})
    row = json.loads((tmp_path / "summary.json").read_text())["comparison"]["score"]
    assert row["difference"] == {"mean": 0.0, "low": None, "high": None, "num": 1}


def test_a_score_is_the_success_rate_or_else_the_reward() -> None:
    scored = score_groups([group(episode("a", 5.0, success=True), episode("a", 5.0, success=False))])
    assert scored.scores == {"a": 0.5} and scored.rewards == {"seer": {"a": 5.0}}
    assert score_groups([group(episode("a", 5.0))]).scores == {"a": 5.0}


def test_a_lost_episode_is_counted_and_never_a_zero() -> None:
    scored = score_groups(
        [group(episode("a", 1.0), episode("a", 0.0, status="timeout")), group(episode("b", 0, status="infra_error"))]
    )
    assert scored.scores == {"a": 1.0} and scored.num_lost_tasks == 1


def test_an_evaluation_survives_the_way_through_json() -> None:
    scored = score_groups([group(episode("a", 1.0, success=True))])
    assert evaluation_from_json(json.loads(json.dumps(scored.to_json()))) == scored
