"""A matrix compares like with like: the same roles, the same opponent, the same seeds, and corrects for how often."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from rich.console import Console
from tests.episodes import Program, Run, by_agentscope

from ajet.config.compose import compose
from ajet.config.options import option
from ajet.config.root import Config, EvaluateConfig
from ajet.config.saved import save
from ajet.config.sweeps.records import JobRecord, write_job
from ajet.errors import ConfigError
from ajet.evaluate.__main__ import main
from ajet.evaluate.entries import Entry, evaluation_entries
from ajet.evaluate.matrix import MatrixEvaluation, Result, matrix_cells
from ajet.evaluate.scores import score_groups
from ajet.evaluate.tables import details_table, matrix_table
from ajet.records import Episode, EpisodeGroup, Task
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.console import Display
from ajet.tracking.store import TrajectoryStore


def group(task: str, *won: bool) -> EpisodeGroup:
    episodes = [
        Episode(
            task=Task(task_id=task),
            repeat=repeat,
            status="ok",
            rewards={"P1": float(success)},
            agent_tags={"P1": "seer"},
            calls=(),
            is_success=success,
        )
        for repeat, success in enumerate(won)
    ]
    return EpisodeGroup(task=Task(task_id=task), episodes=tuple(episodes))


def played(name: str, opponent: str, won: int, *, reference: str | None = None, twice: bool = False) -> Result:
    """Ten tasks of which the first `won` are won; if they are played twice, in the first episode only."""
    groups = [group(str(task), task < won, *([False] * twice)) for task in range(10)]
    config = Config(opponent=option("opponent", opponent)(), trainable_targets=["seer"])
    entry = Entry(name=name, run=name, config=config, reference=reference)
    return Result(entry=entry, checkpoint="step_1", evaluation=score_groups(groups), trajectories="")


def run_of(folder: Path, *overrides: str) -> str:
    folder.mkdir()
    asked = ["workflow=werewolves", "trainable_targets=[seer]", *overrides]
    save(compose(asked, run_dir=folder), folder / "config.yaml")
    return str(folder)


def test_a_cell_is_compared_with_its_reference_against_the_same_opponent() -> None:
    cells = matrix_cells(
        [
            played("base", "scripted", 2),
            played("a", "scripted", 8, reference="base"),
            played("base", "random", 5),
            played("a", "random", 6, reference="base"),
        ],
        confidence=0.95,
    )
    by_place = {(cell.name, cell.opponent): cell for cell in cells}
    assert not by_place["base", "random"].comparisons and by_place["base", "random"].means["score"].mean == 0.5
    for measure in ("score", "reward/seer", "seat/seer/P1"):
        rows = [cell.comparisons[measure] for cell in cells if cell.comparisons]
        assert [row.difference.mean for row in rows] == pytest.approx([0.6, 0.1])
        assert by_place["a", "scripted"].means[measure].mean == 0.8


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    cells = matrix_cells(
        [
            played("base", "scripted", 0),
            played("a", "scripted", 6, reference="base"),
            played("b", "scripted", 1, reference="base"),
        ],
        confidence=0.95,
    )
    raw = [cell.comparisons["score"].p_value for cell in cells if cell.comparisons]
    # Holm: the smaller is doubled, the larger stands.
    assert [cell.p_holm for cell in cells] == [None, pytest.approx(2 * raw[0]), pytest.approx(raw[1])]


def test_tasks_that_were_played_several_times_say_what_the_best_of_k_reaches() -> None:
    cells = matrix_cells(
        [played("base", "scripted", 5, twice=True), played("a", "scripted", 10, reference="base", twice=True)],
        confidence=0.95,
    )
    # Each task is won once in two episodes, or never.
    assert [cell.means["score"].mean for cell in cells] == [0.25, 0.5]
    assert [cell.means["pass@2"].mean for cell in cells] == [0.5, 1.0]
    assert cells[1].comparisons["best@2"].difference.mean == 0.5


def test_the_tables_say_what_each_difference_rests_on() -> None:
    cells = matrix_cells(
        [played("base", "scripted", 5), played("layers [a,b]", "scripted", 10, reference="base")], confidence=0.95
    )
    console = Console(width=80)
    with console.capture() as printed:
        console.print(matrix_table(cells, confidence=0.95), details_table(cells, confidence=0.95))
    text = printed.get()
    # Five of ten pairs gain 1; with one that gains and one that loses besides, 5 / 12 = .417 is the middle, and
    # .669 / sqrt 12 its error: t = 2.16 with 9 degrees of freedom. (An exact sign test of 5 to 0 gives p .062.)
    assert "+0.500 [-0.020, +0.853]" in text and "p 0.059" in text and "10 pairs, needs 15" in text
    assert text.count("layers [a,b]") == 2
    assert text.count("1.000 +0.500 [-0.020, +0.853], 10") == 2  # by tag and by seat


def test_runs_meet_every_opponent_and_the_base_that_plays_their_roles(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", "seed=3"), run_of(tmp_path / "b", "trainable_targets=[witch]", "seed=4")]
    request = EvaluateConfig(runs=[*runs, "base"], opponents=["scripted", "random"], console="none")
    entries = evaluation_entries(request)
    first = [(entry.name, entry.reference, entry.config.trainable_targets) for entry in entries[:4]]
    assert first == [
        ("base (seer)", None, ["seer"]),
        ("base (witch)", None, ["witch"]),
        ("a", "base (seer)", ["seer"]),
        ("b", "base (witch)", ["witch"]),
    ]
    assert [entry.config.opponent.name for entry in entries] == ["scripted"] * 4 + ["random"] * 4
    assert {entry.config.seed for entry in entries} == {3}


def test_one_run_is_compared_with_the_model_that_it_started_from(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", "seed=3")
    alone = evaluation_entries(EvaluateConfig(run=run, console="none"))
    listed = evaluation_entries(EvaluateConfig(runs=["base", run], console="none"))
    assert alone == listed and [(entry.name, entry.reference) for entry in alone] == [("base", None), ("a", "base")]


def test_runs_may_play_other_roles_than_they_trained(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", "trainable_targets=[witch]")]
    request = EvaluateConfig(runs=[*runs, "base"], trainable_targets=["hunter"], console="none")
    entries = evaluation_entries(request)
    assert [(entry.name, entry.reference) for entry in entries] == [("base", None), ("a", "base"), ("b", "base")]
    assert all(entry.config.trainable_targets == ["hunter"] for entry in entries)


def test_without_base_the_first_run_is_the_reference(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b")]
    entries = evaluation_entries(EvaluateConfig(runs=runs, console="none"))
    assert [(entry.name, entry.reference) for entry in entries] == [("a", None), ("b", "a")]


def test_runs_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    for day in ("mon", "tue"):
        (tmp_path / day).mkdir()
    runs = [run_of(tmp_path / "mon" / "a"), run_of(tmp_path / "tue" / "a"), run_of(tmp_path / "base")]
    assert [entry.name for entry in evaluation_entries(EvaluateConfig(runs=runs, console="none"))] == runs


def test_jobs_of_a_sweep_are_called_by_their_choices(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / str(number)) for number in range(3)]
    for number, rate in enumerate(("1e-4", "1e-3")):
        choices = {"seed": "1", "algorithm.learning_rate": rate, "trainable_targets": "[seer]"}
        write_job(tmp_path / str(number), JobRecord(number=number, overrides=[], choices=choices, state="finished"))
    names = [entry.name for entry in evaluation_entries(EvaluateConfig(runs=runs, console="none"))]
    assert names == ["learning_rate 1e-4, seer, seed 1", "learning_rate 1e-3, seer, seed 1", "2"]


def test_a_matrix_keeps_every_game_and_changes_no_run(tmp_path: Path) -> None:
    runs = []
    for day in ("mon", "tue"):
        (tmp_path / day).mkdir()
        runs.append(run_of(tmp_path / day / "0"))
        TrajectoryStore(Path(runs[-1]) / "trajectories").write([group(day, True)], {}, step=0, split="eval")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    play = Run(train_tokenizer(["hello"], vocab_size=280, max_context=256))
    entries = evaluation_entries(EvaluateConfig(runs=[*runs, "base"], opponents=["scripted", "random"], console="none"))
    out = tmp_path / "matrix"
    out.mkdir()
    cells = MatrixEvaluation(
        entries=entries,
        checkpoints=["step_1" if entry.reference else "start" for entry in entries],
        take_weights=lambda entry: None,
        open_scheduler=lambda entry, opened: play.scheduler(lambda: Program(program=by_agentscope)),
        tasks=[Task(task_id="a"), Task(task_id="b")],
        repeats=1,
        confidence=0.95,
        runtime=RolloutRuntime(),
        display=Display(),
        output_dir=out,
        close=lambda: None,
    ).run()
    assert {path: path.read_bytes() for path in before} == before
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - set(before)
    games = {out / cell.trajectories / "eval_000000.parquet" for cell in cells}
    assert len(games) == 6 and written == games | {out / "evaluation.json"}
    assert cells[0].trajectories == "trajectories/scripted/0-base"


@pytest.mark.parametrize(
    ("setting", "named"), [("rollout.temperature=0.5", "rollout.temperature"), ("+own.game.rounds=3", "own")]
)
def test_runs_that_were_played_otherwise_cannot_be_compared(tmp_path: Path, setting: str, named: str) -> None:
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", setting)]
    with pytest.raises(ConfigError, match=f"differ in {named}"):
        evaluation_entries(EvaluateConfig(runs=runs, console="none"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs=[base]"], "runs names no run"),
        (["runs=[nowhere]"], "runs=nowhere is not a run directory"),
        (["runs=[{run},{run}]"], "names one twice"),
        (["runs=[{run}]", "opponent=strong,random"], "opponent=strong: no such option; choose among frozen, openai"),
        (["runs=[{run}]", "opponent=workflow"], "the workflow has no models of its own"),
        (["runs=[{run}]", "opponent=openai,random"], "opponent=openai has settings of its own: name it alone"),
        (["runs=[{run}]", "opponent=openai"], "opponent=openai needs opponent.base_url"),
        (["runs=[{run}]", "run={run}"], "are both named"),
        (["runs=[{run}]", "num_seeds=1"], "num_tasks must be at least 2"),
    ],
)
def test_a_matrix_that_cannot_work_is_refused_in_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run")
    assert main([argument.format(run=run) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
