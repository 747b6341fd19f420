"""The viewer's web application: five pages over a `Catalog`, rendered here, without a script in the browser.

Whatever a model or a program wrote reaches a page through the template engine, which escapes it; and the policy sent
with each page forbids scripts and everything from elsewhere. Requests that name another host are refused, so that no
web site can read a run through a name of its own that leads here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import pandas as pd
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ajet.analysis.tokens import first_difference, load_tokenizer
from ajet.errors import RunDirectoryError
from ajet.view.catalog import Catalog, EpisodeFilter, EpisodeKey, Order, outcome_of, tags_of
from ajet.view.conversation import tokens_of, tree_of, turns_of

PAGES = Path(__file__).parent / "pages"
PER_PAGE = 50
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MOST = 10**9
"""No step, page, episode or call has a higher number; columns of numbers end at 64 bits."""
Number = Annotated[int, Query(ge=0, le=MOST)]
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


def make_app(run_dir: Path, *, hosts: Sequence[str] = LOOPBACK, root: str = "") -> FastAPI:
    """The application for one run directory.

    Args:
        run_dir: a run, finished or not.
        hosts: the names under which it may be asked.
        root: the path that leads to it, e.g. `/1`, where it is one of several.

    Raises:
        RunDirectoryError: it is not a run directory.
    """
    app = bare_app(hosts)
    catalog = Catalog(run_dir)
    catalog.episodes()  # or whoever asks first would wait for all that is read once
    pages = _Pages(catalog, root)
    routes: dict[str, Callable[..., Response]] = {
        "/": pages.episodes,
        "/group": pages.group,
        "/episode": pages.episode,
        "/call": pages.call,
        "/tree": pages.tree,
        "/compare": pages.compare,
    }
    for path, answer in routes.items():
        app.add_api_route(path, answer, response_class=Response)

    @app.exception_handler(RunDirectoryError)
    def not_there(_: Request, error: RunDirectoryError) -> HTMLResponse:
        return pages.mistake(str(error), status=404)

    @app.exception_handler(RequestValidationError)
    def not_understood(_: Request, error: RequestValidationError) -> HTMLResponse:
        wrong = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        return pages.mistake(f"This address asks for something that cannot be: {wrong}", status=400)

    @app.exception_handler(HTTPException)
    def no_such_page(_: Request, error: HTTPException) -> HTMLResponse:
        return pages.mistake(f"There is nothing at this address: {error.detail}", status=error.status_code)

    return app


def bare_app(hosts: Sequence[str]) -> FastAPI:
    """An application that answers to these names alone and has a style sheet; nothing else yet."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[host.strip("[]") for host in hosts])
    app.add_api_route("/style.css", _style, response_class=Response)
    return app


def templates() -> Environment:
    """The pages; what is put into them is escaped."""
    return Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(html: str, *, status: int = 200) -> HTMLResponse:
    """A page with the headers that every page has."""
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return HTMLResponse(html, status_code=status, headers=headers)


def _style() -> Response:
    return FileResponse(PAGES / "style.css", media_type="text/css")


def _key(split: str, step: Number, task: str, repeat: Number = 0) -> EpisodeKey:
    return EpisodeKey(split=split, step=step, task=task, repeat=repeat)


def _wanted(
    split: str = "",
    step: str = "",
    task: str = "",
    tag: str = "",
    status: str = "",
    outcome: str = "",
    least: str = "",
    most: str = "",
    order: Order = "newest",
) -> EpisodeFilter:
    """Forms send what was left empty as empty text."""
    return EpisodeFilter(
        split=split,
        step=_whole("step", step) if step.strip() else None,
        task=task.strip(),
        tag=tag,
        status=status,
        outcome=outcome,
        least=_filled("least", least) if least.strip() else None,
        most=_filled("most", most) if most.strip() else None,
        order=order,
    )


def _filled(name: str, text: str) -> float:
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        raise RequestValidationError([{"loc": (name,), "msg": f"{text!r} is not a number"}]) from None


