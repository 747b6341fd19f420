"""Entry points as a user meets them: exit codes, one-line errors, run directories, sweeps, help."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sentences import names

from ajet.__main__ import main as commands_main
from ajet.config.cli.arguments import quoted
from ajet.config.cli.commands import COMMANDS
from ajet.config.cli.completion import completions
from ajet.config.cli.entry import run_entry
from ajet.config.cli.latest import with_latest
from ajet.config.compose import compose, load_evaluation, load_training
from ajet.config.root import Config, EvaluateConfig
from ajet.config.saved import save
from ajet.evaluate.__main__ import main as evaluate_main
from ajet.tracking.files.finding import newest_run
from ajet.train.__main__ import main as train_main

ROOT = Path(__file__).resolve().parents[2]

# A real entry point whose action writes down what it was given.
RECORDING_ENTRY = """
import sys
from pathlib import Path
from ajet.config.cli.arguments import quoted
from ajet.config.cli.completion import completions
from ajet.config.cli.entry import run_entry
from ajet.config.cli.latest import with_latest
from ajet.config.compose import load_training
from ajet.config.saved import save
from ajet.errors import EngineError

def record(config):
    if config.seed == 13:
        raise EngineError("seed 13 has no engine")
    save(config, Path(config.run_dir) / "config.yaml")
    print("RUN", config.seed, config.run_dir)

sys.exit(run_entry("train", load_training, record))
"""

# The entry point's own checks, without what would follow them.
PARAMETERS_ENTRY = """
import sys
from ajet.config.cli.arguments import quoted
from ajet.config.cli.completion import completions
from ajet.config.cli.entry import run_entry
from ajet.config.cli.latest import with_latest
from ajet.train.__main__ import load

sys.exit(run_entry("train", load, lambda config: print("PLAYED")))
"""


def run_python(arguments: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter on ajet's source in another directory."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def run_recorder(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(["-c", RECORDING_ENTRY, *arguments], cwd)


def main_job(checkpoint: Path) -> list[str]:
    return ["workflow=werewolves", "trainable_targets=[seer,witch]", f"model.path={checkpoint}"]


def never(config: object) -> None:
    raise AssertionError("the action ran")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error line of a training command that must not start."""
    assert run_entry("train", load_training, never, arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "error: workflow ... missing ... workflow=countdown"),
        (
            ["workflow=chess"],
            "workflow=chess ... countdown, custom, debate, frozenlake, guess_number, hints, math, signals",
        ),
        (["workflow=signals", "rollout.grup_size=2"], "rollout.grup_size ... group_size"),
        (["workflow=signals", "--verbose"], "flag --verbose"),
        (["workflow=signals", "--cfg", "everything"], "'everything'"),
        (["workflow=signals", "--config-name", "mine"], "--config-dir"),
        (["workflow=signals", "--experimental-rerun", "config.pickle"], "--experimental-rerun ... resume="),
        (["workflow=signals", "engine=null"], "engine=null ... scripted, tinker, transformers"),
        (["workflow=custom", "workflow.entry=nowhere.py->Game"], "workflow.entry=nowhere.py->Game ... nowhere.py"),
        (["resume=nowhere"], "nowhere ... run directory"),
        (
            ["-m", "resume=nowhere", "seed=1,2"],
            "resume ... -m",
        ),
    ],
)
def test_a_command_that_cannot_work_ends_with_one_line_and_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(refused(arguments, capsys), words)


