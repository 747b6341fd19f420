"""Tasks out of files, datasets and functions: what is read, refused, held out, and in which order it comes."""

from __future__ import annotations

import csv
import json
import random
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.assemble.tasks import make_task_source
from ajet.config.compose import compose
from ajet.data.listed import ListedTasks, check_apart, hold_out
from ajet.data.rows import Row, read_rows
from ajet.data.tasks import content_key, make_tasks
from ajet.errors import ConfigError
from ajet.records import Task

SUMS = [{"question": f"{n} + {n}?", "answer": str(2 * n)} for n in range(20)]
COLUMNS = {"main_query": "question"}


def write(reader: str, path: Path, rows: list[dict[str, Any]]) -> Path:
    if reader == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif reader == "json":
        path.write_text(json.dumps(rows))
    elif reader == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(reader: str, path: Path | str, columns: dict[str, str] | None = None) -> list[Task]:
    return make_tasks(read_rows(reader, str(path), subset=None, split="train"), columns or {})


def rows_of(*values: Any) -> list[Row]:
    return [Row(place=f"x.jsonl, line {number}", values=value) for number, value in enumerate(values, 1)]


@pytest.mark.parametrize("reader", ["jsonl", "json", "csv", "parquet"])
def test_every_file_format_gives_the_same_tasks(reader: str, tmp_path: Path) -> None:
    tasks = read(reader, write(reader, tmp_path / f"sums.{reader}", SUMS), COLUMNS)
    assert [task.main_query for task in tasks] == [row["question"] for row in SUMS]
    assert [str(task.metadata["answer"]) for task in tasks] == [row["answer"] for row in SUMS]
    assert len({task.task_id for task in tasks}) == 20


