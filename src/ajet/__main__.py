"""`ajet <command>`, the same as `python -m ajet.<command>`; by itself it lists the commands, a line each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ajet.config.cli.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, or print them all; returns the exit code, 2 if there is no such command."""
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(f"{_text()}\n\nEach has --help. `latest` stands for the newest run wherever a run directory is taken.")
        return 0
    if name not in COMMANDS:
        print(f"error: there is no command {name}\n\n{_text()}", file=sys.stderr)
        return 2
    return _main_of(name)(arguments)


def _text() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  ajet {name:<{width}}  {command.about}: {command.begin_with}" for name, command in COMMANDS.items()]
    return "\n".join(["ajet trains the language model behind chosen roles of a multi-agent program.", "", *lines])


def _main_of(name: str) -> Callable[[Sequence[str]], int]:
    """The command's own entry point, imported now: they load what they need."""
    if name == "completion":
        return _completion
    from importlib import import_module

    main: Callable[[Sequence[str]], int] = import_module(
        f"ajet.{name}" if "." in name else f"ajet.{name}.__main__"
    ).main
    return main


def _completion(arguments: Sequence[str]) -> int:
    """`ajet completion <shell>` prints its script, which asks `ajet completion query` with the line in COMP_LINE."""
    from ajet.config.cli.completion import SCRIPTS, completions

    if list(arguments) == ["query"]:
        line = os.environ.get("COMP_LINE", "")
        place = int(os.environ.get("COMP_POINT") or len(line))
        print("\n".join(completions(line[:place])))
        return 0
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        print(f"error: name a shell: ajet completion {'|'.join(SCRIPTS)}", file=sys.stderr)
        return 2
    print(SCRIPTS[arguments[0]])
    return 0


def command() -> NoReturn:
    """Run the command and end the process with its exit code."""
    named = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if named is None or named.config_name is None:
        sys.exit(main())
    from ajet.config.cli.process import run_as_process

    run_as_process(main)


if __name__ == "__main__":
    command()
