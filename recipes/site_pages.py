"""A hook of mkdocs: files that live elsewhere in the repository become pages, and links between them work in the site.

In: mkdocs' files of `docs/`. Out: README as the first page, CONTRIBUTING, CHANGELOG, findings and models beside it.
A link to a file of the repository that is not a page is left as text: the site does not know where the repository is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
_NAMED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def pages_elsewhere() -> dict[str, str]:
    """Path in the repository -> path in the site, of what does not lie in `docs/`."""
    found = dict(_NAMED)
    for path in sorted((ROOT / "experiments").glob("*/*")):
        if path.suffix in (".md", ".png"):
            name = path.relative_to(ROOT).as_posix()
            found[name] = f"{path.parent.relative_to(ROOT).as_posix()}.md" if path.name == "README.md" else name
    for path in sorted((ROOT / "src/ajet/engine/models").glob("*/README.md")):
        found[path.relative_to(ROOT).as_posix()] = f"models/{path.parent.name}.md"
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    from mkdocs.structure.files import File

    for source, target in pages_elsewhere().items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them."""
    elsewhere = pages_elsewhere()
    sources = {target: source for source, target in elsewhere.items()}
    place = page.file.src_uri
    return relinked(markdown, sources.get(place, f"docs/{place}"), place, elsewhere)


def relinked(markdown: str, source: str, place: str, elsewhere: dict[str, str]) -> str:
    """A page's Markdown with links from its place in the repository turned into links from its place in the site.

    Example: in README.md (`index.md` in the site), `[Models](docs/models.md)` becomes `[Models](models.md)`, and
    `[code](src/ajet/records.py)` becomes plain "code".
    """

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = PurePosixPath(os.path.normpath(PurePosixPath(source).parent / target)).as_posix()
        if path in elsewhere:
            there = elsewhere[path]
        elif path.startswith("docs/"):
            there = path.removeprefix("docs/")
        elif (ROOT / path).exists():
            return found["text"]
        else:
            return found[0]  # mkdocs will say that it leads nowhere
        shown = os.path.relpath(there, PurePosixPath(place).parent)
        return f"{found['image']}[{found['text']}]({shown}{found['anchor'] or ''})"

    return LINK.sub(link, markdown)
