"""What every entry point shares: arguments in, a validated config to the entry's action, an exit code out."""

from __future__ import annotations

from ajet.cli.entry import run_entry as run_entry
from ajet.cli.process import run_as_process as run_as_process
