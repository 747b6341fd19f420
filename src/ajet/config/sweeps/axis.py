"""`sweep=each|leave_one_out|powerset` and the tags to train in, an ordinary Hydra sweep of `trainable_targets` out.

The untrained table is not a job of its own: every run evaluates its starting policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import cast

from omegaconf import DictConfig, OmegaConf

from ajet.config.explain import explain_missing
from ajet.config.groups import SUBSET_KINDS
from ajet.config.workflow import WorkflowConfig, ask_class
from ajet.errors import ConfigError


def subsets(kind: str, tags: Sequence[str]) -> list[list[str]]:
    """The choices of tags, small ones first, each in the order of `tags`.

    `leave_one_out` has the full choice too, for the others are compared with it.

    Example: `subsets("leave_one_out", ["a", "b", "c"])` is `[[a, b], [a, c], [b, c], [a, b, c]]`.
    """
    sizes = {"each": [1], "leave_one_out": [len(tags) - 1, len(tags)], "powerset": range(1, len(tags) + 1)}[kind]
    return [list(choice) for size in sizes if size > 0 for choice in combinations(tags, size)]


def expand_axis(tree: DictConfig, overrides: Sequence[str]) -> list[str]:
    """The overrides with `trainable_targets` spelled out as a sweep, if the sweep group asks for one.

    Args:
        tree: composed from the overrides that are not swept.
        overrides: the command line's.

    Raises:
        ConfigError: no telling whose tags are meant, or `trainable_targets` is swept already.
    """
    kind = OmegaConf.select(tree, "sweep.kind")
    if kind not in SUBSET_KINDS:
        return list(overrides)
    given = [override for override in overrides if override.startswith("trainable_targets=")]
    if given and not _is_one_list(given[-1]):
        raise ConfigError(f"sweep={kind} chooses among trainable_targets: give one list of tags, e.g. [first,second]")
    tags = _tags(tree, kind)
    swept = "trainable_targets=" + ",".join(f"[{','.join(choice)}]" for choice in subsets(kind, tags))
    # Where it stood: the order of the command is the order of the jobs.
    return [swept if override in given else override for override in overrides] + ([] if given else [swept])


def _is_one_list(override: str) -> bool:
    value = override.partition("=")[2].strip()
    return value == "null" or (value.startswith("[") and value.endswith("]") and value.count("[") == 1)


def _tags(tree: DictConfig, kind: str) -> list[str]:
    """The tags to choose among: those to train, else those of the workflow if it has one side only."""
    if tree.trainable_targets is not None:
        return _some(list(tree.trainable_targets), kind)
    if OmegaConf.is_missing(tree.workflow, "entry"):
        raise ConfigError(explain_missing("workflow.entry"))
    workflow = ask_class(cast(WorkflowConfig, OmegaConf.to_object(tree.workflow)))
    if len(workflow.opposing_sides or ()) > 1:
        sides = " or ".join(f"[{','.join(side)}]" for side in workflow.opposing_sides or ())
        raise ConfigError(f"sweep={kind}: say whose roles are swept: trainable_targets={sides}")
    return _some(workflow.target_tags or [], kind)


def _some(tags: list[str], kind: str) -> list[str]:
    if not tags:
        raise ConfigError(f"sweep={kind} needs the tags to choose among, e.g. 'trainable_targets=[first,second]'")
    return tags
