"""The plain contents of a report, and how they become one HTML file that needs nothing else.

In: a `Page` of texts, tables and figures. Out: HTML with its style and figures inside. Everything is escaped by the
template engine, for replies of models are among the texts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A cell that leads to another file."""

    text: str
    href: str
    """Relative to the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """Rows of cells: text, or links."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str | Link]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCall:
    """One model request in an episode: who was asked what, and the reply."""

    agent: str
    tag: str
    asked: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleEpisode:
    """One episode to read, folded away until it is asked for."""

    anchor: str
    """Its id within the page, for links."""
    title: str
    calls: Sequence[SampleCall]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands below it, in this order."""

    title: str
    notes: Sequence[str] = ()
    table: ReportTable | None = None
    figure: Figure | None = None
    caption: str = ""
    """What the figure shows, for those who cannot see it, too."""
    episodes: Sequence[SampleEpisode] = ()
    folded: Sequence[tuple[str, str]] = field(default=())
    """Long texts by title, e.g. a whole configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a report holds, before it is HTML: the answer first, then sections with figures and tables."""

    title: str
    lead: Sequence[str]
    """The answer, in sentences."""
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as one HTML file that needs nothing besides itself: figures are embedded."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(page=page, picture=_picture)


def _picture(figure: Figure) -> str:
    """A figure as a data URI. An image of its own, for ids within several inline drawings would clash."""
    buffer = io.BytesIO()
    # Without these two the same numbers would give another file every time.
    with mpl.rc_context({"svg.hashsalt": "ajet"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
