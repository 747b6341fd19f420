"""Code that a configuration names: recorded when a run is made, and compared before a run directory may name it again.

A run directory that comes from elsewhere could otherwise run whatever its config.yaml names, or send the value of any
environment variable to any address. Code inside ajet needs no record. Nothing is imported here: modules are looked up
as Python would, without running their packages.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from ajet.config.algorithm_checks import user_functions
from ajet.config.fields import CODE, SENT_TO, marked, without_password
from ajet.config.root import Config
from ajet.config.user_code.cells import FILE, is_kept
from ajet.config.user_code.finding import files_of
from ajet.config.user_code.helpers import helper_files
from ajet.config.user_code.lines import PACKAGE
from ajet.errors import ConfigError, RunDirectoryError
from ajet.tracking.files.reading import read_json
from ajet.tracking.files.signing import is_own, signature
from ajet.tracking.files.writing import write_json
from ajet.workflows import builtin_workflows

RECORD = "code.json"


def record_code(config: Config, run_dir: Path) -> None:
    """Write down, in this user's name, what the run's configuration names."""
    code = named_code(config)
    signed = signature(code)
    if code and signed is None:
        told = "warning: no key can be kept in ~/.config/ajet, so resume and evaluate will ask for trust_code=true"
        print(told, file=sys.stderr, flush=True)
    write_json(run_dir / RECORD, {"code": code, "signature": signed})


def require_known_code(
    config: Config, run_dir: Path, *, setting: str, trusted: bool, own_opponent: bool, training: bool = False
) -> None:
    """Refuse to use a run directory that names code, or a key, that this user did not use when the run was made.

    Args:
        config: as the run directory has it.
        run_dir: with its record, if it has one.
        setting: of the command line, with its value, for the message.
        trusted: `trust_code`; then anything goes.
        own_opponent: whether the run's own opponent is used.
        training: whether the run will train; else what it learns by, and a logger of one's own, is not run.

    Raises:
        ConfigError: what would be run, and how to allow it.
    """
    if trusted:
        return
    known = _recorded(run_dir)
    for what, digest in named_code(config, opponent=own_opponent, training=training).items():
        shown = without_password(what)
        if not digest and known.get(what):
            raise ConfigError(
                f"{setting} needs {shown}, and there is no such file or module here: start where there is"
            )
        if known.get(what) != digest and not (digest in known.values() and _is_kept(what, run_dir)):
            why = "has changed since the run was made" if what in known else "is not recorded as yours"
            raise ConfigError(
                f"{setting} would use {shown}, which {why}: look at it, and allow it with trust_code=true"
            )


def named_code(config: Config, *, opponent: bool = True, training: bool = True) -> dict[str, str]:
    """What is outside ajet: setting and value -> SHA-256 of the files that it runs, "" where there are none.

    Example: `{"workflow.entry=/home/ann/game.py->Game": "9f86d0…"}`.
    """
    entries = dict(user_functions(config.algorithm)) if training else {}
    for named in marked(config, CODE):
        of_training = named.key in ("logger.own", "credit.name")
        unused = (named.key.startswith("opponent.") and not opponent) or (of_training and not training)
        if not unused and not (named.key == "workflow.entry" and named.value in builtin_workflows()):
            entries[named.key] = named.value
    found: dict[str, str] = {}
    for setting, entry in entries.items():
        files = files_of(entry)
        if not files or not all(file.is_relative_to(PACKAGE) for file in files):
            # Of a notebook's class nothing that lies beside it is imported.
            helpers = [] if not files or is_kept(files[-1].read_bytes()) else helper_files(files[-1])
            found[f"{setting}={entry}"] = _digest([*files, *(file for file in helpers if file not in files)])
    for named in marked(config, SENT_TO):
        section = named.key.rpartition(".")[0]
        if section != "opponent" or opponent:
            address = getattr(named.section, named.mark)
            found[f"{named.key}={named.value} for {section}.{named.mark}={address}"] = ""
    return found


def _is_kept(what: str, run_dir: Path) -> bool:
    """Whether it is a notebook's class, which moves with the run directory and is known by what its file says: nothing
    that lies beside it is imported."""
    file = run_dir.resolve() / FILE
    return what.startswith(f"workflow.entry={file}->") and file.is_file() and is_kept(file.read_bytes())


def _recorded(run_dir: Path) -> dict[str, object]:
    if not (run_dir / RECORD).is_file():
        return {}
    try:
        record = read_json(run_dir / RECORD, dict)
    except RunDirectoryError:
        return {}
    code = record.get("code")
    return code if isinstance(code, dict) and is_own(code, record.get("signature")) else {}


def _digest(files: list[Path]) -> str:
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return hashlib.sha256(" ".join(contents).encode()).hexdigest() if files else ""
