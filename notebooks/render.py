"""Run the notebooks anew and keep what they show: `python notebooks/render.py [name …]`, some minutes for all.

Each runs in a kernel of its own and in an empty folder, whose place is left out of what is kept.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
LEFT_OUT = ("IProgress not found", "Kernel is running over TCP")
"""Warnings about the machine that rendered."""


def render(path: Path) -> None:
    """Run one notebook and write it with its outputs."""
    content = nbformat.read(path, as_version=4)
    places = [str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            content,
            timeout=900,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(places)})
        for cell in content.cells:
            cell.metadata.pop("execution", None)  # times of day
            if cell.cell_type == "code":
                shown = [out for out in cell.outputs if not any(word in out.get("text", "") for word in LEFT_OUT)]
                cell.outputs = [nbformat.from_dict(_without(out, f"{os.path.realpath(folder)}/")) for out in shown]
    nbformat.write(content, path)


def _without(output: object, place: str) -> object:
    """The output without a folder's name."""
    return json.loads(json.dumps(output).replace(place, ""))


if __name__ == "__main__":
    for notebook in sorted(HERE.glob("*.ipynb")):
        if len(sys.argv) == 1 or notebook.stem in sys.argv[1:]:
            print(notebook.name, flush=True)
            render(notebook)
