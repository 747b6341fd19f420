"""`python -m ajet.report <run or sweep folder>`: one self-contained HTML file, the answer first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ajet.errors import AjetError
from ajet.tracking.files.finding import named_run


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ajet report", description=__doc__)
    parser.add_argument(
        "folder", help="a run directory, or a folder of them such as a sweep's; `latest` is the newest run"
    )
    parser.add_argument("--out", type=Path, help="the file to write; default: report.html in the folder")
    arguments = parser.parse_args(argv)
    # Loads pandas and matplotlib, which `--help` does without.
    from ajet.report.writing import write_report

    try:
        folder = named_run(arguments.folder)
        out = arguments.out or folder / "report.html"
        write_report(folder, out)
    except AjetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
