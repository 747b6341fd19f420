"""Files written whole, locks, checksums: what a full disk, a kill or another user can and cannot do to a run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.errors import ConfigError, RunDirectoryError, StorageError
from ajet.tracking.files.attempts import can_restart, check_resumable, drop_unfinished, set_aside
from ajet.tracking.files.checkpoints import damage, newest_sound, saved_steps
from ajet.tracking.files.lock import locked
from ajet.tracking.files.reading import read_json, read_metric_lines, read_yaml
from ajet.tracking.files.writing import write_json, write_text
from ajet.tracking.loggers import JsonlLogger
from ajet.train.checkpoint import CheckpointFolder, load_trainer_state

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def save(folder: CheckpointFolder, step: int) -> Path:
    """A checkpoint of some bytes and the state `{"num_steps_done": step}`."""
    return folder.save(
        step,
        save_model=lambda model: (model / "weights").write_bytes(b"w" * 100),
        trainer_state={"num_steps_done": step},
    )


def in_subprocess(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_file_that_cannot_be_written_is_one_sentence_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(StorageError, match="its directory is gone"):
        write_text(tmp_path / "gone" / "summary.json", "x")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_a_full_disk_stops_a_log_at_a_whole_line_and_with_a_sentence(tmp_path: Path) -> None:
    full = tmp_path / "metrics.jsonl"
    full.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"metrics.jsonl cannot be written: the disk is full"):
        JsonlLogger(full).log(0, {"reward/seer/mean": 0.5})


def test_a_device_is_written_to_and_no_link_is_followed(tmp_path: Path) -> None:
    device, link, file = Path(os.ttyname(os.openpty()[1])), tmp_path / "link", tmp_path / "file"
    write_text(device, "said")
    assert device.is_char_device()
    file.write_text("mine")
    link.symlink_to(file)
    write_text(link, "said")
    assert not link.is_symlink() and (link.read_text(), file.read_text()) == ("said", "mine")


def test_a_log_that_was_deleted_is_not_written_to_any_further(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    logger = JsonlLogger(tmp_path / "run" / "metrics.jsonl")
    logger.log(0, {"value": 0.5})
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(StorageError, match=r"metrics.jsonl cannot be written: its directory is gone"):
        logger.log(1, {"value": 0.5})


WRITES_UP_TO_A_LIMIT = """
import resource, sys
from pathlib import Path
from ajet.errors import StorageError
from ajet.tracking.loggers import JsonlLogger
logger = JsonlLogger(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for step in range(10):
    try:
        logger.log(step, {"value": 0.5})
    except StorageError as error:
        print(step, error)
        logger.close()
        break
"""


def test_a_line_that_does_not_fit_is_not_half_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    done = in_subprocess(WRITES_UP_TO_A_LIMIT, str(path))
    # {"step": 0, "value": 0.5} and its newline are 26 bytes.
    assert done.stdout == f"3 {path} cannot be written: the file would be larger than is allowed here\n", done.stderr
    assert [line["step"] for line in read_metric_lines(path)] == [0, 1, 2] and path.stat().st_size == 78


def test_what_a_killed_process_left_half_written_is_removed_when_the_run_is_taken_up(tmp_path: Path) -> None:
    left = [".config.yaml.123.partial", "trajectories/.train_000001.parquet.123.partial"]
    kept = [".notes.123.partial", "config.yaml", "trajectories/train_000000.parquet"]
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    drop_unfinished(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


SAVES_UP_TO_A_LIMIT = """
import resource, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from ajet.errors import StorageError
from ajet.train.checkpoint import CheckpointFolder
folder = CheckpointFolder(Path(sys.argv[1]), keep=2)
small, large = torch.zeros(10), torch.zeros(100_000)
def save(step, weights, state):
    folder.save(step, save_model=lambda model: save_file({"w": weights}, model / "w.safetensors"), trainer_state=state)
save(1, small, {"parameters": small})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for step, weights, state in ((2, large, small), (3, small, large)):
    try:
        save(step, weights, {"parameters": state})
    except StorageError as error:
        print(error)
"""


def test_a_checkpoint_that_does_not_fit_leaves_the_earlier_one(tmp_path: Path) -> None:
    done = in_subprocess(SAVES_UP_TO_A_LIMIT, str(tmp_path))
    words = "cannot be written: the file would be larger than is allowed here"
    checkpoints = tmp_path / "checkpoints"
    assert done.stdout.splitlines() == [f"{checkpoints / f'step_{n}'} {words}" for n in (2, 3)], done.stderr
    assert [path.name for path in checkpoints.iterdir()] == ["step_1"]
    assert newest_sound(tmp_path) == (checkpoints / "step_1", [])


def test_files_of_a_checkpoint_have_one_mode_and_the_oldest_are_dropped(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2, describe=lambda path, saved: f"serve {path}")
    for step in (1, 2, 3):
        folder.save(
            step,
            save_model=lambda model: os.close(os.open(model / "private", os.O_CREAT, 0o600)),
            trainer_state={},
        )
    assert folder.steps() == [2, 3]
    newest = tmp_path / "checkpoints" / "step_3"
    assert len({path.stat().st_mode for path in newest.rglob("*") if path.is_file()}) == 1
    assert (newest / "model" / "README.md").read_text() == f"serve {newest / 'model'}"


@pytest.mark.parametrize("name", ["trainer.pt", "model/weights", "checksums.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(
    tmp_path: Path, name: str, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = CheckpointFolder(tmp_path, keep=9)
    save(folder, 1)
    file = save(folder, 2) / name
    content = file.read_bytes()
    half = len(content) // 2
    if harm == "remove":
        file.unlink()
    else:
        flipped = bytes([content[half] ^ 0x10])
        file.write_bytes(content[:half] if harm == "cut" else content[:half] + flipped + content[half + 1 :])
    assert folder.newest() == tmp_path / "checkpoints" / "step_1"
    said = capsys.readouterr().err.splitlines()
    if (name, harm) == ("checksums.json", "remove"):  # then it is not ajet's, or was never finished
        assert len(said) == 1 and "step_2: it has no checksums.json; step_1 is taken instead" in said[0]
        assert folder.steps() == [1]
        return
    assert len(said) == 1 and "step_2: " in said[0] and "step_1 is taken instead" in said[0]
    with pytest.raises(RunDirectoryError, match="step_2 is damaged: "):
        folder.at(2)
    (tmp_path / "checkpoints" / "step_1" / "trainer.pt").unlink()
    with pytest.raises(RunDirectoryError, match=r"no sound checkpoint .step_2: .*; step_1: trainer.pt is missing"):
        folder.newest()
    # The step is trained again, and its checkpoint replaces the damaged one.
    assert load_trainer_state(save(folder, 2)) == {"num_steps_done": 2}
    assert folder.newest().name == "step_2"


def test_folders_of_others_are_neither_read_nor_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    for name in ("step_99", "step_abc", "step_", "step_007", ".step_8", "step_1e3", "step_99999999999999999999"):
        (tmp_path / "checkpoints" / name / "model").mkdir(parents=True)
        if name != "step_99":
            write_json(tmp_path / "checkpoints" / name / "checksums.json", {})
    save(folder, 1)
    save(folder, 2)
    assert folder.steps() == [2] and len(list((tmp_path / "checkpoints").iterdir())) == 8
    with pytest.raises(RunDirectoryError, match="has no step 99; there is 2"):
        folder.at(99)


def test_a_folder_that_is_not_ajets_and_has_the_name_of_a_step_is_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    for number in (1, 2):
        (tmp_path / "checkpoints" / "step_1").mkdir(parents=True)
        (tmp_path / "checkpoints" / "step_1" / "mine.txt").write_text(f"mine {number}")
        save(folder, 1)
        assert folder.newest() == tmp_path / "checkpoints" / "step_1"
        assert (tmp_path / "checkpoints" / f"step_1.kept_{number}" / "mine.txt").read_text() == f"mine {number}"
        shutil.rmtree(tmp_path / "checkpoints" / "step_1")


def test_checksums_point_to_nothing_outside_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "secret").write_text("s")
    for name in ("../secret", "/dev/zero", str(tmp_path / "secret")):
        write_json(tmp_path / "own" / "checksums.json", {name: "0"})
        assert damage(tmp_path / "own") == f"{name} is missing"


def test_a_trainers_state_runs_nothing(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "trainer.pt").write_bytes(pickle.dumps({"num_steps_done": Touch()}))
    with pytest.raises(RunDirectoryError, match="is not a trainer's state"):
        load_trainer_state(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_what_a_disk_cannot_keep_is_refused_before_the_first_step(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.check_space(1000, num_saves=5)
    with pytest.raises(
        ConfigError, match=r"and 3 checkpoints of 1048576.0 GiB will be there at once: make room, lower"
    ):
        folder.check_space(2**50, num_saves=5)


HOLDS_THE_LOCK = """
import os, sys, time
from pathlib import Path
from ajet.tracking.files.lock import locked
with locked(Path(sys.argv[1])):
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_run_directory_belongs_to_one_process_until_it_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == f"{holder.pid}\n"
    for _ in range(2):
        words = rf"is in use by process {holder.pid} on .*: wait until"
        with pytest.raises(RunDirectoryError, match=words), locked(tmp_path):
            raise AssertionError("two processes in one run directory")
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=60)
    with locked(tmp_path), pytest.raises(RunDirectoryError, match=f"process {os.getpid()} "), locked(tmp_path):
        pass


