"""Options of a user's own: settings are checked like those of ajet's, and a run directory's are not run unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from ajet.config.cli.entry import run_entry
from ajet.config.compose import compose, load_training
from ajet.config.known_code import named_code
from ajet.config.root import Config
from ajet.config.saved import load, save, with_user_options
from ajet.config.user_code.importing import load_object
from ajet.engine.base import EngineNeeds
from ajet.errors import ConfigError

ENGINES = """
from dataclasses import dataclass, field
import subprocess
import sys
from pathlib import Path

from ajet.config.fields import ruled

Path(__file__).with_suffix(".ran").touch()


@dataclass
class Settings:
    size: int
    share: float = ruled(0.5, above=0, below=1)
    words: list[str] = field(default_factory=list)


class Mine:
    def __init__(self, config: Settings, *, max_context: int, num_threads: int | None) -> None:
        self.config, self.max_context, self.policy_version = config, max_context, 0

    async def generate(self, request): ...
    def update_weights(self, weights, policy_version): ...
    def close(self): ...


class Nested(Mine):
    @dataclass
    class Config:
        depth: int = 1

    def __init__(self, config) -> None:
        self.config = config


class Greedy(Mine):
    def __init__(self, config: Settings, *, learning_rate: float) -> None: ...


class Bare:
    train = close = generate = update_weights = print


class Half:
    async def generate(self, request): ...


@dataclass(frozen=True)
class Frozen:
    size: int = 1


class OfFrozen(Mine):
    def __init__(self, config: Frozen) -> None: ...


class Sync(Mine):
    def generate(self, request): ...


@dataclass
class NoDefault:
    words: dict = None
    size: int = "big"


class OfNoDefault(Mine):
    def __init__(self, config: NoDefault) -> None: ...


number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_engines.py").write_text(ENGINES)
    return tmp_path / "my_engines.py"


def composed(file: Path, name: str, *overrides: str) -> Config:
    return compose(["workflow=signals", f"engine={file}->{name}", *overrides], run_dir=file.parent)


def built(config: Config) -> Any:
    needs = EngineNeeds(model_path="m", max_context=64, dtype="float32", device="cpu", num_threads=2)
    return config.engine.build(needs)


