"""Which tags may be trained: one rule for a run's configuration and for a workflow object that Python makes.

In: tags and sides. Out: nothing, or the error. Light, for the configuration asks before anything loads.
"""

from __future__ import annotations

from collections.abc import Sequence

from ajet.errors import ConfigError


def check_targets(
    targets: Sequence[str] | None, *, tags: Sequence[str], opposing_sides: Sequence[Sequence[str]]
) -> None:
    """Refuse tags that do not exist, and to train sides together that play against each other.

    Args:
        targets: those to train; None for all.
        tags: all that the workflow uses; empty where it cannot say.
        opposing_sides: those sides, with the tags of each.

    Raises:
        ConfigError: which tags or sides there are.
    """
    if targets is not None:
        named = f"among {', '.join(tags)}" if tags else "that the workflow uses"
        if not targets:
            raise ConfigError(f"trainable_targets=[] trains no agent: name tags {named}, or null for every agent")
        if len(set(targets)) < len(targets):
            raise ConfigError(f"trainable_targets={_listed(targets)} names a tag twice")
        unknown = [tag for tag in targets if tags and tag not in tags]
        if unknown:
            raise ConfigError(f"trainable_targets: unknown tag {', '.join(unknown)}; choose {named}")
    trained = set(tags if targets is None else targets)
    sides = [side for side in opposing_sides if trained.intersection(side)]
    if len(sides) > 1:
        raise ConfigError(
            f"trainable_targets={'null' if targets is None else _listed(targets)} trains opposing sides "
            f"together; choose tags of one side: {' or '.join(_listed(side) for side in sides)}"
        )


def _listed(tags: Sequence[str]) -> str:
    return f"[{','.join(tags)}]"
