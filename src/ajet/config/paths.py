"""Where runs go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PathsConfig:
    """The paths group."""

    output_root: str = "outputs"
    """Run directories are made below it, by date and time."""
