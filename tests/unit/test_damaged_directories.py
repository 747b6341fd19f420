"""Run directories that are damaged, or that only look like one: a sentence in `load_run`, `report` and `view`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.run_dirs import make_run

from ajet.analysis import load_run, load_sweep
from ajet.errors import RunDirectoryError
from ajet.report.__main__ import main as report_main
from ajet.view.__main__ import main as view_main
from ajet.view.catalog import Catalog

TRAIN_0 = "trajectories/train_000000.parquet"


def read_all(run_dir: Path) -> None:
    """Everything that a reader of runs reads."""
    run = load_run(run_dir)
    assert run.state in ("finished", "unfinished") and run.num_steps >= 0 and run.tags is not None
    assert len(run.metrics) >= 0 and len(run.episodes) <= len(run.calls)
    for path in run.trajectory_files():
        split, _, step = path.stem.rpartition("_")
        for key in run.episodes[run.episodes["split"] == split].itertuples():
            run.texts(split=split, step=int(step), task=key.task, repeat=key.repeat)


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(path: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(edit(pq.read_table(path, partitioning=None)), path)


def column(name: str, values: Callable[[pa.Table], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, values(table))


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an empty config": ("config.yaml is damaged", lambda run: (run / "config.yaml").write_text("")),
    "a config of bytes": ("config.yaml is damaged", lambda run: (run / "config.yaml").write_bytes(b"\xff\x00\x80")),
    "steps that are a text": (
        "total_steps is 'many'",
        lambda run: (run / "config.yaml").write_text("total_steps: many"),
    ),
    "a confidence above 1": (
        "eval.confidence is 2.0",
        lambda run: (run / "config.yaml").write_text("eval: {confidence: 2.0}"),
    ),
    "an empty summary": ("summary.json is damaged", lambda run: (run / "summary.json").write_text("")),
    "scores that are texts": (
        "before has no scores by task",
        lambda run: change(run / "summary.json", before={"scores": {"t": "x"}}, after={}),
    ),
    "seconds that are a list": (
        "wall_time_s is not seconds by phase",
        lambda run: change(run / "summary.json", wall_time_s=[1]),
    ),
    "provenance of texts": ("provenance.json is damaged", lambda run: (run / "provenance.json").write_text('["x"]')),
    "a log of bytes": (
        "metrics.jsonl is damaged: line 1",
        lambda run: (run / "metrics.jsonl").write_bytes(b"\x00\xff\n"),
    ),
    "a parquet file that is cut": (
        "train_000000.parquet is damaged",
        lambda run: (run / TRAIN_0).write_bytes((run / TRAIN_0).read_bytes()[:-20]),
    ),
    "an empty parquet file": ("train_000000.parquet is damaged", lambda run: (run / TRAIN_0).write_bytes(b"")),
    "a column that is missing": (
        "it has no column agent of string",
        lambda run: rewrite(run / TRAIN_0, lambda table: table.drop_columns(["agent"])),
    ),
    "a column of another kind": (
        "it has no column reward of float",
        lambda run: rewrite(run / TRAIN_0, column("reward", lambda table: pa.array(["x"] * len(table)))),
    ),
    "rows without a task": (
        "a row has no task",
        lambda run: rewrite(run / TRAIN_0, column("task", lambda table: pa.nulls(len(table), pa.string()))),
    ),
    "rewards that are texts": (
        "the rewards of an episode are not a number a tag",
        lambda run: rewrite(run / TRAIN_0, column("tag_rewards", lambda table: pa.array(['{"a": "b"}'] * len(table)))),
    ),
    "rewards that no float holds": (
        "the rewards of an episode are not a number a tag",
        lambda run: rewrite(
            run / TRAIN_0, column("tag_rewards", lambda table: pa.array([f'{{"a": 1{"0" * 400}}}'] * len(table)))
        ),
    ),
    "another step's rows": (
        "its rows are of another step",
        lambda run: shutil.copy(run / "trajectories" / "train_000001.parquet", run / TRAIN_0),
    ),
    "messages that are none": (
        "train_000000.parquet is damaged",
        lambda run: rewrite(run / TRAIN_0, column("messages", lambda table: pa.array(["[3]"] * len(table)))),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_sentence_that_names_the_file(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words, harm = DAMAGE[name]
    run = make_run(tmp_path / "run")
    read_all(run)
    harm(run)
    with pytest.raises(RunDirectoryError) as refused:
        read_all(run)
    assert words in str(refused.value)
    if name != "messages that are none":  # which a report of this run does not show
        assert report_main([str(run)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and words in line


def test_a_metric_whose_name_no_table_takes_is_read_with_escapes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    log = run / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({**line, "workflow/\ud800\n": 1.0}) + "\n" for line in lines))
    assert load_run(run).metrics["workflow/\\ud800\\n"].notna().all()
    assert report_main([str(run)]) == 0


def test_view_says_it_too_and_a_file_without_rows_or_of_another_user_is_no_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "seed=3" / "step=9")  # names that look like columns
    rewrite(run / TRAIN_0, lambda table: table.slice(0, 0))
    (run / "trajectories" / "notes.parquet").write_bytes(b"mine")
    (run / "trajectories" / "train_1e5.parquet").write_bytes(b"mine")
    read_all(run)
    assert set(Catalog(run).episodes()["step"]) == {1, 2}
    (run / "summary.json").write_text("{")
    assert view_main([str(run)]) == 2 and view_main([str(tmp_path / "nowhere")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "summary.json is damaged" in lines[0]


def test_one_damaged_run_of_a_folder_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "0")
    (make_run(tmp_path / "1") / "config.yaml").write_text("- ")
    with pytest.raises(RunDirectoryError, match=r"1/config.yaml is damaged"):
        load_sweep(tmp_path)
    loop = tmp_path / "2"
    loop.symlink_to(loop)
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        load_run(loop)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("sound") / "run")
    (run / "provenance.json").write_text('[{"commit": "c", "machine": {}, "versions": {}}]')
    return run


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_byte_ends_reading_in_anything_but_a_sentence(
    sound: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = tmp_path_factory.mktemp("flipped") / "run"
    shutil.copytree(sound, run)
    path = data.draw(st.sampled_from(sorted(file for file in run.rglob("*") if file.is_file())), "file")
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4), "places"):
        content[place] ^= data.draw(st.integers(1, 255), "change")
    path.write_bytes(content)
    try:
        read_all(run)
    except RunDirectoryError as error:
        assert str(run) in str(error)
    shutil.rmtree(run)