def test_a_dataset_on_disk_is_read_by_split(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write("parquet", tmp_path / "train.parquet", SUMS[:15])
    write("parquet", tmp_path / "test.parquet", SUMS[15:])
    config = compose(
        [
            "workflow=signals",
            "data=huggingface",
            f"data.path={tmp_path}",
            "data.held_out_split=test",
            "++data.fields.main_query=question",
            "rollout.num_tasks=4",
        ],
        run_dir=tmp_path,
    )
    source = make_task_source(config)
    assert {task.main_query for task in source.held_out_tasks(5)} == {row["question"] for row in SUMS[15:]}
    assert {t.main_query for t in source.train_tasks(0, 15)} == {row["question"] for row in SUMS[:15]}
    with pytest.raises(ConfigError, match="nosuch"):
        read_rows("huggingface", str(tmp_path), subset=None, split="nosuch")


def test_a_function_yields_tasks_or_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "makes_tasks.py").write_text(
        "from ajet.records import Task\n"
        "def some():\n"
        "    yield Task(task_id='a', main_query='A?')\n"
        "    yield {'task_id': 'b', 'main_query': 'B?', 'level': 2}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for entry in ("makes_tasks:some", "makes_tasks->some", f"{tmp_path}/makes_tasks.py->some"):
        a, b = read("python", entry)
        assert (a.task_id, b.task_id, b.metadata) == ("a", "b", {"level": 2})
    with pytest.raises(ConfigError, match=r"there is no 'other'; there is .*some"):
        read("python", "makes_tasks:other")
    sys.modules.pop("makes_tasks")


def test_fields_named_as_a_task_has_them_need_no_mapping() -> None:
    (task,) = make_tasks(
        rows_of({"task_id": 7, "init_messages": [{"role": "user", "content": "Hi"}], "metadata": {"k": 1}, "more": 2}),
        {},
    )
    assert task == Task(task_id="7", init_messages=({"role": "user", "content": "Hi"},), metadata={"k": 1, "more": 2})


@pytest.mark.parametrize(
    ("values", "columns", "said"),
    [
        ([{"q": "A"}, {"p": "B"}], {"main_query": "q"}, "line 2: there is no 'q'.*it has p"),
        ([{"task_id": "a"}, {"main_query": "B"}], {}, "line 2: there is no task_id"),
        ([{"task_id": "a"}, {"task_id": "b"}, {"task_id": "a"}], {}, "line 3: task_id 'a' stands at x.jsonl, line 1"),
        ([{"init_messages": "Hi"}], {}, "line 1: init_messages is no JSON"),
        ([{"init_messages": ["Hi"]}], {}, "line 1: init_messages is a list of messages"),
        ([{"main_query": {"a": 1}}], {}, "line 1: main_query is a text, not dict"),
        ([{"metadata": 3}], {}, "line 1: metadata is a mapping, not int"),
        ([{"q": "A"}], {"query": "q"}, r"data\.fields\.query is no field of a task; choose among task_id, main_query"),
    ],
)
def test_a_row_that_is_no_task_is_named(values: list[Any], columns: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_tasks(rows_of(*values), columns)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.jsonl", "", "holds no tasks"),
        ("x.jsonl", '{"a": 1}\n\n{"a"\n', r"x\.jsonl, line 3: no JSON"),
        ("x.jsonl", "[1]\n", "line 1: a task is a mapping of fields, not list"),
        ("x.json", '{"a": 1}', "a list of objects, not dict"),
        ("x.csv", "a,b\n1\n", "no CSV"),
        ("x.parquet", "no", "no parquet"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_rows(name.partition(".")[2], str(tmp_path / name), subset=None, split="train")


questions = st.lists(st.sampled_from([f"q{n}" for n in range(30)]), min_size=2, max_size=60)


@given(questions, st.floats(0.05, 0.6), st.randoms(use_true_random=False))
def test_held_out_content_is_never_trained_on_whatever_the_order(
    asked: list[str], fraction: float, rng: random.Random
) -> None:
    tasks = make_tasks(rows_of(*({"main_query": text} for text in asked)), {})
    if len(set(asked)) < 2:
        with pytest.raises(ConfigError, match="cannot be split"):
            hold_out(tasks, fraction)
        return
    train, held_out = hold_out(tasks, fraction)
    assert train and held_out and len(train) + len(held_out) == len(tasks)
    check_apart(train, held_out)
    shuffled = list(tasks)
    rng.shuffle(shuffled)
    assert {content_key(task) for task in hold_out(shuffled, fraction)[1]} == {content_key(t) for t in held_out}


@given(questions)
def test_derived_ids_are_unique_and_depend_on_content_alone(asked: list[str]) -> None:
    tasks = make_tasks(rows_of(*({"main_query": text} for text in asked)), {})
    assert len({task.task_id for task in tasks}) == len(asked)
    first = {task.main_query: task.task_id for task in reversed(tasks)}
    alone = {text: make_tasks(rows_of({"main_query": text}), {})[0].task_id for text in asked}
    assert first == alone


def test_given_splits_that_overlap_are_refused_with_both_tasks() -> None:
    train = make_tasks(rows_of({"task_id": "a", "main_query": "A"}), {})
    held_out = make_tasks(rows_of({"task_id": "z", "main_query": "A"}), {})
    with pytest.raises(ConfigError, match="held-out task z has the content of training task a"):
        check_apart(train, held_out)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5), st.booleans())
def test_an_epoch_gives_each_task_once_at_most_and_any_step_can_be_asked_for(
    num: int, num_tasks: int, seed: int, shuffle: bool
) -> None:
    tasks = [Task(task_id=str(i)) for i in range(num)]
    source = ListedTasks(train=tasks, held_out=(), run_seed=seed, shuffle=shuffle)
    if num < num_tasks:
        with pytest.raises(ConfigError, match=f"there are {num} to train on"):
            source.train_tasks(0, num_tasks)
        return
    steps = num // num_tasks
    epoch = [task.task_id for step in range(steps) for task in source.train_tasks(step, num_tasks)]
    assert len(set(epoch)) == len(epoch) == steps * num_tasks
    assert shuffle or epoch == [task.task_id for task in tasks[: len(epoch)]]
    # A resumed run, or another rank, asks for a later step first.
    again = ListedTasks(train=tasks, held_out=(), run_seed=seed, shuffle=shuffle)
    assert again.train_tasks(3 * steps + steps - 1, num_tasks) == source.train_tasks(3 * steps + steps - 1, num_tasks)


def test_epochs_and_run_seeds_differ_in_their_order() -> None:
    tasks = [Task(task_id=str(i)) for i in range(30)]
    one, other = (ListedTasks(train=tasks, held_out=(), run_seed=seed, shuffle=True) for seed in (0, 1))
    assert one.train_tasks(0, 30) != one.train_tasks(1, 30) != other.train_tasks(1, 30)


def test_held_out_tasks_are_distinct_from_any_offset_and_too_many_are_refused() -> None:
    source = ListedTasks(train=(), held_out=[Task(task_id=str(i)) for i in range(7)], run_seed=0, shuffle=True)
    assert [task.task_id for task in source.held_out_tasks(4, offset=5)] == ["5", "6", "0", "1"]
    assert len({task.task_id for task in source.held_out_tasks(7, offset=1_000_000)}) == 7
    with pytest.raises(ConfigError, match=r"eval\.num_tasks=8 is more than the 7 tasks"):
        source.held_out_tasks(8)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.path=x.jsonl"], r"data\.path has no effect with data=seeds: choose data=jsonl"),
        (["data=jsonl"], r"data=jsonl needs data\.path"),
        (["data=jsonl", "data.path=nosuch.jsonl"], r"data\.path: there is no file nosuch\.jsonl"),
        (["data=python", "data.path=a:b", "data.subset=x"], r"data\.subset has no effect with data=python"),
        (["data=python", "data.path=a:b", "workflow.num_train_tasks=4"], r"num_train_tasks has no effect"),
        (["data=python", "data.path=a:b", "data.held_out_fraction=1"], r"data\.held_out_fraction must be"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(["workflow=signals", "rollout.num_tasks=4", *overrides], run_dir=tmp_path)
