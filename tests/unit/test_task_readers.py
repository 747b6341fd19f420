"""Tasks out of files, datasets and functions: what is read, refused, held out, and in which order it comes."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.assemble.components import make_task_source
from ajet.config.compose import compose
from ajet.config.options import option
from ajet.data.content import content_key
from ajet.data.huggingface import HuggingFaceConfig
from ajet.data.listed import ListedTasks, ReadTasks, check_apart, hold_out
from ajet.data.rows import TaskRow
from ajet.data.tasks import make_tasks
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
    return make_tasks(option("data", reader)(path=str(path)).read_rows(), columns or {})


def rows_of(*values: Any) -> list[TaskRow]:
    return [TaskRow(place=f"x.jsonl, line {number}", values=value) for number, value in enumerate(values, 1)]


def placed(tasks: list[Task], file: str = "x.jsonl") -> ReadTasks:
    return ReadTasks(tasks=tasks, places=[f"{file}, line {number}" for number, _ in enumerate(tasks, 1)])


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
        HuggingFaceConfig(path=str(tmp_path), split="nosuch").read_rows()


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


def test_columns_of_what_is_a_task_already_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"x\.jsonl, line 1: data\.fields has no effect on what is a Task already"):
        make_tasks([TaskRow(place="x.jsonl, line 1", values=Task(main_query="A"))], {"main_query": "q"})


def test_fields_named_as_a_task_has_them_need_no_mapping() -> None:
    (task,) = make_tasks(
        rows_of({"task_id": 7, "init_messages": [{"role": "user", "content": "Hi"}], "metadata": {"k": 1}, "more": 2}),
        {},
    )
    assert task == Task(task_id="7", init_messages=[{"role": "user", "content": "Hi"}], metadata={"k": 1, "more": 2})


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("values", "columns", "said"),
    [
        ([{"q": "A"}, {"p": "B"}], {"main_query": "q"}, "line 2: there is no 'q'.*it has p"),
        ([{"task_id": "a"}, {"main_query": "B"}], {}, "line 2: there is no task_id"),
        ([{"task_id": "a"}, {"task_id": "b"}, {"task_id": "a"}], {}, "line 3: task_id 'a' stands at x.jsonl, line 1"),
        ([{"init_messages": "Hi"}], {}, "line 1: init_messages is not JSON"),
        ([{"init_messages": "[" * 100_000}], {}, "line 1: init_messages nests too deep"),
        ([{"init_messages": ["Hi"]}], {}, "line 1: init_messages is a list of messages"),
        ([{"main_query": {"a": 1}}], {}, "line 1: main_query is a text, not dict"),
        ([{"metadata": 3}], {}, "line 1: metadata is a mapping, not int"),
        ([{"main_query": "A"}, {"main_query": " "}], {}, "line 2: main_query and init_messages are empty"),
        ([{"q": "A"}, {"q": None}], {"main_query": "q"}, "line 2: main_query and init_messages are empty"),
        ([{"thing": CYCLE}], {}, "line 1: a task's content .* nests too deeply or holds itself"),
        ([{"thing": 10**5000}], {}, "line 1: a task's content cannot be told from another's: Exceeds"),
        (
            [{"thing": object()}],
            {},
            r"line 1: a value of type object says nothing of its content: .*an id each and data\.content",
        ),
        (
            [{"q": "A"}],
            {"query": "q"},
            r"data\.fields\.query is not a field of a task; choose among task_id, main_query",
        ),
    ],
)
def test_a_row_that_is_no_task_is_named(values: list[Any], columns: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_tasks(rows_of(*values), columns)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.jsonl", "", "holds no tasks"),
        ("x.jsonl", '{"a": 1}\n\n{"a"\n', r"x\.jsonl, line 3: not JSON"),
        ("x.jsonl", "[1]\n", "line 1: a task is a mapping of fields, not list"),
        ("x.jsonl", '{"a": 1}\n' + "[" * 100_000, r"x\.jsonl, line 2: it nests too deep"),
        ("x.jsonl", '{"a": 1}\n' + "9" * 5000, r"x\.jsonl, line 2: it .*too long a number"),
        ("x.json", '{"a": 1}', "a list of objects, not dict"),
        ("x.csv", "a,b\n1\n", "not CSV"),
        ("x.parquet", "no", "not parquet"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        option("data", name.partition(".")[2])(path=str(tmp_path / name)).read_rows()


def test_a_line_ends_where_json_lines_say_so(tmp_path: Path) -> None:
    # U+2028 and U+0085 end lines for str.splitlines, and may stand inside JSON strings.
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + '{"main_query": "a\u2028b\u0085c"}\r\n{"main_query": "d"}'.encode())
    assert [task.main_query for task in read("jsonl", file)] == ["a\u2028b\u0085c", "d"]
    file.write_bytes('{"main_query": "\u00e9"}'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"x\.jsonl: not UTF-8 at byte 16"):
        read("jsonl", file)


def test_csv_cells_stay_as_they_are_written_and_whole_numbers_become_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "main_query,code,price,n,day,none,metadata\n"
        '"a, ""b""\nc",007,1.50,1,2020-01-02,,"{""k"": [1]}"\nd,8,2.5,-2,NA,,\n'
    )
    first, second = read("csv", tmp_path / "x.csv")
    assert first.main_query == 'a, "b"\nc'
    assert first.metadata == {"code": "007", "price": "1.50", "n": 1, "day": "2020-01-02", "none": "", "k": [1]}
    assert second.metadata == {"code": "8", "price": "2.5", "n": -2, "day": "NA", "none": ""}
    (tmp_path / "x.csv").write_text("a,a\n1,2\n")
    with pytest.raises(ConfigError, match=r"x\.csv: two columns have the same name"):
        read("csv", tmp_path / "x.csv")


def test_what_save_to_disk_wrote_is_read_by_split(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_list(SUMS[:3])
    datasets.DatasetDict(train=one, test=datasets.Dataset.from_list(SUMS[3:5])).save_to_disk(str(tmp_path / "both"))
    one.save_to_disk(str(tmp_path / "one"))
    test = HuggingFaceConfig(path=str(tmp_path / "both"), split="test").read_rows()
    assert [row.values for row in test] == SUMS[3:5]
    assert len(HuggingFaceConfig(path=str(tmp_path / "one")).read_rows()) == 3
    with pytest.raises(ConfigError, match="there is no split dev; there is train, test"):
        HuggingFaceConfig(path=str(tmp_path / "both"), split="dev").read_rows()


def test_a_function_that_makes_no_tasks_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "no_tasks.py"
    file.write_text("def breaks():\n    yield {}\n    yield {}['q']\n\ndef returns():\n    return 3\n")
    with pytest.raises(ConfigError, match=rf"data\.path={file}->breaks: KeyError: 'q' \({file}:3\)"):
        read("python", f"{file}->breaks")
    with pytest.raises(ConfigError, match="yields tasks or mappings; it returned int"):
        read("python", f"{file}->returns")


def test_a_task_without_an_id_gets_one() -> None:
    (task,) = make_tasks(rows_of(Task(main_query="A")), {})
    assert task.task_id == make_tasks(rows_of({"main_query": "A"}), {})[0].task_id != ""


def test_bookkeeping_does_not_make_the_same_question_another_task() -> None:
    train = make_tasks(rows_of({"main_query": "2 + 2?", "index": 1, "split": "train"}), {})
    held_out = make_tasks(rows_of({"main_query": " 2 +  2?\n", "index": 7, "split": "test"}), {})
    with pytest.raises(ConfigError, match=r"data\.content"):
        check_apart(placed(train), placed(held_out))
    check_apart(placed(train), placed(held_out), ["main_query", "index"])
    with pytest.raises(ConfigError, match=r"there is no 'level' \(data\.content\); it has index, split, main_query"):
        check_apart(placed(train), placed(held_out), ["level"])
    # Tasks without a question are what their metadata says.
    games = make_tasks(rows_of({"seed": 1}, {"seed": 2}), {})
    check_apart(placed(games[:1]), placed(games[1:]))


def test_keys_are_the_same_in_another_process() -> None:
    # A set's order depends on how a process hashes strings.
    tasks = make_tasks(rows_of({"tags": {"a", "b", "c", "d"}, "size": (4, 4)}), {})
    code = (
        "from ajet.data.tasks import make_tasks; from ajet.data.rows import TaskRow\n"
        "print(make_tasks([TaskRow(place='', values={'size': [4, 4], 'tags': {'d', 'c', 'b', 'a'}})], {})[0].task_id)"
    )
    for hash_seed in ("1", "2"):
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": hash_seed}
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == tasks[0].task_id


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
    check_apart(placed(train), placed(held_out))
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
    with pytest.raises(ConfigError, match=r"task at test\.jsonl, line 1 asks what the .* at train\.jsonl, line 1 asks"):
        check_apart(placed(train, "train.jsonl"), placed(held_out, "test.jsonl"))


def test_how_a_character_is_composed_makes_no_other_task_and_case_does() -> None:
    composed, decomposed, capital = (Task(main_query=text) for text in ("caf\u00e9", "cafe\u0301", "Caf\u00e9"))
    assert content_key(composed) == content_key(decomposed) != content_key(capital)


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
    if not shuffle:  # nothing is left over: the next step goes on where this one ended
        first = [task.task_id for step in range(num) for task in source.train_tasks(step, num_tasks)]
        assert first == [task.task_id for task in tasks] * num_tasks
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
        (["data.path=x.jsonl"], r"data\.path has no effect with data=seeds: drop it or choose data=csv"),
        (["data.shuffle=false"], r"data\.shuffle has no effect with data=seeds"),
        (["data=python", "data.path=a:b", "data.split=x"], r"data\.split has no effect with data=python"),
        (["data=huggingface", "data.path=a", "data.split=null"], r"data\.split must be a text, not null"),
        (["data=huggingface", "data.path=a", "data.held_out_split=train"], "is the split to train on"),
        (
            ["data=python", "data.path=a:b", "data.held_out_path=a:c", "data.held_out_fraction=0.5"],
            r"held_out_fraction has no effect with data\.held_out_path",
        ),
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


@pytest.mark.parametrize("judge", ["exact_match", "contains", "boxed_math"])
def test_a_task_without_the_answer_that_its_judge_compares_with_is_found_at_once(judge: str, tmp_path: Path) -> None:
    file = write("jsonl", tmp_path / "sums.jsonl", [*SUMS, {"question": "1 + 1?", "answer": " "}])
    overrides = ["workflow=signals", "rollout.num_tasks=4", "data=jsonl", f"data.path={file}", f"judge={judge}"]
    with pytest.raises(
        ConfigError,
        match=rf"sums\.jsonl, line 21: judge={judge} needs metadata\['answer'\] \(judge\.reference\); it has q",
    ):
        make_task_source(compose(overrides, run_dir=tmp_path))
    make_task_source(compose([*overrides, "judge.reference=question"], run_dir=tmp_path))


def test_what_is_wrong_with_held_out_tasks_names_their_setting_and_row(tmp_path: Path) -> None:
    train = write("jsonl", tmp_path / "train.jsonl", [row | {"level": 1} for row in SUMS])
    overrides = ["workflow=signals", "rollout.num_tasks=4", "data=jsonl", f"data.path={train}"]
    overrides += ["++data.fields.main_query=question", f"data.held_out_path={tmp_path}/test.jsonl"]
    for text, said in (
        ("", r"data\.held_out_path=.*test\.jsonl holds no tasks"),
        ('{"question": "a", "level": 1}\n{"question": "b"}\n', r"test\.jsonl, line 2: there is no 'level' \(data\.con"),
        ('{"question": " 3 +  3?", "level": 1}\n', r"at test\.jsonl, line 1 asks what .* at train\.jsonl, line 4 asks"),
    ):
        (tmp_path / "test.jsonl").write_text(text)
        with pytest.raises(ConfigError, match=said):
            make_task_source(compose([*overrides, "data.content=[main_query,level]"], run_dir=tmp_path))
