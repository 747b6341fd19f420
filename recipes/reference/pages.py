"""Metrics, files of a run directory, and the map of the package: tables in the code -> pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from recipes.reference.docstrings import field_docstrings, one_line
from recipes.reference.markdown import code, prose, table
from tests.private_apis import PrivateApi

import ajet
from ajet.config.cli.commands import COMMANDS
from ajet.config.sweeps.records import JobRecord, SweepPlan
from ajet.evaluate.matrix import Cell
from ajet.evaluate.scores import Evaluation
from ajet.evaluate.statistics import Interval
from ajet.evaluate.summary import Comparison
from ajet.tracking.files.layout import EVALUATION_FILES, PLAY_FILES, RUN_FILES, SWEEP_FILES, RunFile
from ajet.tracking.metric_names import METRIC_NAMES
from ajet.tracking.store import COLUMNS, SCHEMA

PACKAGE = Path(ajet.__file__).parent
METRICS = """# Metrics

Every name in `metrics.jsonl`, on the console and in W&B, made from `src/ajet/tracking/metric_names.py` by
`python -m recipes.reference`; a test fails where the code logs a name that is not explained here. `<tag>` stands for a
`target_tag`: nothing is averaged across tags under one name. Names marked with ● are logged by evaluations, too, as
`eval/<name>`. An episode is *usable* if its status is `ok` or `policy_error`.
"""
FILES = """# Files of a run directory

Made from `src/ajet/tracking/files/layout.py` by `python -m recipes.reference`; a test holds the files of real runs
against it. Files are written whole: a reader never sees half of one.

## A training run: `outputs/<date>/<time>/`
"""


def metrics_page() -> str:
    """`docs/reference/metrics.md`."""
    spaces = dict.fromkeys(metric.pattern.partition("/")[0] for metric in METRIC_NAMES)
    parts = [METRICS]
    for space in spaces:
        found = [metric for metric in METRIC_NAMES if metric.pattern.partition("/")[0] == space]
        rows = [(code(one.pattern), one.unit, "●" * one.held_out, prose(one.meaning)) for one in found]
        parts += [f"## {space}\n", table(("name", "unit", "eval", "meaning"), rows)]
    return "\n".join(parts)


def run_directory_page() -> str:
    """`docs/reference/run-directory.md`."""
    columns = [(code(field.name), str(field.type).replace("<", "&lt;"), prose(COLUMNS[field.name])) for field in SCHEMA]
    parts = [
        FILES,
        _files(RUN_FILES),
        "## Columns of `trajectories/*.parquet`\n",
        "One row a call, agents that are not trained included. "
        "`ajet.analysis.load_run(<folder>).calls` reads them as a frame.\n",
        table(("column", "type", "meaning"), columns),
        "## `summary.json`\n",
        table(("key", "meaning"), _SUMMARY),
        "`before` and `after`, an evaluation:\n",
        _keys(Evaluation),
        "`comparison`, by measure (`score`, `reward/<tag>`, `pass@<k>`, `best@<k>`, `seat/<tag>/<agent>`):\n",
        _keys(Comparison),
        "An interval:\n",
        _keys(Interval),
        "## Playing: `outputs/rollout/<date>/<time>/`\n",
        _files(PLAY_FILES),
        "## An evaluation: `<run>/evaluations/<date>_<time>/`, or `outputs/evaluations/…` of several runs\n",
        _files(EVALUATION_FILES),
        "`evaluation.json` has `confidence`, `num_tasks`, `repeats` and `cells`, each:\n",
        _keys(Cell),
        "## A sweep: `outputs/multirun/<date>/<time>/`\n",
        _files(SWEEP_FILES),
        "`sweep.json`:\n",
        _keys(SweepPlan),
        "`job.json`:\n",
        _keys(JobRecord),
    ]
    return "\n".join(parts)


def commands_table() -> str:
    """The commands, for the README."""
    rows = [
        (code(f"ajet {name}"), prose(command.about), code(command.begin_with)) for name, command in COMMANDS.items()
    ]
    return table(("command", "what it does", "begin with"), rows)


_SUMMARY = (
    ("`num_steps`", "Training steps done."),
    ("`wall_time_s`", "Seconds by phase, those before a resume included, play beside another phase left out."),
    ("`peak_memory_gib`", "Most memory that the process held, GiB; GPU memory is not counted."),
    ("`largest_pack`", "Tokens of the largest pack of the steps since the last start."),
    (
        "`planned_gib`, `measured_gib`",
        "The largest peak as planned for that pack, and as it was; of the GPU, if one is used.",
    ),
    ("`confidence`", "Coverage of the intervals."),
    ("`before`, `after`", "The evaluations of the starting and the final policy, if there were any."),
    ("`comparison`", "Both and their paired difference, by measure."),
)


def _files(found: Sequence[RunFile]) -> str:
    return table(("file", "what"), [(code(one.path), one.meaning) for one in found])


def _keys(record: type) -> str:
    meanings = field_docstrings(record)
    rows = [(code(spec.name), prose(meanings.get(spec.name, ""))) for spec in fields(record)]
    return table(("key", "meaning"), rows)


def folders_table() -> str:
    """What lies in `src/ajet`, each with the first sentence of its docstring."""
    rows = []
    for path in sorted(PACKAGE.iterdir(), key=lambda path: (path.is_file(), path.name)):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix != ".py" or not source.is_file():
            continue
        rows.append((code(f"{path.name}/" if path.is_dir() else path.name), _what_it_holds(source)))
    return table(("in `src/ajet`", "what"), rows)


def subfolders_table() -> str:
    """What lies one or two folders further down, but for the workflows, which the README lists."""
    found = sorted(source.parent.relative_to(PACKAGE) for source in PACKAGE.rglob("*/*/__init__.py"))
    kept = [path for path in found if path.parts[0] != "workflows" and "agentjet" not in path.parts[:-1]]
    rows = [(code(f"{path}/"), _what_it_holds(PACKAGE / path / "__init__.py")) for path in kept]
    return table(("in `src/ajet`", "what"), rows)


def _what_it_holds(source: Path) -> str:
    text = (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n\n")[0]
    return prose(_first_sentence(one_line(text)))


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) (?=[A-Z`])", text, maxsplit=1)[0]


def imports_table(rows_of: Mapping[str, Collection[str]]) -> str:
    """Who may import whom, as `tests/unit/test_import_table.py` enforces it."""
    rows = [
        (code(f"ajet.{row}" if row else "ajet"), ", ".join(code(name) for name in sorted(allowed)) or "nothing")
        for row, allowed in rows_of.items()
    ]
    return table(("module or folder", "may import"), rows)


def open_sentence(base: Sequence[str]) -> str:
    """What all rows below may import, beside what the table says."""
    names = [code(f"ajet.{name}") for name in base]
    return f"{', '.join(names[:-1])} and {names[-1]} are open to all rows below theirs.\n"


def private_table(apis: Sequence[PrivateApi]) -> str:
    """What is private to other libraries and used all the same."""
    rows = [(", ".join(map(code, one.names)), code(one.where), prose(one.why), code(one.test)) for one in apis]
    return table(("what", "used in `src/ajet`", "why no public way serves", "the test that would notice"), rows)


def replaced(page: str, mark: str, content: str) -> str:
    """The page with what stands between `<!-- <mark> -->` and `<!-- /<mark> -->` made anew."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    assert found and closed, f"the page has no marks {begin.strip()} and {end}"
    return f"{before}{begin}\n{content}\n{end}{after}"
