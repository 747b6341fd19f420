"""Metrics, their file and the trajectory store."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ajet.records import Call, Episode, EpisodeGroup, Task
from ajet.tracking.loggers import JsonlLogger
from ajet.tracking.metrics import episode_metrics, token_metrics
from ajet.tracking.store import TrajectoryStore


def call(
    agent: str, tag: str, *, index: int = 0, num_sampled: int = 2, trained: bool = True, error: str | None = None
) -> Call:
    return Call(
        index=index,
        agent_name=agent,
        target_tag=tag,
        trained=trained,
        messages=[{"role": "user", "content": "hé"}],
        reply="ok",
        prompt_ids=(5, 6, 7) if trained else (),
        sampled_ids=tuple(range(num_sampled)) if trained else (),
        logprobs=(-0.5,) * num_sampled if trained else (),
        format_error=error,
    )


def episode(
    repeat: int, rewards: dict[str, float], *calls: Call, status: str = "ok", success: bool | None = None
) -> Episode:
    tags = {"P1": "seer", "P2": "wolf", "P3": "wolf"}
    return Episode(
        task=Task(task_id="t"),
        repeat=repeat,
        status=status,  # type: ignore[arg-type]
        rewards=rewards,
        agent_tags={name: tags[name] for name in rewards},
        calls=calls,
        is_success=success,
        log_metrics={"days": 2.0 + repeat},
        metadata={"winner": "good"},
    )


GROUP = EpisodeGroup(
    task=Task(task_id="t"),
    episodes=(
        episode(0, {"P1": 1.0, "P2": 0.0, "P3": 1.0}, call("P1", "seer"), call("P2", "wolf", index=1), success=True),
        episode(1, {"P1": 0.0, "P2": 0.5, "P3": 0.5}, call("P1", "seer", error="bad"), success=False),
        episode(2, {}, status="timeout"),
    ),
)


def test_rewards_are_kept_per_tag_and_count_episodes() -> None:
    metrics = episode_metrics([GROUP])
    assert metrics["reward/seer/mean"] == 0.5 and metrics["reward/wolf/mean"] == 0.5
    assert metrics["reward/seer/std"] == pytest.approx(0.70710678)
    assert metrics["reward/wolf/std"] == 0.0


def test_every_status_has_a_count_and_a_timeout_is_no_reward() -> None:
    metrics = episode_metrics([GROUP])
    assert (metrics["episode/ok"], metrics["episode/timeout"], metrics["episode/infra_error"]) == (2.0, 1.0, 0.0)
    assert metrics["episode/success_rate"] == 0.5
    assert metrics["workflow/days"] == 2.5


def test_format_errors_are_a_share_of_the_tags_own_calls() -> None:
    metrics = episode_metrics([GROUP])
    assert metrics["format/seer/error_rate"] == 0.5 and metrics["format/wolf/error_rate"] == 0.0


def test_calls_whose_arguments_could_not_be_checked_are_a_share_too() -> None:
    calls = [replace(call("P1", "seer", index=i), unchecked=i == 0) for i in range(4)]
    metrics = episode_metrics([EpisodeGroup(task=Task(task_id="t"), episodes=(episode(0, {"P1": 1.0}, *calls),))])
    assert metrics["format/seer/unchecked_rate"] == 0.25 and metrics["format/seer/error_rate"] == 0.0


def test_tokens_count_the_policys_calls_alone() -> None:
    other = EpisodeGroup(task=Task(task_id="t"), episodes=(episode(0, {}, call("P9", "x", trained=False)),))
    entropies = {"policy/seer/sampled_entropy": 0.5, "policy/wolf/sampled_entropy": 0.5}
    assert token_metrics([GROUP, other]) == {"tokens/sampled": 6.0, "tokens/prompt": 9.0, **entropies}


def test_the_entropy_of_what_was_sampled_is_over_all_tokens_also_of_groups_that_teach_nothing() -> None:
    """-(2 ln(1/2) + 6 ln(1/8)) / 8 = ln(2) (2 + 18) / 8."""
    calls = [
        replace(call("P1", "seer", num_sampled=count), logprobs=(-math.log(base),) * count)
        for count, base in ((2, 2), (6, 8))
    ]
    silent = EpisodeGroup(
        task=Task(task_id="t"), episodes=tuple(episode(i, {"P1": 1.0}, made) for i, made in enumerate(calls))
    )
    assert token_metrics([silent])["policy/seer/sampled_entropy"] == pytest.approx(math.log(2) * 20 / 8)


def test_metrics_lines_have_step_first_and_a_resumed_run_drops_the_steps_that_it_repeats(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonlLogger(path)
    for step in range(3):
        first.log(step, {"reward/seer/mean": float("nan") if step == 0 else 0.5})
    first.close()
    path.write_text(path.read_text() + '{"step": 3, "rew')  # the write that a crash cut off
    again = JsonlLogger(path, keep_below_step=2)
    again.log(2, {"reward/seer/mean": 1.0})
    again.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert [line["reward/seer/mean"] for line in lines] == [None, 0.5, 1.0]
    assert all(next(iter(line)) == "step" for line in lines)


def test_a_trajectory_file_holds_a_row_a_call_with_its_tokens_and_credit(tmp_path: Path) -> None:
    path = TrajectoryStore(tmp_path / "trajectories").write([GROUP], {("t", 0, 0): 0.7}, step=4, split="train")
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 4 and path.name == "train_000004.parquet"
    assert rows[0]["advantage"] == pytest.approx(0.7) and rows[0]["reward"] == 1.0
    assert rows[0]["prompt_ids"] == [5, 6, 7] and rows[0]["sampled_ids"] == [0, 1]
    assert json.loads(rows[0]["messages"])[0]["content"] == "hé"
    assert rows[2]["format_error"] == "bad" and rows[2]["success"] is False
    # An episode that ended before its first call is not lost.
    assert rows[3]["status"] == "timeout" and rows[3]["call_index"] == -1 and rows[3]["reward"] is None


def test_half_a_surrogate_pair_ends_no_write_wherever_it_stands(tmp_path: Path) -> None:
    half = "\ud83d"
    spoken = Call(
        index=0,
        agent_name="P1",
        target_tag="seer",
        trained=True,
        messages=[{"role": "user", "content": half}],
        reply=half,
        format_error=half,
    )
    broken = Episode(
        task=Task(task_id=half),
        repeat=0,
        status="ok",
        rewards={"P1": 1.0},
        agent_tags={"P1": "seer"},
        calls=(spoken,),
        metadata={"answer": half},
        error=half,
    )
    groups = [EpisodeGroup(task=broken.task, episodes=(broken,))]
    (row,) = pq.read_table(TrajectoryStore(tmp_path).write(groups, {}, step=0, split="train")).to_pylist()
    assert row["reply"] == row["format_error"] == row["error"] == row["task"] == "\\ud83d"
    assert json.loads(row["messages"])[0]["content"] == json.loads(row["metadata"])["answer"] == half