def test_a_class_is_given_its_settings_and_what_it_names_of_the_run(file: Path) -> None:
    config = composed(file, "Mine", "engine.size=3", "engine.words=[a]")
    engine = built(config)
    assert (engine.config.size, engine.config.share, engine.config.words, engine.max_context) == (3, 0.5, ["a"], 64)
    assert config.engine.name == f"{file}->Mine"
    assert built(composed(file, "Nested", "engine.depth=2")).config.depth == 2


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("Mine", [], r"engine=.*Mine needs engine\.size"),
        ("Mine", ["engine.size=big"], r"engine\.size must be a whole number, not big"),
        ("Mine", ["engine.size=1", "engine.share=2"], r"engine\.share must be above 0 and below 1"),
        ("Mine", ["engine.size=1", "engine.sise=1"], r"unknown key engine\.sise: did you mean size\? keys of engine: "),
        (
            "Mine",
            ["engine.size=1", "engine.block_size=1"],
            r"block_size has no effect with .* engine=vllm",
        ),
        ("Nothing", [], r"there is no 'Nothing'; there is .*Mine"),
        (
            "Greedy",
            ["engine.size=1"],
            r"Greedy asks for learning_rate; .* may ask for model_path",
        ),
        ("Half", [], r"Half has no update_weights; it needs generate, update_weights, close"),
        ("Bare", [], "__init__ of Bare takes no configuration"),
        ("OfFrozen", [], r"Frozen cannot hold settings: cannot inherit non-frozen dataclass"),
        ("OfNoDefault", [], r"engine=.*OfNoDefault: NoDefault cannot hold settings: .*words"),
        ("number", [], "is not a class"),
        ("Sync", [], "generate of Sync is not async, and it is awaited: write async def generate"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_loads(
    name: str, settings: list[str], said: str, file: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        composed(file, name, *settings)


def test_a_run_directory_is_read_without_running_the_code_that_it_names(file: Path) -> None:
    config = composed(file, "Mine", "engine.size=3", "engine.words=[a]")
    save(config, file.parent / "config.yaml")
    assert list(named_code(config)) == [f"engine.name={file}->Mine"]
    elsewhere = file.with_name("my_other_engines.py")
    written = (file.parent / "config.yaml").read_text().replace(str(file), str(elsewhere))
    (file.parent / "config.yaml").write_text(written)
    elsewhere.write_text(ENGINES)
    read = load(file.parent)
    assert not elsewhere.with_suffix(".ran").exists()
    assert list(named_code(read)) == [f"engine.name={elsewhere}->Mine"]
    assert built(with_user_options(read)).config.words == ["a"] and elsewhere.with_suffix(".ran").exists()


def test_a_name_alone_chooses_an_option_of_ones_own_too(file: Path) -> None:
    config = compose(["workflow=signals", f"engine.name={file}->Mine", "engine.size=3"], run_dir="x")
    assert config.engine == composed(file, "Mine", "engine.size=3").engine


def test_one_runs_own_option_is_not_offered_to_the_next(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    compose(["workflow=signals", "engine=my_engines.py->Mine", "engine.size=3"], run_dir="x")
    with pytest.raises(
        ConfigError, match=r"engine=nothing: no such option; choose one of scripted, tinker, transformers, vllm"
    ):
        compose(["workflow=signals", "engine=nothing"], run_dir="x")


SUBCLASS = """
from dataclasses import dataclass

from ajet.rollout.opponents.{module} import {base}


@dataclass
class Settings({base}):
    share: float = 0.5


class Mine:
    def __init__(self, config: Settings) -> None: ...
    async def chat(self, request): ...
"""


def test_settings_made_of_a_shipped_options_own_leave_that_option_as_it_is(tmp_path: Path) -> None:
    """In another process: whoever asks first for the options must not decide which there are."""
    (tmp_path / "mine.py").write_text(SUBCLASS.format(module="random", base="RandomConfig"))
    code = (
        "import runpy; runpy.run_path('mine.py')\n"
        "from ajet.config.options import options\n"
        "from ajet.config.compose import compose\n"
        "c = compose(['workflow=signals', 'trainable_targets=[speaker]', 'opponent=mine.py->Mine'], run_dir='x')\n"
        "print(options('opponent')['random'].__module__, c.opponent.share, sorted(options('opponent')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("ajet.rollout.opponents.random 0.5 ["), done.stderr
    assert "->" not in done.stdout


@pytest.mark.parametrize("as_module", [False, True])
def test_an_option_that_was_edited_since_the_last_run_is_the_edited_one(
    as_module: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook; in the same second, and by as many characters, which a compiled file does not show."""
    monkeypatch.syspath_prepend(file.parent)
    file = file.rename(file.with_name("my_edited_engines.py"))
    entry = f"engine={'my_edited_engines:Nested' if as_module else f'{file}->Nested'}"

    def depth() -> int:
        return int(built(compose(["workflow=signals", entry], run_dir="x")).config.depth)

    assert depth() == 1
    file.write_text(ENGINES.replace("depth: int = 1", "depth: int = 7"))
    assert depth() == 7
    component = compose(["workflow=signals", entry], run_dir="x").engine.component
    assert component is compose(["workflow=signals", entry], run_dir="y").engine.component


def test_files_of_one_name_in_two_folders_do_not_mix(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        text = "from dataclasses import dataclass\n@dataclass\nclass Words:\n    size: 'Size'\n"
        (tmp_path / name / "same_name.py").write_text(f"{text}class Size:\n    number = {number}\n")
    kinds = [load_object(f"{tmp_path}/{name}/same_name.py->Words", setting="own") for name in "ab"]
    assert [get_type_hints(kind)["size"].number for kind in kinds] == [1, 2]


KNOBS = """
from dataclasses import dataclass, field

@dataclass
class Inner:
    rate: float = 0.1

@dataclass
class Settings:
    knobs: dict[str, int] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)

class Mine:
    def __init__(self, config: Settings) -> None: ...
    async def generate(self, request): ...
    def update_weights(self, weights, policy_version): ...
    def close(self): ...
"""


def engines_of(arguments: list[str], seen: list[Any]) -> int:
    """What each job of a command line has for an engine; returns the exit code."""
    return run_entry("train", load_training, lambda config: seen.append(config.engine), arguments)


def test_mappings_of_ones_own_option_can_be_set_and_its_own_keys_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("knobs.py").write_text(KNOBS)
    seen: list[Any] = []
    asked = ["workflow=signals", "engine=knobs.py->Mine", "engine.knobs.a=1", "run_dir=a"]
    assert engines_of([*asked, "engine.inner.rate=0.5"], seen) == 0
    assert (seen[0].knobs, seen[0].inner.rate) == ({"a": 1}, 0.5)
    assert engines_of([*asked[:2], "engine.inner.rat=1"], seen) == 2
    assert "unknown key engine.inner.rat: did you mean rate? keys of engine.inner: rate" in capsys.readouterr().err
    assert engines_of([*asked[:2], "engine.nobs.a=1"], seen) == 2
    said = capsys.readouterr().err
    assert said.strip().endswith("unknown key engine.nobs.a: keys of engine: inner, knobs, name")


def test_options_of_ones_own_can_be_swept_beside_those_that_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("knobs.py").write_text(KNOBS)
    seen: list[Any] = []
    arguments = ["-m", "workflow=signals", "engine=knobs.py->Mine,scripted", "hydra.sweep.dir=s"]
    assert engines_of(arguments, seen) == 0
    assert [engine.name for engine in seen] == [f"{tmp_path}/knobs.py->Mine", "scripted"]
    Path("losses.py").write_text("def one(tokens):\n    return -tokens.logp\n")
    losses = ["-m", "workflow=signals", "engine=scripted", "algorithm.loss=clip,losses.py->one", "hydra.sweep.dir=t"]
    assert engines_of(losses, seen) == 0 and len(seen) == 4
