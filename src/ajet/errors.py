"""One exception type a boundary. A message is one sentence that says what to change."""

from __future__ import annotations


class AjetError(Exception):
    """Base of every error that ajet raises on purpose; entry points print it as one line."""


class ConfigError(AjetError):
    """The configuration cannot work; raised before any model loads, or by a tuner call that needs a
    setting which is absent. Never retried, never a reward."""


class EngineError(AjetError):
    """The sampling engine failed; an infrastructure failure of the episode."""


class ContextOverflowError(EngineError):
    """A prompt does not fit into the model's context, so nothing could be sampled."""


class EpisodeOverError(AjetError):
    """A model was asked after its episode had ended; nobody would see the reply."""


class WorkflowError(AjetError):
    """A workflow broke its contract with the framework (entry, output, reward)."""


class PolicyError(AjetError):
    """Raised by a workflow to say: this is the policy's own fault. The episode ends with status
    `policy_error` and `rollout.policy_error_reward`."""


class RunDirectoryError(AjetError):
    """A run directory lacks what was asked of it (resume, evaluate, analysis)."""


class TrainingError(AjetError):
    """Training cannot go on, e.g. because gradients are no longer finite; the message names the last sound state."""


class StorageError(AjetError):
    """A file cannot be written: the disk is full, there is no permission, its directory is gone. What was there
    before is kept."""


class RunInterruptedError(AjetError):
    """Ctrl-C ended a run in good order; the message says how to go on. Exit code 130."""
