"""`python -m ajet.view <run or folder of runs>`: read episodes in a browser, while they are played or afterwards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ajet.errors import AjetError
from ajet.tracking.files.finding import named_run


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ajet view", description=__doc__)
    parser.add_argument("run", help="a run directory, or a folder of several, e.g. outputs; `latest` is the newest run")
    parser.add_argument("--port", type=int, default=8799, help="default: %(default)s; 0 takes any that is free")
    arguments = parser.parse_args(argv)
    try:
        run = named_run(arguments.run, trained=False)
        _require_run(run)
        # The web framework, which `--help` and mistakes do without.
        from ajet.view.serving import serve

        serve(run, arguments.port)
    except AjetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _require_run(path: Path) -> None:
    """Make sure that there is something to read.

    Raises:
        RunDirectoryError: neither a run directory nor a folder of some.
    """
    from ajet.analysis import load_run, runs_below

    if not (path.is_dir() and next(runs_below(path), None)):
        load_run(path)


if __name__ == "__main__":
    sys.exit(main())
