"""Where runs go."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.tracking.files.finding import OUTPUT_ROOT


@dataclass
class PathsConfig:
    """Where output goes."""

    output_root: str = OUTPUT_ROOT
    """Run directories are made below it, by date and time."""
