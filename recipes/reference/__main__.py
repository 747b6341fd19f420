"""Write the pages that are made from the code: `python -m recipes.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recipes.reference.pages import (
    commands_table,
    folders_table,
    imports_table,
    metrics_page,
    open_sentence,
    private_table,
    replaced,
    run_directory_page,
    subfolders_table,
)
from recipes.reference.settings import settings_page
from tests.private_apis import PRIVATE_APIS
from tests.unit.test_import_table import BASE, TABLE

DOCS = Path(__file__).resolve().parents[2] / "docs"


def pages() -> Iterator[tuple[Path, str]]:
    """Each page and what it should hold."""
    yield DOCS / "reference" / "settings.md", settings_page()
    yield DOCS / "reference" / "metrics.md", metrics_page()
    yield DOCS / "reference" / "run-directory.md", run_directory_page()
    readme = DOCS.parent / "README.md"
    yield readme, replaced(readme.read_text(), "commands", commands_table())
    design = (DOCS / "design.md").read_text()
    design = replaced(design, "folders", folders_table())
    design = replaced(design, "subfolders", subfolders_table())
    design = replaced(design, "open", open_sentence(BASE))
    design = replaced(design, "imports", imports_table(TABLE))
    yield DOCS / "design.md", replaced(design, "private", private_table(PRIVATE_APIS))


def main() -> None:
    """Write what differs, and say what that was."""
    for path, content in pages():
        if not path.is_file() or path.read_text() != content:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
