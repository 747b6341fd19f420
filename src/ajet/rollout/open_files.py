"""Open files: how many this process may have, and how many episodes at once that allows.

An episode that comes by URL holds three at its peak: what wakes its loop, its client's connection and the server's end
of that. One that stays in the process holds none, and is counted alike: which it will be shows in play.
"""

from __future__ import annotations

import logging
import os
import resource

from ajet.errors import ConfigError

log = logging.getLogger(__name__)

PER_EPISODE = 3
KEPT_BACK = 64
"""For logs, trajectories, checkpoints and what an engine opens while it works."""
_UNLIMITED = 10_240
"""Asked for where the hard limit is none: macOS gives no process more."""


def fitting_concurrency(concurrency: int) -> int:
    """As many of these episodes at once as this process may open files for, after raising its limit as far as it goes.

    Raises:
        ConfigError: not a single one.
    """
    limit = _raised_limit()
    fitting = (limit - _num_open() - KEPT_BACK) // PER_EPISODE
    if fitting < 1:
        raise ConfigError(
            f"This process may have {limit} files open, too few for a single episode: raise the limit (ulimit -n)."
        )
    if fitting < concurrency:
        log.warning(
            "rollout.concurrency=%d is lowered to %d: this process may have %d files open (ulimit -n), and an episode "
            "that comes by URL needs %d.",
            concurrency,
            fitting,
            limit,
            PER_EPISODE,
        )
    return min(concurrency, fitting)


def _raised_limit() -> int:
    """The limit on open files, the soft one raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _UNLIMITED) if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max(soft, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _num_open() -> int:
    return len(os.listdir("/dev/fd"))
