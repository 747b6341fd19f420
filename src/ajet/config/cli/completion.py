"""Shell completion: the line so far in, what its last word may become out. Keys and options of groups are Hydra's.

eval "$(ajet completion bash)"            # in ~/.bashrc; zsh likewise
ajet completion fish | source             # in ~/.config/fish/config.fish
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from ajet.config.cli.commands import COMMANDS
from ajet.config.cli.entry import show_completions
from ajet.tracking.files.finding import LATEST, OUTPUT_ROOT, runs_below

FLAGS = ("-m", "--multirun", "--cfg", "--resolve", "--config-dir", "--info", "--help", "--hydra-help")
"""Of the commands that Hydra composes."""
AFTER_FLAG = {"--cfg": ("job", "hydra", "all"), "-c": ("job", "hydra", "all")}
RUN_KEYS = ("run", "resume", "from_run")
SCRIPTS = {
    "bash": """\
_ajet_complete() {
    # What is completed is the last word of the whole line: bash would cut it at every = and :.
    local word=${COMP_LINE:0:COMP_POINT}
    word=${word##* }
    local cut=${word%"${COMP_WORDS[COMP_CWORD]}"}
    case ${COMP_WORDS[COMP_CWORD]} in '='|':') cut=$word ;; esac
    local IFS=$'\\n'
    COMPREPLY=($(COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT ajet completion query 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -o nospace -o default -F _ajet_complete ajet""",
    "zsh": """\
_ajet_complete() {
    local -a found
    found=(${(f)"$(COMP_LINE=${(j: :)words[1,CURRENT]} COMP_POINT= ajet completion query 2>/dev/null)"})
    compadd -S '' -a found || _files
}
autoload -Uz compinit && compinit
compdef _ajet_complete ajet""",
    "fish": """\
complete -c ajet -a '(COMP_LINE=(commandline -cp) COMP_POINT= ajet completion query 2>/dev/null)'""",
}
"""Shell -> what it must run once."""


def completions(line: str) -> list[str]:
    """What the last word of a line may become.

    Args:
        line: the command line up to the cursor, `ajet` included.
    """
    _, *words = line.split(" ")
    words = [word for word in words[:-1] if word] + words[-1:]
    if len(words) < 2:
        return [name for name in COMMANDS if name.startswith(words[0] if words else "")]
    name, word = words[0], words[-1]
    command = COMMANDS.get(name)
    if name == "completion":
        return [shell for shell in SCRIPTS if shell.startswith(word)]
    if words[-2] in AFTER_FLAG:
        return [choice for choice in AFTER_FLAG[words[-2]] if choice.startswith(word)]
    if word.startswith("-"):
        flags = FLAGS if command is None or command.config_name is not None else command.flags
        return [flag for flag in flags if flag.startswith(word)]
    key, equals, value = word.rpartition("=")
    if command is None or command.config_name is None:
        return [run for run in _runs() if run.startswith(word)]
    if equals and key in RUN_KEYS:
        return [f"{key}={run}" for run in _runs() if run.startswith(value)]
    return _hydras(command.config_name, words[1:])


def _runs() -> Iterator[str]:
    """`latest`, and the runs below the folder where they go by default."""
    yield LATEST
    root = Path(OUTPUT_ROOT)
    yield from sorted(map(str, runs_below(root)), reverse=True) if root.is_dir() else []


def _hydras(config_name: str, words: Sequence[str]) -> list[str]:
    """What Hydra's own completion says, by the flag that it has for that."""
    asked = [word for word in words if not word.startswith("-")]
    with redirect_stdout(StringIO()) as said, suppress(Exception):  # a shell shows no errors while one types
        os.environ["COMP_LINE"] = f"ajet {' '.join(asked)}"
        os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
        show_completions(config_name)
    return said.getvalue().split()
