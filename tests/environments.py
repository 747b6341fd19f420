"""Environments of their own, of what `pip install 'ajet[...]'` brings by what packages declare, and of nothing else.

In: extras of pyproject.toml. Out: an interpreter whose packages are links to those of this environment: made in a
second, without a network. A package that an extra forgot to ask for is out of reach there, though it is installed here.
"""

from __future__ import annotations

import csv
import re
import sysconfig
import tomllib
import venv
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def environment_of(extras: Collection[str], folder: Path) -> Path:
    """The interpreter of a new environment with ajet, as this checkout has it, and what it needs with these extras.

    Args:
        extras: names of `[project.optional-dependencies]`.
        folder: is made.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "ajet.pth").write_text(f"{ROOT / 'src'}\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    installed, claims = _installed()
    for name in _needed(asked, installed):
        for entry in _entries(installed[name], claims):
            link = packages / entry
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(str(installed[name].locate_file(entry)))
    return folder / "bin" / "python"


@cache
def _installed() -> tuple[Mapping[str, Distribution], Counter[str]]:
    """What this environment has by name, and how many packages have files in each folder: `google` and the like belong
    to several."""
    # Not all of sys.path: tests put other versions of packages there.
    installed = {_plain(found.name): found for found in distributions(path=[sysconfig.get_path("purelib")])}
    claims = Counter(folder for package in installed.values() for folder in _folders(package))
    return installed, claims


def _needed(asked: Iterable[str], installed: Mapping[str, Distribution]) -> set[str]:
    """Names of what is asked for, and of what that asks for in turn, so far as it is installed: pins leave things out
    that their packages can do without."""
    waiting = [Requirement(each) for each in asked]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = _plain(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen or name not in installed:
                continue
            seen.add((name, extra))
            further = map(Requirement, installed[name].requires or ())
            waiting += [each for each in further if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def _files(package: Distribution) -> list[str]:
    """Paths below `site-packages`; scripts and what lies elsewhere left out."""
    record = package.read_text("RECORD") or ""
    named = (line[0] for line in csv.reader(record.splitlines()) if line)
    return [file for file in named if not file.startswith(("..", "/"))]


def _folders(package: Distribution) -> set[str]:
    direct = {file.rpartition("/")[0] for file in _files(package)}
    return {
        "/".join(parts[:depth]) for parts in (each.split("/") for each in direct) for depth in range(1, len(parts) + 1)
    }


def _entries(package: Distribution, claims: Mapping[str, int]) -> set[str]:
    """What to link: the package's folders, whole where they are its alone."""
    entries = set()
    for file in _files(package):
        parts = file.split("/")
        ways = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        entries.add(next((way for way in ways if claims[way] == 1), file))
    return entries


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
