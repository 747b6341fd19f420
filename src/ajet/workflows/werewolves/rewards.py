"""Who is trained for which side, and what a game is worth to it: 1 for a win, 0 for a loss. Nothing in between, so
that nothing but winning is taught."""

from __future__ import annotations

from collections.abc import Collection

from ajet.errors import ConfigError
from ajet.workflows.werewolves.game import ROLES, WEREWOLF, Side


def trained_side(targets: Collection[str] | None, roles: Collection[str] = ROLES) -> Side:
    """The side that the trained roles play for.

    Args:
        targets: roles to train; None means all.
        roles: roles at the table.

    Raises:
        ConfigError: no role, a role that is not at the table, or roles of both sides.
    """
    good = [role for role in ROLES if role in roles and role != WEREWOLF]
    choices = f"[{WEREWOLF}] or some of [{', '.join(good)}]"
    if targets is None:
        raise ConfigError(f"trainable_targets=null would train opposing sides together: choose {choices}")
    if not targets:
        raise ConfigError(f"trainable_targets=[] trains no agent: choose {choices}")
    for target in targets:
        if target not in roles:
            raise ConfigError(f"trainable_targets: this table has no {target}; choose {choices}")
    if WEREWOLF in targets and len(set(targets)) > 1:
        raise ConfigError(f"trainable_targets=[{', '.join(targets)}] trains opposing sides together: choose {choices}")
    return "werewolves" if WEREWOLF in targets else "good"


def reward(winner: Side, side: Side) -> float:
    """1.0 if the side won, else 0.0."""
    return float(winner == side)
