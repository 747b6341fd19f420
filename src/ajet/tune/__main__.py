"""`python -m ajet.tune`: measures on this machine by what packs are best joined, and how many threads are fastest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ajet.config.cli.arguments import read
from ajet.config.compose import compose
from ajet.config.hardware import prepare_process
from ajet.config.root import Config
from ajet.errors import AjetError, ConfigError
from ajet.tracking.files.writing import write_text, writing

TO, FOLDER = "to=", "tuned"
TAKEN = ("--config-dir", "-cd")
HELP = """\
Measure on this machine, for a model, what packs cost and how many threads are fastest.

  python -m ajet.tune workflow=hints
  python -m ajet.tune workflow=hints to=my_conf/tuned/laptop.yaml
  python -m ajet.train --config-dir my_conf +tuned=laptop workflow=hints

Settings are those of python -m ajet.train. Nothing is trained. What was found is printed; `to` names a YAML file, in a
folder `tuned`, that later runs take with --config-dir and +tuned=<its name>. No run looks for it unasked, and what a
run used stands in its config.yaml. Measure while the machine does what it will do beside the run.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    prepare_process()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        named = [Path(one.removeprefix(TO)) for one in arguments if one.startswith(TO)]
        command = read([one for one in arguments if not one.startswith(TO)])
        if command.flags.help:
            print(HELP, end="")
            return 0
        flags = [flag.partition("=")[0] for flag in command.flag_arguments if flag.startswith("-")]
        if others := [flag for flag in flags if flag not in TAKEN]:
            raise ConfigError(f"{others[0]}: one model is measured, with --config-dir and --help; train takes others")
        to = named[-1] if named else None
        if to is not None and (to.suffix != ".yaml" or to.parent.name != FOLDER):
            raise ConfigError(
                f"to={to} must be a .yaml file in a folder {FOLDER}, e.g. to=my_conf/{FOLDER}/laptop.yaml"
            )
        config = compose(command.overrides, run_dir=".", config_dir=command.flags.config_dir)
        tune(config, to)
    except AjetError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def tune(config: Config, to: Path | None) -> None:
    """Measure, print, and write `to` where it is asked for.

    Raises:
        ConfigError: the model or the device is not here.
    """
    if config.engine.trains:
        raise ConfigError(f"nothing to measure: engine={config.engine.name} trains on its server, not on this machine")
    if to is not None:
        # Before minutes of measuring that could then not be kept.
        with writing(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            to.touch()
    # Loads torch and transformers.
    from ajet.tune.report import measure

    found = measure(config, print)
    print(found.words())
    if to is not None:
        write_text(to, found.yaml())
        print(f"\nwritten: {to}; python -m ajet.train --config-dir {to.parent.parent} +{FOLDER}={to.stem} ...")


if __name__ == "__main__":
    sys.exit(main())
