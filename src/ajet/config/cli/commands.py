"""The commands, each said once: `ajet` by itself lists them, shells complete them, documents have a table of them.

Nothing is imported, for `ajet` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command, `ajet <name>` or `python -m ajet.<name>`."""

    about: str
    """What it is for."""
    begin_with: str
    """Arguments to begin with."""
    config_name: str | None = None
    """Its primary YAML file in `conf/`, where Hydra composes its settings; such a command may run for hours."""
    flags: tuple[str, ...] = ("--help",)
    """Those that it takes where Hydra does not."""


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        about="train chosen roles of a workflow, or resume a run or a sweep",
        begin_with="workflow=signals",
        config_name="train",
    ),
    "plan": Command(
        about="tell what a run will need before it starts: memory by part, seconds a step",
        begin_with="workflow=signals",
        config_name="train",
    ),
    "tune": Command(
        about="measure what packs cost and which number of threads is fastest, for a model on this machine",
        begin_with="workflow=signals",
        config_name="train",
    ),
    "rollout": Command(
        about="play a few episodes without training, told as they happen",
        begin_with="workflow=signals num_episodes=2",
        config_name="play",
    ),
    "rollout.worker": Command(
        about="play episodes here that a trainer elsewhere trains on",
        begin_with="http://<trainer>:8765 signals",
        flags=("--concurrency", "--patience", "--help"),
    ),
    "evaluate": Command(
        about="play runs on held-out tasks, a run against its starting model",
        begin_with="run=outputs/<date>/<time>",
        config_name="evaluate",
    ),
    "report": Command(
        about="write a run or a sweep up as one HTML file",
        begin_with="outputs/<date>/<time>",
        flags=("--out", "--help"),
    ),
    "view": Command(
        about="read episodes in a browser, of one run or of all below a folder",
        begin_with="outputs/<date>/<time>",
        flags=("--port", "--help"),
    ),
    "analysis.curves": Command(
        about="draw reward curves of runs",
        begin_with="<run> <run> --out curves.png",
        flags=("--out", "--help"),
    ),
    "completion": Command(about="print what a shell needs to complete all of this", begin_with="bash|zsh|fish"),
}
"""By name."""


def command_of(config_name: str) -> str:
    """The name of the command whose settings a primary YAML file has, the first that has them."""
    return next(name for name, command in COMMANDS.items() if command.config_name == config_name)
