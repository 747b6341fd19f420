"""The rows of src/ajet and who may import whom, enforced over the source; and what stays unloaded."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ajet.errors import EXTRAS

SOURCE = Path(__file__).resolve().parents[2] / "src" / "ajet"

# Module or folder -> what it may import besides itself, what lies within it, and BASE. A row of a folder or module
# within another counts for it alone. A row imports only from rows above its own. `config.fields` is what components
# declare their settings with, and `config` imports these; `engine.base` is the contract of engines, whose concrete ones
# are reached through their configuration alone.
BASE = (
    "errors",
    "tracking.files",
    "config.user_code",
    "config.cli.ending",
    "config.fields",
    "config.component",
    "config.hardware",
)
"""Open to all rows below their own."""
CALLS = {"rollout.agent_model", "rollout.running_episode", "rollout.refusals", "rollout.replaying"}
SPEAKING = CALLS | {"records", "config", "engine.base", "chat", "data.randomness", "rollout.endpoint"}
SPEAKING |= {"workflow", "tuner"}
PLAYING = SPEAKING | {"rollout", "rollout.agents", "rollout.opponents", "rollout.judges", "data"}
THREADS = {"rollout.boundary", "rollout.event_loop", "rollout.own_thread"}
MAINS = {"config.cli", "config", "workflows", "workflows.parameters", "analysis", "assemble"}
OPTIONS = {
    "engine.base",
    "engine.tinker",
    "engine.packaged",
    "rollout.endpoint",
    "rollout.opponents",
    "rollout.judges",
    "data",
    "train.algorithms.credit",
}
TABLE: dict[str, set[str]] = {
    "errors": set(),
    "tracking.files": set(),
    "config.user_code": set(),
    "config.cli.ending": set(),
    "config.fields": set(),
    "config.component": set(),
    "config.hardware": set(),
    "records": set(),
    "evaluate.statistics": set(),
    "data.randomness": set(),
    "engine": {"records"},
    "chat": {"records"},
    "plan.parts": set(),
    "train.timeline": {"records"},
    "rollout.refusals": set(),
    "rollout.answering": {"chat"},
    "rollout.replaying": {"records", "data.randomness"},
    "rollout.running_episode": {"records", "chat", "data.randomness", "rollout.answering", "rollout.replaying"},
    "rollout.agent_model": {"records", "chat", "engine.base", "data.randomness", "rollout.refusals"}
    | {"rollout.running_episode"},
    "rollout.endpoint": {"records", "chat"} | CALLS,
    "rollout.agents": {"chat", "rollout.endpoint"} | CALLS,
    "tuner": {"records", "chat", "rollout.endpoint", "rollout.agents"} | CALLS,
    "workflow": {"records", "chat", "tuner"},
    "rollout.opponents": {"records", "chat", "rollout.agents", "rollout.running_episode", "workflow"},
    "rollout.boundary": set(),
    "rollout.event_loop": set(),
    "rollout.own_thread": {"rollout.boundary", "rollout.event_loop", "workflow"},
    "rollout.judges": {"records", "workflow", "rollout.own_thread"},
    "rollout.agents.agentjet": {"records", "workflow", "rollout.agents", "rollout.judges"},
    "data": {"records", "data.randomness"},
    "workflows": {"records", "chat", "workflow", "tuner", "data", "rollout.agents", "rollout.opponents"},
    "tracking": {"records"},
    "rollout.remote": {"records", "workflow", "tuner", "rollout.endpoint", "rollout.agents"},
    "rollout.outputs": {"workflow"},
    "rollout.worker": {"records", "workflow", "workflows", "rollout.remote", "rollout.event_loop", "rollout.outputs"},
    "train.algorithms.credit": {"records"},
    "config": {"records", "workflows", "tracking"} | OPTIONS,
    "config.sweeps": {"config", "tracking"},
    "config.cli": {"config", "config.sweeps", "workflows"},
    "train.algorithms": {"records", "config", "train.algorithms.credit"},
    "workflows.parameters": {"workflow", "rollout.opponents", "config", "workflows"},
    "rollout": SPEAKING
    | THREADS
    | {"data", "rollout.outputs", "rollout.agents", "rollout.opponents", "rollout.judges"},
    "evaluate": {"records", "evaluate.statistics", "config", "config.sweeps.records", "data", "rollout", "tracking"}
    | {"rollout.opponents", "engine.tinker"},
    "train": PLAYING
    | {"plan.parts", "train.timeline", "train.algorithms", "tracking", "evaluate", "engine.families", "engine.grammars"}
    | {"engine.tinker_engine", "engine.tinker_service", "engine.stepped"},
    "plan": {"config", "engine.base", "engine.packaged", "engine.stepped", "plan.parts", "tracking", "train"},
    "analysis": {"records", "evaluate.statistics", "train.timeline", "tracking.store", "config.sweeps.records"}
    | {"config.renamed"},
    "report": {
        "records",
        "plan.parts",
        "analysis",
        "evaluate.statistics",
        "tracking.sane_ranges",
        "tracking.store",
        "tracking.text",
        "config.sweeps.records",
    },
    "view": {"records", "analysis", "train.timeline", "tracking.store", "tracking.text"},
    "assemble": PLAYING
    | {"engine", "workflows", "workflows.parameters", "tracking", "evaluate"}
    | {"train.timeline", "train.algorithms", "train", "plan", "plan.parts"},
    "rollout.__main__": MAINS,
    "train.__main__": MAINS | {"train"},
    "evaluate.__main__": {
        "config.cli",
        "config",
        "workflows",
        "workflows.parameters",
        "evaluate",
        "analysis",
        "assemble",
    },
    "tune.fitting": {"train"},
    "tune": {"records", "config", "engine.stepped", "train", "train.algorithms", "assemble", "tune.fitting"},
    "tune.__main__": {"config.cli", "config", "tune"},
    "plan.__main__": {"config.cli", "config", "workflows", "workflows.parameters", "plan"},
    "report.__main__": {"report"},
    "view.__main__": {"analysis", "view"},
    # Packages that can be called as functions: `ajet.train(...)` does what `python -m ajet.train` does.
    "rollout.__init__": {"workflow", "analysis", "rollout.__main__"},
    "train.__init__": {"workflow", "analysis", "train.__main__"},
    "evaluate.__init__": {"analysis", "evaluate.__main__"},
    "__main__": {"config.cli", "config"},
    # ajet/__init__.py, for its lazy exports
    "": {"records", "workflow", "tuner", "rollout.__init__", "train.__init__", "evaluate.__init__"},
}
# Heavy package -> the rows that may import it, at any depth.
HEAVY: dict[str, set[str]] = {
    "torch": {"train.algorithms", "engine", "train", "plan", "assemble", "tune"},
    "vllm": {"engine"},
    "accelerate": {"train", "assemble"},
    "agentscope": {"rollout.agents", "rollout.agents.agentjet", "rollout.remote", "workflows"},
    "gymnasium": {"workflows"},
    "wandb": {"tracking"},
    "fastapi": {"view"},
    "uvicorn": {"rollout.endpoint", "rollout.remote", "view"},
    "pandas": {"analysis", "report", "view"},
    "statsmodels": {"evaluate.statistics"},
    "matplotlib": {"analysis", "report"},
    "hydra": {"config", "config.sweeps", "config.cli"},
    "omegaconf": {"config.fields", "config", "config.sweeps", "config.cli"}
    | {"train.__main__", "evaluate.__main__", "rollout.__main__"},
}


def imported_modules(path: Path) -> Iterator[str]:
    """Every absolute module name that a file imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from ajet import tuner` may name a module; `from ajet.tuner import x` may not.
            if node.module == "ajet":
                yield from (f"ajet.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def module_of(path: Path) -> str:
    """A source file's name within ajet; empty for ajet/__init__.py. Of callable packages, a row of its own."""
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    if name in TABLE:
        return name
    return name.removesuffix("__init__").rstrip(".")


def row_of(module: str) -> str | None:
    """The row that counts for a module: the longest that it lies in."""
    rows = [row for row in TABLE if module == row or (row and module.startswith(f"{row}."))]
    return max(rows, key=len, default=None)


def is_allowed(row: str, module: str) -> bool:
    """Whether a row may import an ajet module."""
    target = module.removeprefix("ajet").removeprefix(".")
    rows = list(TABLE)
    if row_of(target) in BASE and rows.index(row_of(target) or "") < rows.index(row):
        return True
    if row_of(target) == row or f"{target}.__init__" in TABLE[row]:
        return True
    # A part of a row may be allowed alone; a row that is allowed lends what lies within it unless that has a row.
    allowed = [name for name in TABLE[row] if target == name or target.startswith(f"{name}.")]
    return any(len(name) >= len(row_of(target) or "") for name in allowed)


SOURCES = sorted(SOURCE.rglob("*.py"))
IDS = [str(path.relative_to(SOURCE)) for path in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_a_module_imports_only_from_the_rows_above_its_own(path: Path) -> None:
    row = row_of(module_of(path))
    assert row is not None, f"{path} is in no row of the table"
    ours = [module for module in imported_modules(path) if module.partition(".")[0] == "ajet"]
    assert [module for module in ours if not is_allowed(row, module)] == []


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_heavy_packages_stay_in_their_rows(path: Path) -> None:
    heavy = {module.partition(".")[0] for module in imported_modules(path)} & set(HEAVY)
    assert [package for package in sorted(heavy) if row_of(module_of(path)) not in HEAVY[package]] == []


def test_the_table_points_upwards_only() -> None:
    rows = list(TABLE)
    for row, allowed in TABLE.items():
        above = {row_of(name) for name in allowed}
        assert all(name in rows[: rows.index(row)] for name in above), row


def test_the_folder_has_few_entries() -> None:
    # A folder with nothing but caches is what another version left behind; py.typed is a mark for type checkers. Seven
    # of them are commands, which Python finds by an entry's name alone.
    entries = [path for path in SOURCE.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))]
    assert len(entries) <= 21


def test_experiments_are_not_imported_by_the_library() -> None:
    imports = {module.partition(".")[0] for path in SOURCES for module in imported_modules(path)}
    assert imports.isdisjoint({"experiments", "notebooks", "tests"})


@pytest.mark.parametrize(
    "statement",
    [
        "import ajet",
        "import ajet.workflow",
        "import ajet; ajet.train, ajet.rollout, ajet.evaluate",
        "from ajet.train.__main__ import main; main(['--help'])",
        "from ajet.train.__main__ import main; main(['workflow=werewolves', '--cfg', 'job'])",
        "from ajet.train.__main__ import main; main(['workflow=werewolves', 'trainable_targets=[]'])",
        "from ajet.train.__main__ import main; main(['workflow=werewolves', 'trainable_targets=[seer]', {model}, "
        "'workflow.params.num_villagers=-1'])",
        "from ajet.train.__main__ import main; main(['workflow=werewolves', 'trainable_targets=[seer]', {model}, "
        "'opponent.params.foo=1'])",
        "from ajet.train.__main__ import main; main(['workflow=signals', 'trainable_targets=[speaker]', {model}, "
        "'opponent.params.code=2'])",
        "from ajet.train.__main__ import main; main(['workflow=frozenlake', {model}, 'workflow.params.size=99'])",
        "from ajet.evaluate.__main__ import main; main(['--help'])",
        "from ajet.plan.__main__ import main; main(['--help'])",
        "from ajet.plan.__main__ import main; main(['workflow=werewolves', 'trainable_targets=[]'])",
        "from ajet.tune.__main__ import main; main(['--help'])",
        "from ajet.tune.__main__ import main; main(['to=laptop'])",
        "from ajet.report.__main__ import main; main(['nowhere'])",
        "from ajet.view.__main__ import main; main(['nowhere'])",
    ],
)
def test_light_commands_load_neither_torch_nor_vllm_nor_agentscope(statement: str, checkpoint: Path) -> None:
    statement = statement.replace("{model}", repr(f"model.path={checkpoint}"))
    heavy = {"torch", "vllm", "agentscope", "transformers", "accelerate", "wandb", "fastapi", "uvicorn", "openai"}
    heavy |= {"gymnasium"}
    check = f"import sys; print('LOADED', sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})\n{statement}\n{check}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.endswith("LOADED []\n"), done.stdout + done.stderr


def _name(requirement: str) -> str:
    """A requirement's package, spelled as package indexes do."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def test_every_package_that_is_imported_is_declared_and_pinned() -> None:
    root = SOURCE.parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    declared = {
        _name(text)
        for text in (*project["dependencies"], *(t for name in [*set(EXTRAS) - {"cpu", "gpu"}] for t in extras[name]))
    }
    pins = {
        _name(line) for path in (root / "requirements").glob("*.lock.txt") for line in path.read_text().splitlines()
    }
    assert declared - pins == {"torch"}  # whose build depends on the machine
    engines = {_name(text) for extra in ("cpu", "gpu", "notebooks") for text in extras[extra]}
    imported = {
        name.partition(".")[0]
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _absolute(node)
    }
    providers = packages_distributions()
    undeclared = {
        module
        for module in imported - sys.stdlib_module_names - {"ajet"}
        if not {_name(package) for package in providers.get(module, [module])} & (declared | engines)
    }
    assert undeclared == set()


def _absolute(node: ast.AST) -> list[str]:
    """The modules that a statement imports by their whole names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
