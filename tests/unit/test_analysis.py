"""Runs are read from their directories alone: finished, going, crashed, resumed; and without torch."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from tests.run_dirs import make_group, make_run

from ajet.analysis import Run, Sweep, load_run, load_sweep, read_evaluation
from ajet.analysis.effects import effects_frame, run_effect, sweep_contrasts, sweep_effects
from ajet.errors import RunDirectoryError
from ajet.evaluate.scores import Evaluation, score_groups
from ajet.evaluate.summary import comparison, write_summary
from ajet.records import EpisodeGroup, Task
from ajet.tracking.store import TrajectoryStore


def names(files: Sequence[Path]) -> list[str]:
    return [path.stem for path in files]


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run"))
    assert (run.state, run.num_steps, run.tags) == ("finished", 2, ["seer"])
    assert run.config["trainable_targets"] == ["seer"] and run.config["rollout.group_size"] == 8
    assert run.metrics["step"].tolist() == [0, 1, 2] and run.metrics["reward/seer/mean"].dropna().tolist() == [0.5, 0.6]


def test_calls_count_their_tokens_and_turns(tmp_path: Path) -> None:
    calls = load_run(make_run(tmp_path / "run")).calls
    first = calls[(calls["task"] == "train-0") & (calls["repeat"] == 0)]
    assert first["agent"].tolist() == ["P1", "P2", "P1"] and first["turn"].tolist() == [0, 0, 1]
    assert first["num_prompt"].tolist() == [3, 0, 3] and first["num_sampled"].tolist() == [2, 0, 2]
    assert first["logprob"].iloc[[0, 2]].tolist() == [-1.5, -1.5] and pd.isna(first["logprob"].iloc[1])
    assert first["advantage"].iloc[0] == 0.5 and pd.isna(first["advantage"].iloc[1])


def test_episodes_count_once_and_a_lost_one_has_no_score(tmp_path: Path) -> None:
    episodes = load_run(make_run(tmp_path / "run")).episodes
    train, held_out = (episodes[episodes["split"] == split] for split in ("train", "eval"))
    assert train["score"].tolist() == [1.0, 0.0] * 2 and train["reward/seer"].tolist() == [1.0, 0.0] * 2
    assert (train[["num_calls", "num_trained_calls", "num_prompt", "num_sampled"]] == [3, 2, 6, 4]).all(axis=None)
    lost = held_out.iloc[1]
    assert (lost["status"], lost["error"], lost["num_calls"]) == ("timeout", "too slow", 0) and pd.isna(lost["score"])


def test_a_score_is_the_same_in_evaluations_and_frames_for_agents_that_never_spoke_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", num_steps=1, finished=False)
    (won, lost) = make_group("eval-0", True, False).episodes
    tags = {"P1": "seer", "P3": "seer", "P4": "hunter \ud800"}
    unspoken = [
        replace(won, is_success=None, rewards={"P1": 1.0, "P3": 0.2, "P4": 0.1}, agent_tags=tags),
        replace(lost, is_success=None, calls=(), rewards={"P1": 0.0, "P3": 0.7, "P4": 0.0}, agent_tags=tags),
        replace(won, repeat=2, is_success=None, rewards={}, agent_tags={}),
        replace(won, repeat=3, is_success=False, rewards={"P1": 1.0}),
    ]
    groups = [
        EpisodeGroup(task=Task(task_id=task), episodes=(replace(episode, task=Task(task_id=task)),))
        for task, episode in zip("abcd", unspoken, strict=True)
    ]
    evaluation = score_groups(groups)
    assert evaluation.scores == pytest.approx({"a": 0.35, "b": 0.175, "d": 0.0}) and evaluation.num_lost_tasks == 1
    TrajectoryStore(folder / "trajectories").write(groups, {}, step=0, split="eval")
    episodes = load_run(folder).episodes
    by_task = episodes[episodes["split"] == "eval"].set_index("task")
    assert by_task["score"].dropna().to_dict() == evaluation.scores
    for tag, name in (("seer", "seer"), ("hunter \ud800", "hunter \\ud800")):
        assert by_task[f"reward/{name}"].dropna().to_dict() == evaluation.rewards[tag]


def test_files_of_earlier_versions_have_the_scores_that_their_calls_tell(tmp_path: Path) -> None:
    now, earlier = (load_run(make_run(tmp_path / name)) for name in ("now", "earlier"))
    for path in earlier.trajectory_files()[:2]:  # a run that was resumed by today's version has both
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["tag_rewards", "score"]), path)
    assert_frame_equal(now.episodes, earlier.episodes)


def test_a_run_that_still_goes_is_read_as_far_as_it_came(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", num_steps=1, finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "rew')
    TrajectoryStore(folder / "trajectories").write([make_group("train-1", True)], {}, step=1, split="train")
    run = load_run(folder)
    assert (run.state, run.num_steps, len(run.metrics)) == ("unfinished", 1, 1)
    assert names(run.trajectory_files()) == ["train_000000", "train_000001"] and len(run.episodes) == 3


def test_a_run_that_crashed_at_once_has_empty_frames(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("seed: 3\ntotal_steps: 5\n")
    run = load_run(folder)
    assert (run.state, run.num_steps, run.tags, run.config["seed"]) == ("unfinished", 0, [], 3)
    assert (len(run.metrics), len(run.calls), len(run.episodes)) == (0, 0, 0)


def test_files_of_steps_that_a_resumed_run_has_not_reached_again_are_left_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", num_steps=2)
    store = TrajectoryStore(folder / "trajectories")
    for step in (2, 3):
        store.write([make_group(f"train-{step}", True)], {}, step=step, split="train")
    assert names(load_run(folder).trajectory_files()) == ["eval_000002", "train_000000", "train_000001"]


def test_the_texts_of_an_episode_are_read_in_order(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run"))
    texts = run.texts(split="train", step=1, task="train-1", repeat=1)
    assert texts["reply"].tolist() == ["said 0", "said 1", "said 2"]
    assert texts["messages"].iloc[2] == [{"role": "user", "content": "say 2"}]
    with pytest.raises(RunDirectoryError, match="no episodes of eval_7; it has eval_2, train_0, train_1"):
        run.texts(split="eval", step=7, task="eval-0", repeat=0)


def test_a_sweep_tells_its_runs_apart_by_what_differs(tmp_path: Path) -> None:
    for job, (tag, seed) in enumerate([("seer", 1), ("seer", 2), ("witch", 1)]):
        make_run(tmp_path / str(job), f"trainable_targets=[{tag}]", seed=seed)
    sweep = load_sweep(tmp_path)
    assert sweep.choices.to_dict("index")["2"] == {"seed": "1", "trainable_targets": "witch"}
    found = {label: [run.name for run in runs] for label, runs in sweep.conditions().items()}
    assert found == {"seer": ["0", "1"], "witch": ["2"]}
    assert sweep.metrics.groupby("condition")["step"].count().to_dict() == {"seer": 6, "witch": 3}
    assert len(sweep.episodes) == 18 and sweep.calls["run"].unique().tolist() == ["0", "1", "2"]


def test_conditions_name_the_settings_that_differ_however_many(tmp_path: Path) -> None:
    for job, rate in enumerate(("0.001", "0.01")):
        make_run(tmp_path / "rates" / str(job), f"algorithm.learning_rate={rate}")
    assert list(load_sweep(tmp_path / "rates").conditions()) == ["learning_rate=0.001", "learning_rate=0.01"]
    many = ["total_steps=3", "eval.num_tasks=7", "rollout.group_size=4", "algorithm=dapo", "opponent=random"]
    make_run(tmp_path / "rates" / "2", *many)
    labels = list(load_sweep(tmp_path / "rates").conditions())
    assert len(set(labels)) == 3 and "learning_rate=0.01," in labels[1] and "total_steps=3" in labels[2]


def test_where_a_server_is_makes_no_condition_and_an_option_is_named_by_its_group(tmp_path: Path) -> None:
    for seed, port in enumerate((8001, 8002)):
        make_run(tmp_path / f"server_{seed}", "hardware=tinker", f"tinker.base_url=http://here:{port}", seed=seed)
        adapters = ["model.lora.rank=32", "model.lora.alpha=64", "model.lora.targets=[q_proj]"]
        make_run(tmp_path / f"process_{seed}", *adapters, "engine=transformers", f"endpoint.port={port}", seed=seed)
    sweep = load_sweep(tmp_path)
    found = {label: [run.name for run in runs] for label, runs in sweep.conditions().items()}
    assert list(found.values()) == [["process_0", "process_1"], ["server_0", "server_1"]]
    process, server = found
    assert "engine=transformers" in process and "engine=tinker" in server
    assert not any(name in label for name in ("url", "key", "name=", "port") for label in found)


def test_a_setting_that_an_older_run_does_not_know_tells_nothing(tmp_path: Path) -> None:
    old, new = (make_run(tmp_path / name) for name in ("old", "new"))
    config = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(config.replace("  weight_decay: 0.0\n", ""))
    (new / "config.yaml").write_text(config.replace("  weight_decay: 0.0\n", "  weight_decay: 0.5\n"))
    assert (old / "config.yaml").read_text() != config
    assert list(load_sweep(tmp_path).conditions()) == ["seer"]


def test_the_tenth_job_comes_after_the_ninth(tmp_path: Path) -> None:
    for job in (10, 9, 2):
        make_run(tmp_path / str(job), seed=job)
    assert [run.name for run in load_sweep(tmp_path)] == ["2", "9", "10"]


def test_an_effect_comes_from_the_summary_or_from_what_was_played_so_far(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", num_steps=1, finished=False)
    assert run_effect(load_run(folder)) is None
    store = TrajectoryStore(folder / "trajectories")
    for step, won in ((0, [False, True]), (1, [True, True])):
        store.write([make_group("eval-0", *won), make_group("eval-1", *won)], {}, step=step, split="eval")
    effect = run_effect(load_run(folder))
    assert effect is not None and (effect.before.mean, effect.after.mean, effect.difference.num) == (0.5, 1.0, 2)
    (folder / "summary.json").write_text(
        json.dumps({"num_steps": 2, "before": {"scores": {"a": 0, "b": 0}}, "after": {"scores": {"a": 1, "b": 0}}})
    )
    effect = run_effect(load_run(folder))
    assert effect is not None and (effect.before.mean, effect.after.mean, effect.helps) == (0.0, 0.5, None)


def test_the_effects_of_a_sweep_are_those_of_its_conditions_over_their_seeds(tmp_path: Path) -> None:
    gains = {("seer", 1): 1, ("seer", 2): 1, ("seer", 3): 1, ("witch", 1): 0, ("witch", 2): 0, ("hunter", 1): 1}
    for job, ((tag, seed), gain) in enumerate(gains.items()):
        folder = make_run(tmp_path / str(job), f"trainable_targets=[{tag}]", seed=seed)
        before = {str(task): 0 for task in range(8)}
        after = {str(task): gain for task in range(8)}
        summary = {"num_steps": 2, "before": {"scores": before}, "after": {"scores": after}}
        (folder / "summary.json").write_text(json.dumps(summary))
    make_run(tmp_path / "6", "trainable_targets=[villager]", num_steps=1, finished=False)
    effects = {effect.label: effect for effect in sweep_effects(load_sweep(tmp_path))}
    assert {label: effect.num_runs for label, effect in effects.items()} == {"seer": 3, "witch": 2, "hunter": 1}
    assert effects["seer"].difference.mean == 1.0 and effects["seer"].helps and effects["witch"].helps is None
    # Eight pairs that all agree, as convincing as all signs agreeing (2 / 2^8), times three conditions by Holm.
    assert effects["seer"].p_value == pytest.approx(3 * EIGHT_AGREE, rel=1e-4)


def test_a_tag_that_an_evaluation_does_not_know_has_no_effect(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    scores = {"scores": {"a": 0.0}, "rewards": {}}
    (folder / "summary.json").write_text(json.dumps({"num_steps": 2, "before": scores, "after": scores}))
    assert run_effect(load_run(folder), tag="seer") is None and run_effect(load_run(folder)) is not None


def test_evaluations_without_a_task_in_common_have_no_effect(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    before, after = {"scores": {"a": 0.0}}, {"scores": {"b": 1.0}}
    (folder / "summary.json").write_text(json.dumps({"num_steps": 2, "before": before, "after": after}))
    assert run_effect(load_run(folder)) is None and sweep_effects(load_sweep(tmp_path)) == []


EIGHT_AGREE = 0.00518991
"""The p-value of eight pairs that all gain: Student's t of 4 = .8 / .2 with 7 degrees of freedom."""


