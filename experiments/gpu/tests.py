"""Part `tests`: `pytest -m gpu`, counted."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from experiments.gpu.results import Result, Settings, Value

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "gpu"
SECONDS = 480


def measure(settings: Settings) -> Result:
    """Each test with its seconds; why it failed or was skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", str(FOLDER)]
        ended = subprocess.run([*command, f"--junitxml={report}"], timeout=SECONDS, capture_output=True, text=True)
        rows = _rows(report) if report.is_file() else []
    summary = ended.stdout.strip().splitlines()[-1:] or [ended.stderr.strip()[-500:]]
    return Result(tables={"pytest -m gpu": rows}, notes=summary, failed=ended.returncode != 0)


def _rows(report: Path) -> list[dict[str, Value]]:
    rows: list[dict[str, Value]] = []
    for case in ElementTree.parse(report).iter("testcase"):
        row: dict[str, Value] = {"test": case.get("name"), "result": "passed", "seconds": float(case.get("time") or 0)}
        for kind in ("failure", "error", "skipped"):
            found = case.find(kind)
            if found is not None:
                row |= {"result": kind, "why": " ".join((found.get("message") or "").split())[:200]}
        rows.append(row)
    return rows
