"""What ajet uses of other libraries that they do not promise to keep is listed, and would be missed."""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import inspect
import logging
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import ASK, Run
from tests.private_apis import PRIVATE_APIS, PrivateApi

from ajet.rollout.event_loop import IsolatedEventLoop
from ajet.train.onednn import is_available
from ajet.tuner import AjetTuner

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "ajet"


def is_private(name: str) -> bool:
    """Whether a name says that it is its owner's own; `__init__` and Hydra's `_target_` are names of a protocol."""
    return name.startswith("_") and not name.endswith("_")


def private_part(dotted: str) -> str | None:
    """The last private part of a dotted name."""
    return next(filter(is_private, reversed(dotted.split("."))), None)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


SOURCES = sorted(SOURCE.rglob("*.py"))
NODES = [(path, node) for path in SOURCES for node in ast.walk(tree_of(path))]


def defined_here() -> set[str]:
    """Every name that ajet's own code defines."""
    names: set[str] = set()
    for _, node in NODES:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def imported(node: ast.AST) -> list[str]:
    """The dotted names of other libraries that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] != "ajet":
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


LIBRARIES = {name.partition(".")[0] for _, node in NODES for name in imported(node)}


def named(node: ast.AST) -> list[str]:
    """The dotted names of a node: imports, attributes, keywords, and texts that name something of a library."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.keyword):
        return [node.arg or ""]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value] if node.value.partition(".")[0] in LIBRARIES and " " not in node.value else []
    return imported(node)


def by_name() -> Iterator[tuple[str, str]]:
    """(module, private name) wherever the name is none of ajet's own."""
    own = defined_here() - {"_platform", "_use_async_grammar_compilation"}  # which ajet sets
    for path, node in NODES:
        for name in named(node):
            part = private_part(name)
            if part is not None and part not in own:
                yield str(path.relative_to(SOURCE)), part


def by_inheritance() -> Iterator[tuple[str, str]]:
    """(module, private name) wherever a class that inherits from a library's names what is private there, be it to use
    it, to override it, or because it did not know."""
    for path in SOURCES:
        for owner in (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef) and node.bases):
            used = {node.attr for node in ast.walk(owner) if isinstance(node, ast.Attribute) and is_private(node.attr)}
            used |= {node.name for node in owner.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            for name in sorted(filter(is_private, used)):
                if name in privates_of_bases(path, owner.name):
                    yield str(path.relative_to(SOURCE)), name


@cache
def privates_of_bases(path: Path, name: str) -> set[str]:
    """Private names in the source of a class's bases, ajet's own and Python's built-in ones left out."""
    module = importlib.import_module(".".join(("ajet", *path.relative_to(SOURCE).with_suffix("").parts)))
    kind = vars(module).get(name)
    found: set[str] = set()
    for base in inspect.getmro(kind)[1:] if isinstance(kind, type) else ():
        if base.__module__.partition(".")[0] in ("ajet", "builtins", "abc", "typing"):
            continue
        try:
            source = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):  # written in C
            continue
        found |= {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute) and is_private(node.attr)}
        found |= set(filter(is_private, vars(base)))
    return found


def test_every_private_name_of_another_library_is_listed_and_none_is_listed_that_is_not_used() -> None:
    listed = {(api.where, part) for api in PRIVATE_APIS for name in api.names if (part := private_part(name))}
    assert {*by_name(), *by_inheritance()} == listed


@pytest.mark.parametrize("api", PRIVATE_APIS, ids=lambda api: f"{api.where}: {api.names[0]}")
def test_what_is_listed_stands_where_it_says(api: PrivateApi) -> None:
    nodes = list(ast.walk(tree_of(SOURCE / api.where)))
    words = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    words |= {node.id for node in nodes if isinstance(node, ast.Name)}
    words |= {alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    words |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}  # which override what they name
    texts = " ".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    for name in api.names:
        assert name in texts or name.rpartition(".")[2] in words or name.rpartition(".")[2] in texts, name


@pytest.mark.parametrize("test", sorted({api.test for api in PRIVATE_APIS}))
def test_the_test_that_would_notice_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    functions = ast.walk(tree_of(ROOT / path))
    assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}


class CountingExecutor(ThreadPoolExecutor):
    """Counts what it is asked to do."""

    num_asked = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.num_asked += 1
        return super().submit(*args, **kwargs)


def test_a_client_asks_no_thread_what_platform_it_is_on() -> None:
    async def program(tuner: AjetTuner) -> None:
        asyncio.get_running_loop().set_default_executor(threads)
        client = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
        await client.chat.completions.create(messages=ASK, model="any")

    run = Run(train_tokenizer(["hello"], vocab_size=280, max_context=256))
    with CountingExecutor() as threads:
        assert run.one(program).status == "ok"
        assert threads.num_asked == 0
    run.endpoint.close()


def test_a_torch_that_has_onednn_has_its_product() -> None:
    has_onednn: bool = torch.backends.mkldnn.is_available()
    assert is_available() == has_onednn


def test_the_logger_that_is_silenced_is_the_one_that_would_speak() -> None:
    speaker = importlib.import_module("torch._library.triton")
    assert speaker.logger is logging.getLogger("torch._library.triton")
    assert "Triton not available" in inspect.getsource(speaker)


@pytest.mark.parametrize(("make_loop", "num_words"), [(asyncio.SelectorEventLoop, 1), (IsolatedEventLoop, 0)])
def test_a_task_that_is_left_behind_ends_without_a_word(make_loop: Any, num_words: int) -> None:
    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    said: list[Any] = []
    loop = make_loop()
    loop.set_exception_handler(lambda loop, context: said.append(context["message"]))
    task = loop.create_task(waits())
    loop.run_until_complete(asyncio.sleep(0))
    del task
    gc.collect()
    loop.close()
    assert said == ["Task was destroyed but it is pending!"] * num_words
