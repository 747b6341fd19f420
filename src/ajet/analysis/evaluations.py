"""What was compared on held-out tasks, by a run or by an evaluation of runs -> pandas frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ajet.analysis.frames import episodes_of, read_calls
from ajet.errors import RunDirectoryError
from ajet.tracking.files.reading import damaged, read_json

COMPARISON_COLUMNS = ["measure", "before", "after", "difference", "low", "high", "p_value", "num_tasks", "tasks_needed"]


def comparison_frame(rows: Mapping[str, Any], path: Path) -> pd.DataFrame:
    """What a run's first and last evaluation differ by.

    Args:
        rows: `comparison` of `summary.json`: by measure, `evaluate.summary.Comparison` as JSON has it.
        path: the file, for errors.

    Returns:
        One row a measure: `measure`, `before` and `after` (means), `difference` (paired by task) with its interval
        `low` to `high`, `p_value`, `num_tasks`, `tasks_needed`.

    Raises:
        RunDirectoryError: they are not what an evaluation writes.
    """
    return pd.DataFrame(_comparison_rows(rows, path), columns=COMPARISON_COLUMNS)


def _comparison_rows(rows: Mapping[str, Any], path: Path) -> list[dict[str, object]]:
    """The rows of a frame, of `summary.json` and of a cell of `evaluation.json` alike."""
    try:
        return [
            {
                "measure": measure,
                "before": row["before"]["mean"],
                "after": row["after"]["mean"],
                "difference": row["difference"]["mean"],
                "low": row["difference"]["low"],
                "high": row["difference"]["high"],
                "p_value": row["p_value"],
                "num_tasks": row["difference"]["num"],
                "tasks_needed": row["pairs_needed"],
            }
            for measure, row in rows.items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error


@dataclass(frozen=True, kw_only=True, repr=False)
class EvaluationResult:
    """What `ajet.evaluate` wrote."""

    run_dir: Path
    """Its directory."""
    summary: Mapping[str, Any]
    """`evaluation.json`."""

    @cached_property
    def comparison(self) -> pd.DataFrame:
        """One row a policy, an opponent and a measure that both it and its reference have.

        Columns: `policy`, `opponent`, and those of `comparison_frame`.
        """
        path = self.run_dir / "evaluation.json"
        try:
            rows = [
                {"policy": cell["name"], "opponent": cell["opponent"], **row}
                for cell in self.summary["cells"]
                for row in _comparison_rows(cell["comparisons"], path)
            ]
        except (KeyError, TypeError) as error:
            raise damaged(path, error) from error
        return pd.DataFrame(rows, columns=["policy", "opponent", *COMPARISON_COLUMNS])

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row an episode, with `folder`, that of its policy and opponent, in front; see `frames.episodes_of`."""
        folders = sorted({path.parent for path in (self.run_dir / "trajectories").rglob("*.parquet")})
        named = {str(folder.relative_to(self.run_dir)): sorted(folder.glob("*.parquet")) for folder in folders}
        frames = [
            episodes_of(read_calls(files)).assign(folder=name).set_index("folder").reset_index()
            for name, files in named.items()
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"folder": []})

    def __repr__(self) -> str:
        shown = self.comparison[~self.comparison["measure"].str.startswith("seat/")] if len(self.comparison) else None
        return f"{'' if shown is None else shown.round(3).to_string(index=False)}\n{self.run_dir}".lstrip()

    def _repr_html_(self) -> str:
        table: str = self.comparison.round(3).to_html(index=False)
        return f"{table}<p><code>{self.run_dir}</code></p>"


def read_evaluation(folder: str | Path) -> EvaluationResult:
    """Read the directory of an evaluation.

    Raises:
        RunDirectoryError: it is none, or damaged.
    """
    path = Path(folder) / "evaluation.json"
    if not path.is_file():
        raise RunDirectoryError(f"{folder} holds no evaluation: there is no evaluation.json")
    return EvaluationResult(run_dir=Path(folder), summary=read_json(path, dict))