def _whole(name: str, text: str) -> int:
    """A step as it may stand in a column of 64-bit numbers."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST)) and int(digits) <= MOST):
        raise RequestValidationError([{"loc": (name,), "msg": f"{text!r} is not a whole number from 0 to {MOST}"}])
    return int(digits)


Key = Annotated[EpisodeKey, Depends(_key)]


class _Pages:
    """The viewer's pages, one method each; FastAPI reads their parameters from the address."""

    def __init__(self, catalog: Catalog, root: str) -> None:
        self._catalog = catalog
        self._templates = templates()
        self._templates.globals.update(outcome_of=outcome_of, root=root)

    def episodes(
        self, request: Request, wanted: Annotated[EpisodeFilter, Depends(_wanted)], page: Number = 0
    ) -> HTMLResponse:
        """The episodes that the filters leave, `PER_PAGE` at a time, with links to each."""
        found = self._catalog.select(wanted)
        first = page * PER_PAGE
        return self._page(
            "episodes",
            wanted=wanted,
            choices=self._catalog.choices(),
            orders=get_args(Order),
            num_episodes=len(self._catalog.episodes()),
            num_found=len(found),
            rows=_rows(found.iloc[first : first + PER_PAGE]),
            first=first,
            page=page,
            query=_query_without_page(request),
        )

    def group(self, key: Key) -> HTMLResponse:
        """All episodes of a task in one collection."""
        group = self._catalog.group(key)
        episodes = self._catalog.episodes()
        same_task = episodes[episodes["task"] == key.task].drop_duplicates(["split", "step"])
        elsewhere = same_task[(same_task["split"] != key.split) | (same_task["step"] != key.step)]
        left, right = _extreme_tokens(group)
        return self._page(
            "group",
            key=key,
            rows=_rows(group),
            tags=tags_of(group),
            elsewhere=_rows(elsewhere.sort_values(["split", "step"])),
            left=left,
            right=right,
        )

    def episode(self, key: Key, agent: str = "") -> HTMLResponse:
        """One game as a conversation, of everybody or of one agent."""
        row = self._catalog.episode(key)
        calls = self._catalog.calls(key)
        turns = turns_of(calls)
        metadata = calls["metadata"].iloc[0] if len(calls) else {}
        return self._page(
            "episode",
            key=key,
            row=_row(row),
            tags=tags_of(row.to_frame().T),
            metadata=json.dumps(metadata, indent=2, ensure_ascii=False) if metadata else "",
            agents=list(dict.fromkeys((turn.agent, turn.tag) for turn in turns)),
            agent=agent,
            turns=[turn for turn in turns if agent in ("", turn.agent)],
        )

    def call(self, key: Key, index: Number) -> HTMLResponse:
        """One call token by token, if it has any, and the request that it answered."""
        calls = self._catalog.calls(key)
        places = [place for place, known in enumerate(calls["call_index"]) if known == index]
        if not places:
            raise RunDirectoryError(f"{key.task}, episode {key.repeat}, has no call {index}; it has {len(calls)} calls")
        turn = turns_of(calls)[places[0]]
        tokenizer = load_tokenizer(self._catalog.run())
        tokens = tokens_of(calls, places[0], tokenizer) if turn.num_sampled else None
        return self._page("call", key=key, turn=turn, tokens=tokens)

    def tree(self, key: Key) -> HTMLResponse:
        """What the trained calls of an episode share."""
        tree = tree_of(self._catalog.calls(key), load_tokenizer(self._catalog.run()))
        return self._page("tree", key=key, tree=tree)

    def compare(self, key: Key, left: Number, right: Number, other_step: Number | None = None) -> HTMLResponse:
        """Two episodes of a task side by side; `other_step`: of the right one, where it is not the left one's."""
        keys = [
            EpisodeKey(split=key.split, step=key.step, task=key.task, repeat=left),
            EpisodeKey(
                split=key.split, step=key.step if other_step is None else other_step, task=key.task, repeat=right
            ),
        ]
        rows = [self._catalog.episode(one) for one in keys]
        calls = [self._catalog.calls(one) for one in keys]
        parted = first_difference(*calls)
        return self._page(
            "compare",
            sides=[
                {"key": one, "row": _row(row), "turns": turns_of(frame)}
                for one, row, frame in zip(keys, rows, calls, strict=True)
            ],
            tags=sorted({tag for row in rows for tag in tags_of(row.to_frame().T)}),
            parted=parted,
            folded=min(map(len, calls)) if parted is None else parted,
        )

    def mistake(self, message: str, *, status: int) -> HTMLResponse:
        """What is wrong with an address, in a sentence."""
        return self._page("mistake", status=status, message=message)

    def _page(self, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        html = self._templates.get_template(f"{name}.html.jinja").render(run=self._catalog.run(), **values)
        return page(html, status=status)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [_row(row) for _, row in frame.iterrows()]


def _row(row: pd.Series) -> dict[str, Any]:
    """Cells by column; pandas' various nothings become None but in rewards, which are NaN."""
    return {
        str(name): None if not str(name).startswith("reward/") and pd.isna(value) else value
        for name, value in row.items()
    }


def _extreme_tokens(group: pd.DataFrame) -> tuple[int, int]:
    """Two episodes whose scores differ most: the best and the worst, or the first two."""
    ranked = group.dropna(subset="score").sort_values("score", ascending=False, kind="stable")
    if len(ranked) > 1 and ranked["score"].iloc[0] > ranked["score"].iloc[-1]:
        return int(ranked["repeat"].iloc[0]), int(ranked["repeat"].iloc[-1])
    repeats = group["repeat"].tolist()
    return int(repeats[0]), int(repeats[min(1, len(repeats) - 1)])


def _query_without_page(request: Request) -> str:
    """The filter as it was asked for, to be followed by `page=`."""
    kept: Mapping[str, str] = {name: value for name, value in request.query_params.items() if name != "page" and value}
    asked = request.url.replace(query="").include_query_params(**kept).query
    return f"{asked}&" if asked else ""
