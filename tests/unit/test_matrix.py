"""A matrix compares like with like: the same roles, the same opponent, the same seeds, and corrects for how often."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ajet.config.compose import compose, save
from ajet.config.root import MatrixConfig
from ajet.errors import ConfigError
from ajet.evaluate import main
from ajet.evaluation.matrix import Contender, Played, Setting, matrix_cells, matrix_table, seat_rewards
from ajet.evaluation.scores import score_groups
from ajet.evaluation.setting import matrix_entries
from ajet.records import Episode, EpisodeGroup, Task


def group(task: str, *won: bool, agent: str = "P1") -> EpisodeGroup:
    episodes = [
        Episode(
            task=Task(task_id=task),
            repeat=repeat,
            status="ok",
            rewards={agent: float(success)},
            agent_tags={agent: "seer"},
            calls=(),
            is_success=success,
        )
        for repeat, success in enumerate(won)
    ]
    return EpisodeGroup(task=Task(task_id=task), episodes=tuple(episodes))


def played(name: str, opponent: str, won: int, *, reference: str | None = None, twice: bool = False) -> Played:
    """Ten tasks of which the first `won` are won; if they are played twice, in the first episode only."""

    def never(opened: ExitStack) -> Any:
        raise AssertionError

    groups = [group(str(task), task < won, *([False] * twice)) for task in range(10)]
    contender = Contender(name=name, take_weights=lambda: None, reference=reference)
    setting = Setting(opponent=opponent, targets=["seer"], contenders=[contender], open_scheduler=never)
    return Played(contender=contender, setting=setting, evaluation=score_groups(groups), groups=groups)


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
    assert by_place["base", "random"].comparison is None and by_place["base", "random"].score.mean == 0.5
    gains = [cell.comparison.difference.mean for cell in cells if cell.comparison is not None]
    assert gains == pytest.approx([0.6, 0.1])
    assert by_place["a", "scripted"].rewards["seer"].mean == 0.8


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    cells = matrix_cells(
        [
            played("base", "scripted", 0),
            played("a", "scripted", 6, reference="base"),
            played("b", "scripted", 1, reference="base"),
        ],
        confidence=0.95,
    )
    raw = [cell.comparison.p_value for cell in cells if cell.comparison is not None]
    # Holm: the smaller is doubled, the larger stands.
    assert [cell.p_holm for cell in cells] == [None, pytest.approx(2 * raw[0]), pytest.approx(raw[1])]


def test_tasks_that_were_played_several_times_say_what_the_best_of_k_reaches() -> None:
    cell = matrix_cells([played("base", "scripted", 10, twice=True)], confidence=0.95)[0]
    # Each task is won once in two episodes.
    assert cell.score.mean == 0.5 and cell.attempts["pass@2"].mean == 1.0
    assert "pass@2 1.000" in str(next(iter(matrix_table([cell], confidence=0.95).columns[1].cells)))


def test_the_same_role_in_two_seats_is_told_apart() -> None:
    groups = [group("a", True, False), group("b", True), group("c", False, agent="P2")]
    seats = seat_rewards(groups, confidence=0.95)
    assert {seat: (found.mean, found.num) for seat, found in seats.items()} == {
        "seer/P1": (0.75, 2),
        "seer/P2": (0.0, 1),
    }


def test_runs_meet_every_opponent_and_the_base_that_plays_their_roles(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", "seed=3"), run_of(tmp_path / "b", "trainable_targets=[witch]", "seed=4")]
    request = MatrixConfig(runs=[*runs, "base"], opponents=["scripted", "random"], console="none")
    entries = matrix_entries(request)
    first = [(entry.name, entry.reference, entry.config.trainable_targets) for entry in entries[:4]]
    assert first == [
        ("base (seer)", None, ["seer"]),
        ("base (witch)", None, ["witch"]),
        ("a", "base (seer)", ["seer"]),
        ("b", "base (witch)", ["witch"]),
    ]
    assert [entry.config.opponent.name for entry in entries] == ["scripted"] * 4 + ["random"] * 4
    assert {entry.config.seed for entry in entries} == {3}


def test_without_base_the_first_run_is_the_reference(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b")]
    entries = matrix_entries(MatrixConfig(runs=runs, console="none"))
    assert [(entry.name, entry.reference) for entry in entries] == [("a", None), ("b", "a")]


def test_runs_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    for day in ("mon", "tue"):
        (tmp_path / day).mkdir()
    runs = [run_of(tmp_path / "mon" / "a"), run_of(tmp_path / "tue" / "a")]
    assert [entry.name for entry in matrix_entries(MatrixConfig(runs=runs, console="none"))] == runs


def test_runs_that_were_played_otherwise_cannot_be_compared(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", "rollout.temperature=0.5")]
    with pytest.raises(ConfigError, match=r"differ in rollout\.temperature"):
        matrix_entries(MatrixConfig(runs=runs, console="none"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs=[base]"], "runs names no run"),
        (["runs=[nowhere]"], "runs=nowhere is not a run directory"),
        (["runs=[{run},{run}]"], "names one twice"),
        (["runs=[{run}]", "opponent=strong,random"], "opponent=strong: no such option; choose among frozen, openai"),
        (["runs=[{run}]", "opponent=workflow"], "the workflow has no models of its own"),
        (["runs=[{run}]", "opponent=openai"], "a run at a time"),
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
