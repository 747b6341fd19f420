"""`latest` in place of a run directory: `run=latest`, `runs=[latest,base]`, `resume=latest`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ajet.config.cli.arguments import overrides_of
from ajet.config.compose import compose_tree
from ajet.config.options import parsed
from ajet.tracking.files.finding import LATEST, newest_run

KEYS = ("run", "runs", "resume")
"""Settings that name run directories."""


def with_latest(overrides: Sequence[str], config_dir: str | None = None) -> list[str]:
    """The overrides with the newest run in place of `latest`, and a word on which that is.

    Args:
        overrides: of a command line.
        config_dir: one more folder of YAML files, which may say where runs go.

    Raises:
        ConfigError: there is no run yet.
    """
    if not any(LATEST in override for override in overrides):
        return list(overrides)
    return [_spelled_out(override, overrides, config_dir) for override in overrides]


def _spelled_out(override: str, overrides: Sequence[str], config_dir: str | None) -> str:
    (read,) = parsed([override])
    value = read.value() if read.key_or_group in KEYS and not read.is_sweep_override() else None
    named = value if isinstance(value, list) else [value]
    if LATEST not in named:
        return override
    paths = [other for other in overrides if other.startswith(("paths=", "paths."))]
    newest = newest_run(compose_tree(paths, config_dir=config_dir).paths.output_root)
    print(f"{LATEST} is {newest}", file=sys.stderr, flush=True)
    found = [str(newest) if item == LATEST else item for item in named]
    return overrides_of({read.key_or_group: found if isinstance(value, list) else found[0]})[0]
