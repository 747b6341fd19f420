"""The rooms of src/ajet and who may import whom, enforced over the source; and what stays unloaded."""

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

SOURCE = Path(__file__).resolve().parents[2] / "src" / "ajet"

# Room -> rooms it may import besides itself and BASE. A room imports only from rows above its own;
# `workflow` and `tuner` share a row, for they name each other's types.
# `engine.base` is the contract of engines; only `assemble` may import the concrete ones.
BASE = {"author_lines", "ending", "errors", "importing", "randomness", "storage"}
SPEAKING = {"records", "config", "engine.base", "chat", "recording", "endpoint", "workflow", "tuner"}
PLAYING = SPEAKING | {"agents", "opponents", "data", "judges", "rollout"}
TABLE: dict[str, set[str]] = {
    "author_lines": set(),
    "ending": set(),
    "errors": set(),
    "importing": set(),
    "randomness": set(),
    "storage": set(),
    "records": set(),
    "statistics": set(),
    "config": set(),
    "timeline": {"records"},
    "algorithms": {"records", "config"},
    "engine": {"records", "config"},
    "chat": {"records"},
    "recording": {"records"},
    "endpoint": {"records", "chat", "engine.base", "recording"},
    "workflow": {"records", "config", "recording", "chat", "tuner"},
    "tuner": {"records", "config", "recording", "chat", "workflow"},
    "agents": SPEAKING - {"config"},
    "opponents": {"records", "chat", "agents", "workflow"},
    "data": {"records", "config"},
    "judges": {"config", "workflow"},
    "task_judge": {"judges"},  # a name that AgentJet's users import
    "schema": {"records", "workflow"},  # likewise
    "task_rollout": set(),  # likewise
    "utils": {"agents", "task_rollout"},  # likewise
    "workflows": {"records", "config", "chat", "workflow", "tuner", "agents", "opponents", "data"},
    "rollout": SPEAKING | {"agents", "opponents", "data", "judges"},
    "tracking": {"records", "config"},
    "sweeps": {"config"},
    "evaluation": {"records", "statistics", "config", "data", "rollout", "tracking", "sweeps.records"},
    "training": PLAYING | {"timeline", "algorithms", "tracking", "evaluation"},
    "analysis": {"records", "statistics", "timeline", "tracking.store", "sweeps.records"},
    "assemble": PLAYING | {"timeline", "algorithms", "engine", "workflows", "tracking", "evaluation", "training"},
    # The small model's recipe plays with what it made, as a run would.
    "models": PLAYING | {"timeline", "workflows", "tracking", "evaluation", "training", "assemble"},
    "cli": {"config", "sweeps"},
    "rollout.__main__": {"cli", "config", "workflows", "assemble"},
    "train": {"cli", "config", "workflows", "assemble"},
    "report": {"analysis"},
    "viewer": {"analysis", "timeline"},
    "view": {"analysis", "viewer"},
    "evaluate": {"cli", "config", "workflows", "evaluation", "assemble"},
    "__main__": set(),
    "": {"records", "workflow", "tuner"},  # ajet/__init__.py, for its lazy exports
}
# Heavy package -> the rooms that may import it, at any depth.
HEAVY: dict[str, set[str]] = {
    "torch": {"algorithms", "engine", "training", "models", "assemble"},
    "vllm": {"engine"},
    "accelerate": {"training", "models", "assemble"},
    "agentscope": {"agents", "utils", "workflows"},
    "gymnasium": {"workflows"},
    "wandb": {"tracking"},
    "fastapi": {"viewer"},
    "uvicorn": {"endpoint", "viewer"},
    "pandas": {"analysis", "viewer"},
    "statsmodels": {"statistics"},
    "matplotlib": {"analysis"},
    "hydra": {"config", "sweeps", "cli"},
    "omegaconf": {"config", "sweeps", "cli", "train", "evaluate", "rollout.__main__"},
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


def room_of(path: Path) -> str:
    """The table's row of a source file."""
    first = path.relative_to(SOURCE).parts[0]
    if path.name == "__main__.py" and f"{first}.__main__" in TABLE:  # an entry point, above its own package
        return f"{first}.__main__"
    return "" if first == "__init__.py" else first.removesuffix(".py")


def is_allowed(room: str, module: str) -> bool:
    """Whether a room may import an ajet module."""
    target = module.removeprefix("ajet").removeprefix(".")
    allowed = TABLE[room] | BASE | {room}
    return any(target == entry or target.startswith(f"{entry}.") for entry in allowed)


SOURCES = sorted(SOURCE.rglob("*.py"))
IDS = [str(path.relative_to(SOURCE)) for path in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_a_module_imports_only_from_the_rooms_above_its_own(path: Path) -> None:
    room = room_of(path)
    assert room in TABLE, f"{path} is in no room of the table"
    ours = [module for module in imported_modules(path) if module.partition(".")[0] == "ajet"]
    assert [module for module in ours if not is_allowed(room, module)] == []


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    heavy = {module.partition(".")[0] for module in imported_modules(path)} & set(HEAVY)
    assert [package for package in sorted(heavy) if room_of(path) not in HEAVY[package]] == []


def test_the_table_points_upwards_only() -> None:
    rows = list(TABLE)
    for room, allowed in TABLE.items():
        shared = {"workflow", "tuner"} if room in ("workflow", "tuner") else set()
        above = {name.partition(".")[0] for name in allowed} - shared
        assert all(rows.index(name) < rows.index(room) for name in above), room


def test_experiments_are_not_imported_by_the_library() -> None:
    imports = {module.partition(".")[0] for path in SOURCES for module in imported_modules(path)}
    assert imports.isdisjoint({"experiments", "notebooks", "tests"})


@pytest.mark.parametrize(
    "statement",
    [
        "import ajet",
        "import ajet.workflow",
        "from ajet.train import main; main(['--help'])",
        "from ajet.train import main; main(['workflow=werewolves', '--cfg', 'job'])",
        "from ajet.train import main; main(['workflow=werewolves', 'trainable_targets=[]'])",
        "from ajet.train import main; main(['workflow=werewolves', 'trainable_targets=[seer]', {model}, "
        "'workflow.params.num_villagers=-1'])",
        "from ajet.train import main; main(['workflow=werewolves', 'trainable_targets=[seer]', {model}, "
        "'opponent.params.foo=1'])",
        "from ajet.train import main; main(['workflow=signals', 'trainable_targets=[speaker]', {model}, "
        "'opponent.params.code=2'])",
        "from ajet.train import main; main(['workflow=frozenlake', {model}, 'workflow.params.size=99'])",
        "from ajet.evaluate import main; main(['--help'])",
        "from ajet.report import main; main(['nowhere'])",
        "from ajet.view import main; main(['nowhere'])",
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
    declared = {_name(text) for text in project["dependencies"]}
    pins = {
        _name(line) for path in (root / "requirements").glob("*.lock.txt") for line in path.read_text().splitlines()
    }
    assert declared - pins == {"torch"}  # whose build depends on the machine
    engines = {_name(text) for extra in ("cpu", "gpu") for text in project["optional-dependencies"][extra]}
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
