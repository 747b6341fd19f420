"""Files that outsiders and their tools read: they agree with the package."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

import ajet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_one_version_stands_everywhere() -> None:
    versions = {ajet.__version__, PROJECT["version"], load("CITATION.cff")["version"]}
    assert len(versions) == 1
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] in {"Unreleased", *versions}


def test_the_changelog_has_only_the_sections_that_readers_know() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= known


def test_every_hook_before_a_commit_is_local() -> None:
    assert {repo["repo"] for repo in load(".pre-commit-config.yaml")["repos"]} == {"local"}


def test_pull_requests_are_tested_on_the_pythons_that_the_package_names() -> None:
    tested = load(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    assert set(tested) == named
    lowest = min(tested, key=lambda version: int(version.partition(".")[2]))
    assert PROJECT["requires-python"] == f">={lowest}"


def test_no_docstring_says_nothing() -> None:
    nodes = [node for path in (ROOT / "src").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    documented = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    told = [(node.name, ast.get_docstring(node)) for node in documented]
    assert [name for name, text in told if text is not None and text.strip(" .") in ("", "Nothing")] == []


def test_no_class_name_is_used_twice() -> None:
    nodes = [node for path in (ROOT / "src").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert [name for name, num in names.items() if num > 1] == []


def test_source_and_documents_leave_the_glossarys_rejected_words_out() -> None:
    rejected = re.compile(r"\b(authors?|strangers?|knobs?)\b", re.IGNORECASE)
    documents = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "glossary.md"]
    found = [path for path in [*(ROOT / "src").rglob("*.py"), *documents] if rejected.search(path.read_text())]
    assert found == []
