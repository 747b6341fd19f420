"""A folder of runs: a page that lists them, and each run's own pages below a number of its.

Runs are looked for anew whenever the list is asked for; a run's trajectories are read when it is first opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ajet.analysis import load_run, runs_below
from ajet.errors import RunDirectoryError
from ajet.view.app import LOOPBACK, bare_app, make_app, page, templates


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """A run as the list shows it."""

    number: int
    """Its place in the addresses, from 1."""
    name: str
    """Its path below the folder."""
    state: str = ""
    num_steps: int = 0
    workflow: str = ""
    trained: str = ""
    seed: str = ""
    wrong: str = ""
    """Why it cannot be read; empty if it can."""

    @property
    def line(self) -> str:
        """The run in a line for the console: number, name, what it trains, how far it is, or why it cannot be read."""
        about = self.wrong or f"{self.workflow}, {self.trained}, seed {self.seed}: {self.state}, {self.num_steps} steps"
        return f"{self.number:>3}  {self.name}  {about}"


class RunFolder:
    """The runs below a folder; each keeps its number, also when others come."""

    def __init__(self, folder: Path) -> None:
        """`folder` is read whenever `runs` is asked, so that new runs appear while the viewer is open."""
        self.folder = folder
        self._numbers: dict[Path, int] = {}

    def runs(self) -> list[RunEntry]:
        """Those that are there now, in the order of their paths."""
        found = sorted(runs_below(self.folder))
        for path in found:
            self._numbers.setdefault(path, len(self._numbers) + 1)
        return [_listed(self._numbers[path], path, self.folder) for path in found]

    def path(self, number: int) -> Path | None:
        """The run that was listed under a number."""
        return next((path for path, known in self._numbers.items() if known == number), None)


def _listed(number: int, path: Path, folder: Path) -> RunEntry:
    name = str(path.relative_to(folder))
    try:
        run = load_run(path)
        targets = run.config.get("trainable_targets")
        return RunEntry(
            number=number,
            name=name,
            state=run.state,
            num_steps=run.num_steps,
            workflow=str(run.config.get("workflow.entry", "")),
            trained="+".join(map(str, targets)) if isinstance(targets, list) else "all roles",
            seed=str(run.config.get("seed", "")),
        )
    except RunDirectoryError as error:
        return RunEntry(number=number, name=name, wrong=str(error))


def make_folder_app(folder: RunFolder, *, hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """The application for a folder of runs.

    Args:
        folder: runs, of which there may be none yet.
        hosts: the names under which it may be asked.
    """
    app = bare_app(hosts)
    pages = templates()

    def listed(wrong: str = "", status: int = 200) -> HTMLResponse:
        html = pages.get_template("runs.html.jinja").render(folder=folder.folder, runs=folder.runs(), wrong=wrong)
        return page(html, status=status)

    app.add_api_route("/", lambda: listed(), response_class=HTMLResponse)
    app.mount("/", _RunApp(folder, hosts))

    @app.exception_handler(HTTPException)
    def no_such_page(_: Request, error: HTTPException) -> HTMLResponse:
        return listed(f"There is nothing at this address: {error.detail}", error.status_code)

    @app.exception_handler(RunDirectoryError)
    def not_there(_: Request, error: RunDirectoryError) -> HTMLResponse:
        return listed(str(error), 404)

    return app


class _RunApp:
    """`/<number>/…` -> that run's own application, made when it is first asked for."""

    def __init__(self, folder: RunFolder, hosts: Sequence[str]) -> None:
        self._folder = folder
        self._hosts = hosts
        self._apps: dict[int, ASGIApp] = {}
        self._making = Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = scope["path"].removeprefix(scope.get("root_path", "")).strip("/").partition("/")[0]
        number = int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0
        path = self._folder.path(number)
        if path is None:
            raise HTTPException(404, "no run has this number")
        root = f"/{first}"
        with self._making:
            if number not in self._apps:
                self._apps[number] = make_app(path, hosts=self._hosts, root=root)
        await self._apps[number]({**scope, "root_path": f"{scope.get('root_path', '')}{root}"}, receive, send)
