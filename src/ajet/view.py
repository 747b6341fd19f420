"""`python -m ajet.view <run>`: read a run's episodes in a browser, while it runs or afterwards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ajet.errors import AjetError, RunDirectoryError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ajet.view", description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("--port", type=int, default=8799, help="default: %(default)s; 0 takes any that is free")
    arguments = parser.parse_args(argv)
    try:
        run_dir = _one_run(arguments.run)
        # The web framework, which `--help` and mistakes do without.
        from ajet.viewer.serving import serve

        serve(run_dir, arguments.port)
    except AjetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _one_run(folder: Path) -> Path:
    """The folder itself.

    Raises:
        RunDirectoryError: it is no run directory.
    """
    from ajet.analysis import is_run, load_run

    inner = sorted(path.name for path in folder.iterdir() if is_run(path)) if folder.is_dir() else []
    if inner and not is_run(folder):
        raise RunDirectoryError(f"{folder} holds several runs, one of which can be viewed: {', '.join(inner)}")
    return load_run(folder).path


if __name__ == "__main__":
    sys.exit(main())