def test_a_run_without_a_checkpoint_may_begin_again_and_loses_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with locked(run):
        write_text(run / "config.yaml", "seed: 1\n")
        write_text(run / "metrics.jsonl", '{"step": 0}\n')
    assert can_restart(run, trains=True) and not can_restart(run, trains=False)
    set_aside(run)
    assert (run / "earlier_1" / "metrics.jsonl").read_text() == '{"step": 0}\n'
    assert not (run / "config.yaml").exists()
    save(CheckpointFolder(run, keep=1), 1)
    assert not can_restart(run, trains=True)
    # A directory that no training wrote is nobody's to clear.
    assert not can_restart(tmp_path, trains=True)


def test_a_run_that_holds_more_than_an_attempt_does_not_begin_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with locked(run):
        write_text(run / "metrics.jsonl", '{"step": 0}\n')
    check_resumable(run)  # it was killed before its first checkpoint
    write_json(run / "summary.json", {"num_steps": 1})
    with pytest.raises(RunDirectoryError, match="the run ended, and its checkpoints are gone"):
        check_resumable(run)
    (run / "summary.json").unlink()
    for step in (9, 10):  # as they were made before there were checksums
        (run / "checkpoints" / f"step_{step}" / "model").mkdir(parents=True)
    with pytest.raises(RunDirectoryError, match=r"step_10 has no checksums.json, .* new run with model.path=.*step_10"):
        check_resumable(run)
    assert not can_restart(run, trains=True)
    save(CheckpointFolder(run, keep=1), 1)
    check_resumable(run)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "damaged: Expecting value"),
        ('{"a": 1', "damaged: Expecting ','"),
        ("[1]", "damaged: it holds list, not dict"),
        ("[" * 100_000, "damaged: "),
        ("\x00\x00", "damaged: "),
    ],
)
def test_json_of_anybody_is_read_or_refused_in_a_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(RunDirectoryError, match=words) as refused:
        read_json(path, dict)
    assert str(path) in str(refused.value) and len(str(refused.value)) < 400


