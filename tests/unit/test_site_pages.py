"""The documentation site: every page is in its navigation, and every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from recipes.site_pages import LINK, ROOT, pages_elsewhere, relinked

DOCS = ROOT / "docs"
SITE = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | set(pages_elsewhere().values())
SOURCES = {f"docs/{path.relative_to(DOCS).as_posix()}" for path in DOCS.rglob("*.md")} | {
    source for source in pages_elsewhere() if source.endswith(".md")
}


def pages_in(nav: Any) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else pages_in(value)


def test_every_page_stands_once_in_the_navigation() -> None:
    listed = list(pages_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(page for page in SITE if page.endswith(".md"))


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_link_of_a_page_leads_somewhere(source: str) -> None:
    targets = [found["target"] for found in LINK.finditer((ROOT / source).read_text())]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (ROOT / PurePosixPath(source).parent / target).exists()] == []


def test_links_of_the_repository_become_links_of_the_site() -> None:
    elsewhere = {"README.md": "index.md", "experiments/signals/README.md": "experiments/signals.md"}
    written = "[a](docs/models.md#x) ![b](docs/viewer/list.png) [c](src/ajet/records.py) [d](https://e.f) [g](#h)"
    assert relinked(written, "README.md", "index.md", elsewhere) == (
        "[a](models.md#x) ![b](viewer/list.png) c [d](https://e.f) [g](#h)"
    )
    finding = "[start](../../README.md) ![curve](curves.png)"
    elsewhere["experiments/signals/curves.png"] = "experiments/signals/curves.png"
    assert relinked(finding, "experiments/signals/README.md", "experiments/signals.md", elsewhere) == (
        "[start](../index.md) ![curve](signals/curves.png)"
    )


def test_the_site_asks_no_other_host_for_fonts() -> None:
    assert re.search(r"^  font: false$", Path(ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
