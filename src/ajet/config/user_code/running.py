"""The boundary around code of users that runs before any episode does: what it raises becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ajet.config.user_code.lines import one_line
from ajet.errors import AjetError, ConfigError, is_users


@contextmanager
def running_user_code(setting: str) -> Iterator[None]:
    """Around code of a user's that runs before any episode does.

    Args:
        setting: the setting that named it, with its value, for errors.

    Raises:
        ConfigError: the code raised, were it `SystemExit`; the message names the user's line.
    """
    try:
        yield
    except AjetError:
        raise
    except BaseException as error:  # the boundary to code that users write
        if is_users(error):
            raise
        raise ConfigError(f"{setting}: {one_line(error)}") from error