@given(content=st.binary(max_size=200))
def test_no_bytes_end_reading_in_anything_but_a_sentence(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    for read in (lambda: read_json(path, dict), lambda: read_yaml(path), lambda: read_metric_lines(path)):
        try:
            read()
        except RunDirectoryError as error:
            assert str(path) in str(error)


def test_yaml_of_anybody_neither_runs_nor_swells(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcd", "bcde", strict=True)
    )
    for content, words in (
        (bomb, "holds an alias"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("- 1", "it holds list, not dict"),
        ("a: [", "damaged: "),
    ):
        path.write_text(content)
        with pytest.raises(RunDirectoryError, match=words):
            read_yaml(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(RunDirectoryError, match="Too many levels of symbolic links"):
        read_yaml(path)
    huge = tmp_path / "huge"
    huge.touch()
    os.truncate(huge, 2**31)  # of holes: it takes no space
    with pytest.raises(RunDirectoryError, match="is not read: 2048 MiB"):
        read_yaml(huge)


def test_a_log_that_is_still_written_is_read_and_one_that_is_damaged_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metric_lines(path) == []
    path.write_text('{"step": 0, "a": 1.5, "b": null}\n{"step": 1, "a"')
    assert read_metric_lines(path) == [{"step": 0, "a": 1.5, "b": None}]
    for line in ("garbage", '{"a": 1}', '{"step": "1"}', '{"step": 1, "a": "x"}', '{"step": 1, "a": true}', "[]"):
        path.write_text('{"step": 0}\n' + line + "\n")
        with pytest.raises(RunDirectoryError, match="damaged: line 2 is not"):
            read_metric_lines(path)


def test_saved_steps_of_a_directory_that_is_not_there_are_none(tmp_path: Path) -> None:
    assert saved_steps(tmp_path / "nowhere") == []