SIGNALS = ["workflow=signals", "trainable_targets=[speaker]"]
WEREWOLVES = ["workflow=werewolves", "trainable_targets=[seer,witch]"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*WEREWOLVES, "workflow.params.num_wolves=2"], "workflow.params.num_wolves ... Werewolves"),
        (
            [*WEREWOLVES, "workflow.params.num_villagers=-1"],
            "workflow.params.num_villagers=-1 ... greater",
        ),
        (
            [*WEREWOLVES, "workflow.params.day_limit=soon"],
            "workflow.params.day_limit=soon ... integer",
        ),
        ([*WEREWOLVES, "workflow.params.num_werewolves=8"], "workflow.params ... wolves"),
        (
            [*WEREWOLVES, "workflow.params.has_seer=false"],
            "trainable_targets ... seer ... werewolf, villager, witch, hunter",
        ),
        (
            ["workflow=werewolves", "workflow.params.trainable_targets=[werewolf,seer]", "workflow.opposing_sides=[]"],
            "trainable_targets=[werewolf,seer] ... [werewolf] ... [villager,seer,witch,hunter]",
        ),
        ([*WEREWOLVES, "opponent.params.foo=1"], "opponent.params.foo ... werewolves ... follow"),
        ([*WEREWOLVES, "opponent.params.sense=2"], "opponent.params.sense=2.0 ... 0 ... 1"),
        ([*WEREWOLVES, "-m", "opponent.params.sense=.5,7"], "opponent.params.sense=7.0 ... 0 ... 1"),
        ([*WEREWOLVES, "-m", "workflow.params.day_limit=3,0"], "workflow.params.day_limit=0 ... greater"),
        ([*SIGNALS, "workflow.params.num_words=1"], "workflow.params.num_words=1 ... greater"),
        ([*SIGNALS, "opponent.params.foo=1"], "opponent.params.foo ... signals ... accuracy ... code"),
        ([*SIGNALS, "opponent.params.accuracy=-0.5"], "opponent.params.accuracy=-0.5 ... 0 ... 1"),
        ([*SIGNALS, "opponent.params.code=0.5"], "opponent.params.code=0.5 ... 0 ... 1"),
    ],
)
def test_parameters_that_a_built_in_workflow_does_not_take_are_refused_before_anything_starts(
    arguments: list[str], words: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    created = tmp_path / "run"
    places = [f"hydra.run.dir={created}", f"hydra.sweep.dir={created}"]
    assert train_main([*arguments, f"model.path={checkpoint}", *places]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and names(line, words)
    assert not created.exists()


@pytest.mark.parametrize("arguments", [SIGNALS, [*SIGNALS, "opponent.params.code=1", "opponent.params.accuracy=0.5"]])
def test_parameters_that_fit_pass(arguments: list[str], checkpoint: Path, tmp_path: Path) -> None:
    done = run_python(["-c", PARAMETERS_ENTRY, *arguments, f"model.path={checkpoint}"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "PLAYED\n"), done.stderr


def test_a_sweep_is_refused_as_a_whole_when_one_job_cannot_work(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["-m", *main_job(checkpoint), "seed=1,-2"], capsys)
    assert names(line, "error: seed ... 0 ... -2")


def test_a_refused_command_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run_python(["-m", "ajet.train", "workflow=werewolves", "trainable_targets=[]"], tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["ajet.train", "ajet.rollout"])
def test_a_file_of_ones_own_that_breaks_is_told_with_its_line_before_anything_loads(
    command: str, tmp_path: Path, checkpoint: Path
) -> None:
    (tmp_path / "mine.py").write_text("from ajet import Workflow\n\nclass Mine(Workflow):\n    seats: int = nine\n")
    arguments = ["workflow=custom", "workflow.entry=mine.py->Mine", f"model.path={checkpoint}"]
    done = run_python(["-X", "importtime", "-m", command, *arguments], tmp_path)
    error = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    place = f"{tmp_path}/mine.py"
    expected = f"error: workflow.entry={place}->Mine: NameError: name 'nine' is not defined ({place}:4)"
    assert (done.returncode, error) == (2, [expected])
    assert " torch\n" not in done.stderr and not (tmp_path / "outputs").exists()


def test_the_package_lists_its_commands_which_all_have_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands_main([]) == 0 == commands_main(["--help"])
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  ajet {name} " in listed
        if name != "completion":
            assert importlib.util.find_spec(f"ajet.{name}") is not None
    folders = {path.parent.name for path in (ROOT / "src" / "ajet").glob("*/__main__.py")}
    assert folders <= set(COMMANDS)
    assert commands_main(["learn", "workflow=signals"]) == 2
    assert "there is no command learn" in capsys.readouterr().err


def test_a_command_is_the_same_by_either_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands_main(["train", "workflow=chess"]) == 2
    by_name = capsys.readouterr().err
    assert train_main(["workflow=chess"]) == 2
    assert capsys.readouterr().err == by_name


def test_the_list_of_commands_loads_nothing_else(tmp_path: Path) -> None:
    done = run_python(["-X", "importtime", "-m", "ajet"], tmp_path)
    assert done.returncode == 0 and "ajet view" in done.stdout
    assert not {"hydra", "torch", "pydantic"} & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def a_run(folder: Path, *, played: bool = False, seconds: int) -> Path:
    """Something that passes for a run, as old as is said."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("num_episodes: 1\n" if played else "seed: 0\n")
    os.utime(folder / "config.yaml", (seconds, seconds))
    return folder


def test_latest_is_the_training_run_that_was_started_last(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    a_run(root / "multirun" / "2026-01-01" / "10-00-00" / "0", seconds=100)
    newest = a_run(root / "2026-01-02" / "10-00-00", seconds=300)
    a_run(root / "2026-01-03" / "10-00-00", seconds=200)
    played = a_run(root / "rollout" / "2026-01-04" / "10-00-00", played=True, seconds=400)
    assert newest_run(root) == newest and newest_run(root, trained=False) == played
    with_own_root = f"paths.output_root={root}"
    assert with_latest(["resume=latest", with_own_root]) == [f"resume={quoted(str(newest))}", with_own_root]
    assert with_latest(["runs=[latest,base]", with_own_root])[0] == f"runs=[{quoted(str(newest))},base]"
    assert with_latest(["workflow.params.name=latest"]) == ["workflow.params.name=latest"]


@pytest.mark.parametrize("arguments", [["train", "resume=latest"], ["evaluate", "run=latest"], ["report", "latest"]])
def test_where_there_is_no_run_latest_says_so(arguments: list[str], tmp_path: Path) -> None:
    done = run_python(["-m", "ajet", *arguments], tmp_path)
    assert done.returncode == 2
    assert names(done.stderr, "error: latest ... outputs") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ajet ev", ["evaluate"]),
        ("ajet train opponent=f", ["opponent=frozen"]),
        ("ajet plan hardware=gpu_1", ["hardware=gpu_1"]),
        ("ajet train workflow=signals rollout.num", ["rollout.num_tasks="]),
        ("ajet rollout num_ep", ["num_episodes="]),
        ("ajet evaluate confid", ["confidence="]),
        ("ajet train --config", ["--config-dir"]),
        ("ajet train --cfg j", ["job"]),
        ("ajet evaluate run=l", ["run=latest"]),
        ("ajet view l", ["latest"]),
        ("ajet completion b", ["bash"]),
        ("ajet train nonsense.", []),
    ],
)
def test_commands_flags_keys_options_and_runs_complete(line: str, words: list[str]) -> None:
    assert completions(line) == words


@pytest.mark.parametrize(
    ("line", "typed", "shown"),
    [
        ("ajet tr", ["ajet", "tr"], ["train"]),
        # By default bash takes = for a word of its own.
        ("ajet train opponent=f", ["ajet", "train", "opponent", "=", "f"], ["frozen"]),
        ("ajet train opponent=f", ["ajet", "train", "opponent=f"], ["opponent=frozen"]),
    ],
)
def test_bash_completes_as_its_script_says(line: str, typed: list[str], shown: list[str], tmp_path: Path) -> None:
    script = f"""
ajet() {{ {sys.executable} -m ajet "$@"; }}
eval "$(ajet completion bash)"
COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={len(typed) - 1}
COMP_WORDS=({" ".join(f"'{word}'" for word in typed)})
_ajet_complete
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == shown, done.stderr


def test_help_is_short_and_lists_groups_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("train", load_training, never, ["--help"]) == 0
    text = capsys.readouterr().out
    assert "opponent     frozen, openai, random, scripted, workflow" in text
    assert len(text.splitlines()) < 40


def test_cfg_job_prints_the_composed_config_even_without_a_workflow(tmp_path: Path) -> None:
    done = run_python(["-m", "ajet.train", "--cfg", "job", "seed=5"], tmp_path)
    assert done.returncode == 0
    assert "seed: 5" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "key", "place"),
    [
        (["ajet.train", "workflow=signals"], "run_dir", "outputs/"),
        (["ajet.rollout", "workflow=signals"], "run_dir", "outputs/rollout/"),
        (["ajet.evaluate", "run=my/run"], "output_dir", "my/run/evaluations/"),
    ],
)
def test_cfg_job_can_be_resolved(command: list[str], key: str, place: str, tmp_path: Path) -> None:
    done = run_python(["-m", *command, "--cfg", "job", "--resolve"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "${" not in done.stdout and f"\n{key}: {place}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_tab_completion_knows_groups_and_options(tmp_path: Path) -> None:
    line = "ajet-train opponent=f"
    done = run_python(["-m", "ajet.train", "-sc", "query=bash"], tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.stdout.split() == ["opponent=frozen"]


def test_a_run_gets_a_dated_directory_with_hydras_record(tmp_path: Path, checkpoint: Path) -> None:
    done = run_recorder(tmp_path, *main_job(checkpoint), "workflow.params.day_limit=3")
    assert done.returncode == 0, done.stderr
    (saved,) = tmp_path.glob("outputs/*/*/config.yaml")
    assert (saved.parent / ".hydra" / "overrides.yaml").is_file()
    assert f"run_dir: {saved.parent}" in saved.read_text()
    assert "day_limit: 3" in saved.read_text()


def test_runs_started_in_the_same_second_do_not_share_a_directory(tmp_path: Path, checkpoint: Path) -> None:
    command = [sys.executable, "-c", RECORDING_ENTRY, *main_job(checkpoint)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    runs = [subprocess.Popen(command, cwd=tmp_path, env=environment) for _ in range(3)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0, 0]
    assert len(list(tmp_path.glob("outputs/*/*/config.yaml"))) == 3


@pytest.mark.parametrize("key", ["run_dir", "hydra.run.dir"])
def test_an_explicit_directory_is_made_and_one_that_holds_a_run_is_not_written_over(
    key: str, tmp_path: Path, checkpoint: Path
) -> None:
    arguments = [*main_job(checkpoint), f"{key}=mine"]
    assert run_recorder(tmp_path, *arguments).returncode == 0
    assert (tmp_path / "mine" / "config.yaml").is_file() and not (tmp_path / "outputs").exists()
    again = run_recorder(tmp_path, *arguments)
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    assert names(again.stderr, "error: mine ... resume=mine")


def test_one_directory_for_all_jobs_of_a_sweep_is_refused(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["-m", *main_job(checkpoint), "seed=1,2", "run_dir=mine"], capsys)
    assert names(line, "error: run_dir ... hydra.sweep.dir")


def test_resume_alone_runs_again_in_the_same_directory(tmp_path: Path, checkpoint: Path) -> None:
    run_recorder(tmp_path, *main_job(checkpoint), "seed=7", "hydra.run.dir=mine")
    done = run_recorder(tmp_path, "resume=mine", "total_steps=50")
    assert done.stdout == f"RUN 7 {tmp_path / 'mine'}\n", done.stderr
    assert "total_steps: 50" in (tmp_path / "mine" / "config.yaml").read_text()
    assert "seed=7" in (tmp_path / "mine" / ".hydra" / "overrides.yaml").read_text()
    assert len(list((tmp_path / "mine" / ".hydra").glob("resumed_*/overrides.yaml"))) == 1


def test_a_sweep_goes_on_when_one_job_fails_and_says_so(tmp_path: Path, checkpoint: Path) -> None:
    done = run_recorder(tmp_path, *main_job(checkpoint), "-m", "seed=1,13,2")
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("RUN")] == ["1", "2"]
    assert done.stderr == "error: job 1 (seed=13): seed 13 has no engine\n"
    jobs = tmp_path.glob("outputs/multirun/*/*/*/config.yaml")
    assert sorted(path.parent.name for path in jobs) == ["0", "2"]


def test_an_evaluation_goes_into_its_runs_directory(tmp_path: Path, checkpoint: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save(Config(run_dir=str(run)), run / "config.yaml")
    entry = (
        "import sys; from ajet.config.cli.entry import run_entry; from ajet.config.compose import load_evaluation\n"
        "def show(config):\n"
        "    print(config.output_dir, config.opponent.name, config.checkpoint, config.num_tasks)\n"
        "sys.exit(run_entry('evaluate', load_evaluation, show))"
    )
    done = run_python(["-c", entry, f"run={run}", "opponent=random", "checkpoint=10"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(run / "evaluations"))
    assert done.stdout.split()[1:] == ["random", "10", "None"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "error: run ... missing"),
        (["run=nowhere"], "run=nowhere ... run directory"),
        (["num_task=3"], "num_task ... num_tasks"),
        (["opponent=strong"], "opponent=strong ... frozen, openai, random, scripted, workflow"),
    ],
)
def test_an_evaluation_that_cannot_work_is_refused_in_the_same_way(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def action(config: EvaluateConfig) -> None:
        never(config)

    assert run_entry("evaluate", load_evaluation, action, arguments) == 2
    assert names(capsys.readouterr().err, words)


def test_an_opponent_or_a_role_that_does_not_fit_the_run_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save(compose([*SIGNALS, f"model.path={checkpoint}"], run_dir=run), run / "config.yaml")
    assert evaluate_main([f"run={run}", "trainable_targets=[seer]"]) == 2
    assert names(capsys.readouterr().err, "trainable_targets ... seer ... speaker, listener")
    asked = [f"run={run}", "opponent=scripted", "opponent.params.foo=1"]
    assert evaluate_main(asked) == 2
    assert names(capsys.readouterr().err, "opponent.params.foo ... signals ... accuracy")
    assert evaluate_main([f"run={run}", "opponent=workflow"]) == 2
    assert names(capsys.readouterr().err, "opponent=workflow ... listener")