def scored(tag: str, seed: int, before: Sequence[float], after: Sequence[float]) -> Run:
    """A finished run that trained one role, known by its scores alone."""
    first, last = ({"scores": {str(task): score for task, score in enumerate(side)}} for side in (before, after))
    config = {"seed": seed, "trainable_targets": [tag]}
    return Run(path=Path(f"{tag}-{seed}"), config=config, summary={"before": first, "after": last}, provenance=[])


def test_before_and_after_are_uncertain_by_their_seeds_too() -> None:
    runs = [scored("seer", 1, [0.0, 0.0], [0.0, 0.2]), scored("seer", 2, [0.0, 0.0], [0.8, 1.0])]
    (effect,) = sweep_effects(Sweep(path=Path(), runs=runs))
    # Seeds' means .1 and .9: mean squares .64 between them and .04 between tasks, of 4 cells; t of 1 degree: 12.706.
    assert effect.after.mean == 0.5 and effect.after.high == pytest.approx(
        0.5 + 12.7062 * math.sqrt(0.68 / 4), abs=1e-3
    )


def test_conditions_are_contrasted_by_their_gains_over_the_seeds_that_they_share() -> None:
    lost, half = [0.0] * 8, [0.0] * 4 + [1.0] * 4
    runs = [
        *(scored("seer", seed, lost, [0.0] * (8 - won) + [1.0] * won) for seed, won in ((1, 8), (2, 6))),
        # A better table from the start: after training it won as often as the seer did, for it gained less.
        *(scored("witch", seed, half, [0.0] * (8 - won) + [1.0] * won) for seed, won in ((1, 8), (2, 6))),
        scored("hunter", 3, lost, lost),
    ]
    (contrast,) = sweep_contrasts(Sweep(path=Path(), runs=runs))
    assert (contrast.label, contrast.num_runs) == ("witch over seer", 2)
    assert (contrast.before.mean, contrast.after.mean, contrast.difference.mean) == (0.875, 0.375, -0.5)


