"""`python -m ajet.plan`: what a run will need, before anything is loaded: memory by part, and seconds a step."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ajet.config.cli.arguments import read
from ajet.config.cli.latest import with_latest
from ajet.config.compose import compose
from ajet.config.hardware import local_rank_and_size, prepare_process
from ajet.config.root import Config
from ajet.errors import AjetError, ConfigError
from ajet.tracking.files.finding import named_run

FROM_RUN = "from_run="
TAKEN = ("--config-dir", "-cd")
HELP = """\
What a run will need, before anything is loaded: memory by part, and seconds a step.

  python -m ajet.plan workflow=hints
  python -m ajet.plan workflow=werewolves model=qwen3_4b hardware=gpu_1 model.max_context=8192
  python -m ajet.plan workflow=hints hardware.gradient_checkpointing=true from_run=outputs/<date>/<time>

Settings are those of python -m ajet.train, which lists them with --help. from_run names a run of the same program that
was measured before (`latest` is the newest): its largest pack and its seconds a step are taken for those to come.
Nothing is downloaded, and of the model only its config.json is read. The exit code is 0 where the run may fit, and 2
where it cannot or a setting is wrong.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    prepare_process()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        named = [one.removeprefix(FROM_RUN) for one in arguments if one.startswith(FROM_RUN)]
        command = read([one for one in arguments if not one.startswith(FROM_RUN)])
        if command.flags.help:
            print(HELP, end="")
            return 0
        flags = [flag.partition("=")[0] for flag in command.flag_arguments if flag.startswith("-")]
        others = [flag for flag in flags if flag not in TAKEN]
        if others:
            raise ConfigError(
                f"{others[0]}: a plan is of one run and takes --config-dir and --help; train takes others"
            )
        overrides = with_latest(command.overrides, command.flags.config_dir)
        config = compose(overrides, run_dir=".", config_dir=command.flags.config_dir)
        # Loads pydantic and the workflow, which `--help` does without.
        from ajet.workflows.parameters import check_parameters

        if not config.engine.trains:  # a plan needs no key of a server, and there is nothing to plan
            check_parameters(config)
        refusal = show(config, named_run(named[-1]) if named else None)
    except AjetError as error:
        refusal = " ".join(str(error).split())
    if refusal is not None:
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    return 0


def show(config: Config, from_run: Path | None) -> str | None:
    """Print the plan; returns why the run cannot fit and what would, or None where it may.

    Raises:
        ConfigError: the model is not on this machine.
        RunDirectoryError: `from_run` is not a run that was measured.
    """
    if config.engine.trains:
        print(f"nothing to plan: engine={config.engine.name} samples and trains on its server, not on this machine")
        return None
    # Load torch and transformers.
    from rich.console import Console

    from ajet.plan.fitting import refusal_of
    from ajet.plan.machine import this_machine
    from ajet.plan.planning import plan_of, sizing_of
    from ajet.plan.shapes import local_model
    from ajet.plan.speed import USED_SHARE, operations_per_second, operations_per_token, read_run, scaled_seconds
    from ajet.plan.words import (
        machine_words,
        memory_table,
        pack_words,
        passes_words,
        play_words,
        seconds_words,
        speed_words,
    )
    from ajet.plan.work import step_work

    model_path, hardware = local_model(config.model), config.hardware
    machine = this_machine(hardware.device, num_processes=local_rank_and_size()[1])
    run = None if from_run is None else read_run(from_run)
    sizing = sizing_of(config, model_path, machine)
    if run is not None and run.largest_pack is not None:
        sizing = sizing.with_pack(run.largest_pack)
    plan, shape, setup = sizing.plan(), sizing.shape, sizing.setup
    trained = f", {shape.num_trained:,} of them trained" if shape.num_adapter_parameters else ", all trained"
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{config.model.path}: {shape.num_parameters + shape.num_adapter_parameters:,} parameters{trained}\n")
    console.print(memory_table(plan, setup))
    if shape.kept_per_token is None:
        console.print("activations are not counted: this architecture does not run without its weights")
    console.print(f"\n{pack_words(setup, measured=run is not None and run.largest_pack is not None)}")
    console.print(machine_words(plan, machine))
    work = step_work(config)
    console.print(f"\n{play_words(work)}; {passes_words(work)}")
    if run is not None:
        console.print(seconds_words(scaled_seconds(run, shape, setup, work), num_unique=run.num_unique))
    else:
        speed = operations_per_second(
            hardware.device, num_threads=hardware.training_threads, mixed_precision=setup.mixed_precision
        )
        console.print(speed_words(operations_per_token(shape, setup, work), speed, USED_SHARE))
    return refusal_of(config, plan, machine, lambda other: plan_of(other, model_path, machine))


if __name__ == "__main__":
    sys.exit(main())
