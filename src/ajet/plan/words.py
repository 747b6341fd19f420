"""A plan, as a user reads it: a table of parts, what the machine has, seconds a step."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ajet.plan.machine import Machine
from ajet.plan.parts import PHASES, MemoryPlan, Setup
from ajet.plan.work import StepWork

HEADINGS = {"rollout": "playing", "credit": "playing again", "update": "updating", "sync": "publishing"}


def memory_table(plan: MemoryPlan, setup: Setup) -> Table:
    """GiB by part and phase; estimates have a tilde."""
    where = "of one GPU" if setup.device == "cuda" else "of the CPU"
    table = Table(
        title=f"memory {where}, GiB, for each process",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("~ estimated", no_wrap=True)
    for phase in PHASES:
        table.add_column(HEADINGS[phase], justify="right", no_wrap=True)
    for part in plan.parts:
        size = f"{'' if part.is_certain else '~'}{part.gib:.2f}"
        table.add_row(part.name, *(size if phase in part.phases else "" for phase in PHASES))
    table.add_section()
    table.add_row("at once", *(f"{plan.peak_gib(phase):.2f}" for phase in PHASES))
    return table


def pack_words(setup: Setup, *, measured: bool) -> str:
    """What the activations are counted for."""
    size = f"{setup.pack_tokens:,} tokens"
    if measured:
        return f"for packs as large as the largest of the run that was named, {size}"
    return (
        f"for packs of {size}, the most that algorithm.max_pack_tokens and model.max_context allow; programs with "
        "short conversations need less, which from_run=<a run of before> takes into account"
    )


def machine_words(plan: MemoryPlan, machine: Machine) -> str:
    """Whether it fits, where that is not a reason to refuse."""
    if machine.total_gib is None or machine.available_gib is None:
        return f"how much memory {machine.what} has is not known, so nothing is said on whether it fits"
    has = f"{machine.what} has {machine.total_gib:.1f} GiB, {machine.available_gib:.1f} of it free now"
    if plan.largest_gib <= machine.available_gib:
        return f"{has}: it fits"
    if plan.largest_gib <= machine.total_gib:
        return f"{has}: it fits only once others free what they hold"
    return f"{has}: it may not fit, for the largest packs need {plan.largest_gib:.1f}"


def warning(plan: MemoryPlan, machine: Machine) -> str | None:
    """What a run says before it starts, where memory may not suffice."""
    if machine.available_gib is None or plan.largest_gib <= machine.available_gib:
        return None
    return (
        f"memory may not suffice: up to {plan.largest_gib:.1f} GiB for the largest packs that the settings allow, and "
        f"{machine.available_gib:.1f} GiB are free; ajet plan shows the parts, and lower algorithm.max_pack_tokens or "
        "hardware.gradient_checkpointing=true need less"
    )


def seconds_words(seconds: Mapping[str, tuple[float, float]], *, num_unique: float) -> str:
    """A step of a run that was measured, scaled: least and most by phase; a phase that takes nothing is left out."""
    by_phase = ", ".join(f"{HEADINGS[phase]} {_range(*bounds)}" for phase, bounds in seconds.items() if bounds[1])
    least, most = (sum(side) for side in zip(*seconds.values(), strict=True))
    return (
        f"seconds a step: {_range(least, most)} ({by_phase}), scaled from the run that was named by episodes, passes "
        f"over their tokens and the model's size; it had {num_unique:,.0f} unique tokens a step"
    )


def _range(least: float, most: float) -> str:
    return f"{least:.1f}" if f"{least:.1f}" == f"{most:.1f}" else f"{least:.1f} to {most:.1f}"


def play_words(work: StepWork) -> str:
    """What a step plays."""
    said = f"a step trains on {work.num_episodes:,} episodes"
    if work.max_resamples:
        most = work.num_episodes * (1 + work.max_resamples)
        said += f", plays at most {most:,} (rollout.max_resamples={work.max_resamples})"
    if work.most_replays is None:
        said += f", and plays again what credit={work.credit} asks for, which is not known"
    elif work.most_replays:
        said += f", and plays each again at most {work.most_replays} times (credit={work.credit})"
    return said


def passes_words(work: StepWork) -> str:
    """What is done with each token of a step."""
    counts = [
        (work.num_epochs, "forward and backward"),
        (work.num_forwards, "forward without gradients"),
        (work.num_reference_forwards, "forward of the reference"),
    ]
    return "each token is computed " + ", ".join(f"{num} x {what}" for num, what in counts if num)


def speed_words(operations_per_token: float, operations_per_second: float | None, used_share: float) -> str:
    """What is known of time without a run."""
    if operations_per_second is None:
        return "seconds a step: not known, for there is no such device here to measure"
    seconds = 1000 * operations_per_token / (operations_per_second * used_share)
    return (
        f"seconds a step: all passes take about {seconds:.2g} for each 1,000 unique tokens of its packs "
        f"({operations_per_second / 1e9:,.3g} GFLOP/s measured now, {used_share:.0%} of them assumed to be used); how "
        "many there are, and how long playing takes, is the program's doing: from_run=<a run of before> tells"
    )