def test_an_effect_is_told_only_where_interval_and_p_value_agree() -> None:
    (two,) = sweep_effects(Sweep(path=Path(), runs=[scored("seer", 1, [0.0] * 2, [1.0] * 2)]))
    assert two.p_value == pytest.approx(0.5) and two.helps is None
    (eight,) = sweep_effects(Sweep(path=Path(), runs=[scored("seer", 1, [1.0] * 8, [0.0] * 8)]))
    assert eight.p_value == pytest.approx(EIGHT_AGREE, rel=1e-4) and eight.helps is False


@pytest.fixture
def frozen_heap() -> Iterator[None]:
    """statsmodels collects garbage at each correction, which is slow where a test before has loaded torch."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_heap")
def test_chance_alone_is_told_as_an_effect_in_few_sweeps() -> None:
    rng = np.random.default_rng(8)
    num_sweeps, told = 150, 0
    for _ in range(num_sweeps):
        runs = [scored(tag, 1, rng.normal(size=30).tolist(), rng.normal(size=30).tolist()) for tag in "abcdef"]
        told += any(effect.helps is not None for effect in sweep_effects(Sweep(path=Path(), runs=runs)))
    # One sentence in twenty for each of six rows would be a quarter of the sweeps.
    assert told / num_sweeps < 0.05 + 3 * math.sqrt(0.05 * 0.95 / num_sweeps)


def test_effects_make_a_frame() -> None:
    runs = [scored("seer", job, [0.0] * 8, [score] * 8) for job, score in enumerate((1.0, 0.0))]
    frame = effects_frame([effect for run in runs if (effect := run_effect(run)) is not None])
    assert frame.index.tolist() == ["seer-0", "seer-1"] and frame["difference"].tolist() == [1.0, 0.0]
    assert frame["tasks_needed"].iloc[0] == 6 and frame["tasks_needed"].isna().iloc[1]
    assert frame["tasks"].tolist() == [8, 8] and frame["p_value"].tolist() == pytest.approx(
        [EIGHT_AGREE, 1.0], rel=1e-4
    )
    assert effects_frame([]).empty


def test_what_is_no_run_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        load_run(tmp_path)
    with pytest.raises(RunDirectoryError, match="holds no run directory"):
        load_sweep(tmp_path / "nowhere")


def test_reading_a_run_loads_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    read = f"from ajet.analysis import load_run; load_run({str(run)!r}).episodes"
    code = f"import sys; {read}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_a_runs_summary_and_an_evaluations_cells_are_read_alike(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    tasks = {"a": 0.0, "b": 1.0, "c": 0.0}
    before = Evaluation(scores=tasks, rewards={}, num_lost_tasks=0, metrics={})
    rows = comparison(before, replace(before, scores={**tasks, "a": 1.0}), confidence=0.95)
    write_summary(folder / "summary.json", {"num_steps": 1, "comparison": rows})
    cells = [{"name": "seer", "opponent": "scripted", "comparisons": rows}]
    write_summary(tmp_path / "evaluation.json", {"cells": cells})
    run, evaluation = load_run(folder), read_evaluation(tmp_path)
    assert run.comparison.loc[0, ["measure", "before", "num_tasks"]].to_list() == ["score", 1 / 3, 3]
    assert_frame_equal(run.comparison, evaluation.comparison.drop(columns=["policy", "opponent"]))
    assert "held-out score 0.333 → 0.667 (+0.333 [" in repr(run)
    (folder / "summary.json").write_text('{"comparison": {"score": 3}}')
    with pytest.raises(RunDirectoryError, match=r"summary\.json"):
        repr(load_run(folder))
