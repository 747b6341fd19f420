"""What a part found, as JSON of its own, and all of them as one JSON and a page.

In: results. Out: `<part>.json` as soon as a part is done, `gpu.json` and `gpu.md` of all that lie in the folder, also
of parts that were run by other commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Value = str | float | int | bool | None
Rows = Sequence[Mapping[str, Value]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a part is run."""

    device: str
    small: bool
    """Tiny shapes, for a look whether every line runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of one part."""

    tables: Mapping[str, Rows] = field(default_factory=dict)
    """Rows by the table's title."""
    notes: Sequence[str] = ()
    """What could not be measured, and why."""
    failed: bool = False


def write(folder: Path, part: str, machine: Mapping[str, object], seconds: float, result: Result) -> None:
    """Write a part's JSON, then all of them anew."""
    content = {"part": part, "machine": machine, "seconds": round(seconds, 1), **asdict(result)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").write_text(json.dumps(content, indent=1) + "\n")
    write_page(folder)


def write_page(folder: Path) -> None:
    """`gpu.json` and `gpu.md` of the parts in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name != "gpu.json"]
    (folder / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "gpu.md").write_text(page(found))


def page(parts: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a section a part, with the name of the machine that it was measured on."""
    names = sorted({part["machine"]["name"] for part in parts})
    lines = [f"# {', '.join(names) or 'Nothing measured'}", ""]
    for part in parts:
        machine = part["machine"]
        versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items() if value)
        small = "; **tiny shapes: no measurement**" if machine["small"] else ""
        lines += [f"## {part['part']}", "", f"{machine['name']}; {versions}; {part['seconds']} s{small}", ""]
        for title, rows in part["tables"].items():
            lines += [f"**{title}**", "", *(table(rows) if rows else ["Nothing."]), ""]
        lines += [f"- {note}" for note in part["notes"]]
        lines += [""] if part["notes"] else []
    return "\n".join(lines).rstrip() + "\n"


def table(rows: Rows) -> list[str]:
    """Lines of a Markdown table; a column for every name that any row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(shown(row.get(name)) for name in names) + " |" for row in rows]


def shown(value: Value) -> str:
    """A number in four digits; nothing for what was not measured."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
