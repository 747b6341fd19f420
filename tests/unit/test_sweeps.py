"""Sweeps: which jobs `sweep=` means, what each leaves on disk, and how one that was killed goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tests.sentences import names
from tests.sweep_entry import SIGNALS, act, command, load_saved, played, states

from ajet.config.cli.entry import run_entry
from ajet.config.compose import compose_tree, load_training
from ajet.config.sweeps.axis import expand_axis, subsets
from ajet.config.sweeps.records import JobRecord, SweepPlan, job_lock, read_jobs, write_job, write_plan
from ajet.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "choices"),
    [
        ("each", ["a", "b", "c"]),
        ("leave_one_out", ["ab", "ac", "bc", "abc"]),
        ("powerset", ["a", "b", "c", "ab", "ac", "bc", "abc"]),
    ],
)
def test_a_kind_of_sweep_expands_tags_into_choices(kind: str, choices: list[str]) -> None:
    assert ["".join(choice) for choice in subsets(kind, ["a", "b", "c"])] == choices


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["workflow=werewolves", "sweep=each", "trainable_targets=[seer,witch]", "seed=1,2"],
            ["workflow=werewolves", "sweep=each", "trainable_targets=[seer],[witch]", "seed=1,2"],
        ),
        (
            ["workflow=signals", "sweep=powerset"],  # one side only: its tags are all tags
            ["workflow=signals", "sweep=powerset", "trainable_targets=[speaker],[listener],[speaker,listener]"],
        ),
        (
            ["experiment=werewolves_quick", "sweep=leave_one_out"],
            ["experiment=werewolves_quick", "sweep=leave_one_out", "trainable_targets=[seer],[witch],[seer,witch]"],
        ),
        (["workflow=signals", "seed=1,2"], ["workflow=signals", "seed=1,2"]),
    ],
)
def test_the_axis_takes_the_place_of_trainable_targets(overrides: list[str], expected: list[str]) -> None:
    fixed = [override for override in overrides if override != "seed=1,2"]
    assert expand_axis(compose_tree(fixed), overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["workflow=werewolves"], r"trainable_targets=\[werewolf\].*\[villager,seer"),
        (["workflow=signals", "trainable_targets=[speaker],[listener]"], "give one list of tags"),
        (["workflow=custom", "workflow.entry=game.py->Game"], "needs the tags to choose among"),
    ],
)
def test_a_sweep_over_tags_that_nobody_named_is_refused(overrides: list[str], words: str) -> None:
    fixed = [override.replace("->", ":") for override in overrides if "],[" not in override]
    with pytest.raises(ConfigError, match=words):
        expand_axis(compose_tree([*fixed, "sweep=powerset"]), overrides)


def test_sweep_without_m_is_refused(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def never(config: object) -> None:
        raise AssertionError("the action ran")

    arguments = [*SIGNALS, f"model.path={checkpoint}", "sweep=each"]
    assert run_entry("train", load_training, never, arguments) == 2
    said = capsys.readouterr().err
    assert names(said, "error: sweep=each ... -m") and said.count("\n") == 1


def test_every_job_leaves_its_state_and_what_tells_it_from_the_others(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "fail_2").touch()
    (tmp_path / "crash_3").touch()
    done = act(tmp_path, *command(checkpoint, "seed=1,2,3,4", "algorithm.learning_rate=2e-3"))
    assert done.returncode == 1
    jobs = read_jobs(tmp_path / "sweep")
    assert [job.state for job in jobs] == ["finished", "failed", "failed", "finished"]
    assert [job.name for job in jobs] == ["seed=1", "seed=2", "seed=3", "seed=4"]
    assert [job.error for job in jobs] == [None, "no engine", "ZeroDivisionError: a bug", None]
    assert jobs[0].score == pytest.approx(-1.0)
    assert "ZeroDivisionError" in (tmp_path / "sweep" / "2" / "error.txt").read_text()
    assert done.stderr == "error: job 1 (seed=2): no engine\nerror: job 2 (seed=3): ZeroDivisionError: a bug\n"
    assert f"sweep {tmp_path}/sweep: 2 finished, 2 failed" in done.stdout
    assert json.loads((tmp_path / "sweep" / "0" / "job.json").read_text())["choices"] == {"seed": "1"}


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "fail_2").touch()
    (tmp_path / "kill_3").touch()
    assert act(tmp_path, *command(checkpoint, "seed=1,2,3,4")).returncode == -signal.SIGKILL
    assert states(tmp_path) == ["finished", "failed", "unfinished", "pending"]
    assert played(tmp_path) == ["1 fresh 1", "2 fresh 1", "3 fresh 1"]

    (tmp_path / "kill_3").unlink()
    (tmp_path / "checkpoint_3").touch()
    (tmp_path / "kill_4").touch()
    # Job 1 fails again and is left behind; job 2 had no checkpoint and starts anew, with a metrics.jsonl of its own.
    assert act(tmp_path, "resume=sweep").returncode == -signal.SIGKILL
    assert played(tmp_path)[3:] == ["2 fresh 1", "3 fresh 1", "4 fresh 1"]

    (tmp_path / "kill_4").unlink()
    (tmp_path / "fail_2").unlink()
    done = act(tmp_path, "-m", "resume=sweep")
    assert (done.returncode, done.stderr) == (0, "")
    assert played(tmp_path)[6:] == ["2 fresh 1", "4 fresh 1"]
    assert [job.attempts for job in read_jobs(tmp_path / "sweep")] == [1, 3, 2, 2]
    assert "job 0 (seed=1): finished before" in done.stdout


def test_a_job_with_a_checkpoint_is_resumed_and_keeps_its_settings(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "checkpoint_1").touch()
    (tmp_path / "kill_1").touch()
    act(tmp_path, *command(checkpoint, "seed=1,2"))
    (tmp_path / "kill_1").unlink()
    assert act(tmp_path, "resume=sweep").returncode == 0
    assert played(tmp_path) == ["1 fresh 1", "1 again 2", "2 fresh 1"]
    assert f"resume: {tmp_path / 'sweep' / '0'}" in (tmp_path / "sweep" / "0" / "config.yaml").read_text()


def test_ctrl_c_stops_the_sweep_and_says_how_to_go_on(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "interrupt_2").touch()
    done = act(tmp_path, *command(checkpoint, "seed=1,2,3"))
    assert done.returncode == 130 and done.stderr.count("\n") == 1
    assert names(done.stderr, f"error: interrupted ... python -m ajet.train resume={tmp_path}/sweep")
    assert states(tmp_path) == ["finished", "unfinished", "pending"]


def test_a_job_that_runs_elsewhere_is_left_alone(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "kill_1").touch()
    act(tmp_path, *command(checkpoint, "seed=1,2"))
    assert states(tmp_path) == ["unfinished", "pending"]
    with job_lock(tmp_path / "sweep" / "0"):
        assert states(tmp_path) == ["running", "pending"]
        done = act(tmp_path, "resume=sweep")
        assert names(done.stdout, "job 0 ... another process")
    assert states(tmp_path) == ["unfinished", "finished"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume=sweep", "seed=5"], "resume ... seed ... launcher"),
        (["-m", *SIGNALS, "hydra.sweep.dir=sweep", "seed=3,4"], "sweep ... resume=sweep"),
    ],
)
def test_a_sweep_is_neither_changed_nor_written_over(
    arguments: list[str], words: str, tmp_path: Path, checkpoint: Path
) -> None:
    act(tmp_path, *command(checkpoint, "seed=1,2"))
    model = [] if "resume=sweep" in arguments else [f"model.path={checkpoint}"]
    done = act(tmp_path, *arguments, *model)
    assert done.returncode == 2
    assert names(done.stderr, words) and len(done.stderr.splitlines()) == 1
    assert len(played(tmp_path)) == 2


def test_a_sweep_goes_on_from_where_it_was_started_only(tmp_path: Path, checkpoint: Path) -> None:
    act(tmp_path, *command(checkpoint, "seed=1,2"))
    done = act(checkpoint, f"resume={tmp_path / 'sweep'}")
    assert names(done.stderr, f"started in {tmp_path}")


def test_wandb_gets_one_group_a_sweep_and_names_that_say_what_differs(tmp_path: Path, checkpoint: Path) -> None:
    act(tmp_path, *command(checkpoint, "trainable_targets=[speaker],[listener]", "seed=1"))
    configs = [load_saved(tmp_path / "sweep" / number) for number in "01"]
    assert {config.group for config in configs} == {f"{tmp_path.name}-sweep"}
    assert [config.name for config in configs] == ["trainable_targets=[speaker]", "trainable_targets=[listener]"]


def test_a_group_and_names_of_the_users_own_stay(tmp_path: Path, checkpoint: Path) -> None:
    act(tmp_path, *command(checkpoint, "seed=1", "logger.wandb.group=mine", "logger.wandb.name=that"))
    assert (load_saved(tmp_path / "sweep" / "0").group, load_saved(tmp_path / "sweep" / "0").name) == ("mine", "that")


def test_a_reader_sees_planned_jobs_before_any_has_started(tmp_path: Path) -> None:
    plan = SweepPlan(
        config_name="train", directory=str(tmp_path), arguments=[], axes=["seed"], jobs=[["a=1", "seed=5"], ["seed=6"]]
    )
    write_plan(tmp_path, plan)
    assert [(job.name, job.state) for job in read_jobs(tmp_path)] == [("seed=5", "pending"), ("seed=6", "pending")]
    (tmp_path / "1").mkdir()
    record = JobRecord(number=1, overrides=["seed=6"], choices={"seed": "6"}, state="finished", attempts=1, score=0.5)
    write_job(tmp_path / "1", record)
    assert read_jobs(tmp_path)[1] == record


def test_the_ablation_of_the_main_job_lands_under_one_directory(tmp_path: Path, checkpoint: Path) -> None:
    axes = ["trainable_targets=[seer],[witch],[seer,witch]", "seed=1,2,3"]
    assert act(tmp_path, "-m", "workflow=werewolves", *axes, f"model.path={checkpoint}").returncode == 0
    (sweep,) = tmp_path.glob("outputs/multirun/*/*")
    jobs = read_jobs(sweep)
    assert [job.number for job in jobs] == list(range(9))
    assert jobs[5].name == "trainable_targets=[witch] seed=3"
    assert {load_saved(sweep / str(job.number)).group for job in jobs} == {f"{sweep.parent.name}-{sweep.name}"}


def test_a_job_that_cannot_be_written_down_is_one_sentence(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "sweep" / "0" / "job.json").mkdir(parents=True)
    done = act(tmp_path, *command(checkpoint, "seed=0,1"))
    hydras, line = done.stderr.splitlines()
    assert hydras.startswith("Error executing job with overrides: ")
    sweep = tmp_path / "sweep"
    assert done.returncode == 1 and line.startswith(f"error: {sweep}/0/job.json ")
    assert names(line, f"directory ... python -m ajet.train resume={sweep}")
