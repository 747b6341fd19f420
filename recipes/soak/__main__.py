"""Kill a run at random moments, resume it each time, and see that it ends as one that was never killed.

    python -m recipes.soak                       # each kind of run, 20 kills
    python -m recipes.soak one --kills 3 --seed 7

Moments are drawn from the seed, which is shown: some while the run starts, the others in its next two steps; half of
them at one of the next changes in the run directory, so that short pieces of writing are met as often as long ones of
play. How far a run comes until then depends on the machine.
"""

from __future__ import annotations

import argparse
import math
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recipes.soak.attempts import ENDS_WITHIN_S, LOOK_S, Attempt, started
from recipes.soak.comparing import EXACT, ROUNDING, Tolerance, first_difference

from ajet.tracking.files.checkpoints import saved_steps

RUN = [
    *("workflow=signals", "model=tiny", "rollout.num_tasks=4", "rollout.group_size=6"),
    *("algorithm.num_minibatches=2", "algorithm.warmup_steps=2", "eval.num_tasks=4", "eval.every=3"),
    *("checkpoint.every=1", "checkpoint.keep=2", "logger=rich", "logger.wandb.mode=disabled"),
    *("hardware.sampling_threads=1", "hardware.training_threads=1"),
]
IN_START, TERMINATED, AT_A_WRITE = 0.25, 0.25, 0.5
"""Shares of the kills: while the run starts; by SIGTERM instead of SIGKILL; at a change in the run directory."""
MOST_WRITES = 12
"""Changes in the run directory that are seen in a step, about."""
STEPS_A_KILL = 2
"""Most steps that a run is given between two kills, before the changes that are waited for."""
WHOLE_RUN_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A way to start a run."""

    num_processes: int
    tolerance: Tolerance
    """Of what the killed run ends with."""
    overrides: tuple[str, ...] = ("engine=transformers",)

    def command(self, *overrides: str) -> list[str]:
        """What starts it with these settings, and no others."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.num_processes}"]
        return [sys.executable, *(launcher if self.num_processes > 1 else []), "-m", "ajet.train", *overrides]


# One request at a time: what a server samples together would differ from run to run, and with it what it samples.
SERVED = ("engine=vllm_server", "engine.max_concurrency=1", "engine.kv_cache_gib=0.1", "rollout.concurrency=1")
KINDS = {
    "one": Kind(num_processes=1, tolerance=EXACT),
    "two": Kind(num_processes=2, tolerance=ROUNDING),
    "fsdp": Kind(num_processes=2, tolerance=ROUNDING, overrides=("engine=transformers", "hardware.data_parallel=fsdp")),
    "served": Kind(num_processes=1, tolerance=ROUNDING, overrides=SERVED),
}


class SoakError(Exception):
    """The run did not do what it promises; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long the uninterrupted run took, in seconds."""

    start: float
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When and how an attempt is ended."""

    in_start: bool
    share: float
    """Of the start's time, or of the first `STEPS_A_KILL` steps behind it, in [0, 1)."""
    num_writes: int
    """Changes in the run directory to wait for then."""
    delay: float
    """Seconds behind the last of them."""
    signum: signal.Signals
    victim: str
    """`rank 0` and so on, `all`, or `launcher`."""


def draw(rng: random.Random, kind: Kind) -> Kill:
    """The next kill."""
    signum = signal.SIGTERM if rng.random() < TERMINATED else signal.SIGKILL
    victims = [f"rank {rank}" for rank in range(kind.num_processes)]
    if kind.num_processes > 1:
        # Of a launcher's SIGKILL its ranks do not hear.
        victims.append("launcher" if signum == signal.SIGTERM else "all")
    return Kill(
        in_start=rng.random() < IN_START,
        share=rng.random(),
        num_writes=rng.randint(1, MOST_WRITES) if rng.random() < AT_A_WRITE else 0,
        delay=rng.uniform(0.0, 0.01),
        signum=signum,
        victim=rng.choice(victims),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """One kind of run, its folder and the number of its kills."""

    kind: Kind
    folder: Path
    num_kills: int

    def run(self, rng: random.Random) -> Counter[str]:
        """Returns the phases that were met.

        Raises:
            SoakError: a run failed, did not end when it was killed, or ended otherwise than the uninterrupted one.
        """
        expected, run_dir = self.folder / "uninterrupted", self.folder / "killed"
        pace = self._train(expected, "uninterrupted")
        say(f"the uninterrupted run took {pace.start:.1f} s to start and {pace.step:.2f} s a step")
        phases: Counter[str] = Counter()
        for number in range(1, self.num_kills + 1):
            phases[self._kill(run_dir, number, draw(rng, self.kind), pace)] += 1
        say(f"resumes {_after(run_dir)} and is left alone")
        self._train(run_dir, "last")
        found = first_difference(run_dir, expected, self.kind.tolerance)
        if found is not None:
            raise SoakError(f"the killed run ended otherwise than the uninterrupted one: {found} (see {self.folder})")
        return phases

    def _command(self, run_dir: Path) -> list[str]:
        """What starts the run or resumes it: before there is a configuration there is nothing to resume."""
        if (run_dir / "config.yaml").is_file():
            return self.kind.command(f"resume={run_dir}")
        num_steps = STEPS_A_KILL * self.num_kills + 3
        return self.kind.command(*RUN, *self.kind.overrides, f"total_steps={num_steps}", f"run_dir={run_dir}")

    def _train(self, run_dir: Path, name: str) -> Pace:
        """Let it train to its end."""
        command, begun = self._command(run_dir), time.monotonic()
        with started(command, self.folder / f"{name}.log", run_dir, self.kind.num_processes) as attempt:
            while not attempt.has_ended() and time.monotonic() < begun + WHOLE_RUN_S:
                attempt.look()
                time.sleep(0.05)
            code = attempt.process.poll()
            if code != 0:
                how = "did not end" if code is None else f"failed with exit code {code}"
                raise SoakError(f"the run {how}:\n{attempt.last_words()}")
            loop = attempt.loop_begun or begun
            num_steps = max(saved_steps(run_dir), default=1)
            return Pace(start=loop - begun, step=(time.monotonic() - loop) / num_steps)

    def _kill(self, run_dir: Path, number: int, kill: Kill, pace: Pace) -> str:
        """Start or resume, and end it by the signal; returns the phase that it was in."""
        resumed, begun = _after(run_dir), time.monotonic()
        screen = self.folder / f"attempt_{number}.log"
        with started(self._command(run_dir), screen, run_dir, self.kind.num_processes) as attempt:
            _wait(attempt, kill, pace, begun)
            if attempt.has_ended():
                raise SoakError(f"the run ended before kill {number}:\n{attempt.last_words()}")
            phase, at = attempt.phase, time.monotonic() - begun
            pids = {f"rank {rank}": [pid] for rank, pid in enumerate(attempt.ranks)}
            pids |= {"launcher": [attempt.process.pid], "all": attempt.pids()}
            watched = [*attempt.pids(), *attempt.children()]
            attempt.send(kill.signum, pids[kill.victim])
            left = attempt.left_after(watched, ENDS_WITHIN_S)
            what = f"{kill.signum.name} of {kill.victim}" if self.kind.num_processes > 1 else kill.signum.name
            say(f"kill {number}/{self.num_kills}: {what} in {phase}, {at:.1f} s after it began {resumed}")
            if left:
                raise SoakError(f"processes {left} had not ended {ENDS_WITHIN_S:.0f} s after:\n{attempt.last_words()}")
        return phase


def _wait(attempt: Attempt, kill: Kill, pace: Pace, begun: float) -> None:
    """Until the moment of the kill, or the end of the run."""
    num_writes = 0
    while not attempt.has_ended():
        changed = attempt.look()
        # A launcher that is killed while it starts its ranks would leave some of them behind.
        if attempt.ranks and _is_due(attempt, kill, pace, begun):
            num_writes += changed
            if num_writes >= kill.num_writes:
                time.sleep(kill.delay if kill.num_writes else 0.0)
                return
        time.sleep(LOOK_S)


def _is_due(attempt: Attempt, kill: Kill, pace: Pace, begun: float) -> bool:
    """Whether the time of the kill has come, but for the changes to wait for. Whole steps are counted and not timed, so
    that a run on a busy machine comes as far."""
    if kill.in_start:
        return time.monotonic() >= begun + kill.share * pace.start
    part_of_step, num_steps = math.modf(kill.share * STEPS_A_KILL)
    if attempt.num_saved != num_steps:
        return attempt.num_saved > num_steps
    return time.monotonic() >= attempt.step_begun + part_of_step * pace.step


def _after(run_dir: Path) -> str:
    """From where a start takes up the run."""
    steps = saved_steps(run_dir)
    return f"from step {steps[-1]}" if steps else "from the beginning"


def say(text: str) -> None:
    """A line of the log."""
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 where a run did not end as it should."""
    parser = argparse.ArgumentParser(prog="python -m recipes.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=KINDS, help="of run; default: each of them")
    parser.add_argument("--kills", type=int, default=20, help="of each kind (20)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the moments")
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    parser.add_argument("--folder", type=Path, default=Path("outputs/soak") / stamp, help="of runs and what they said")
    arguments = parser.parse_args(argv)
    if arguments.folder.exists():
        parser.error(f"--folder {arguments.folder} is there already: name one that is not")
    for name in [arguments.kind] if arguments.kind else KINDS:
        kind, folder = KINDS[name], (arguments.folder / name).resolve()
        folder.mkdir(parents=True)
        say(f"{name}: {arguments.kills} kills, --seed {arguments.seed}, in {folder}")
        try:
            phases = Soak(kind=kind, folder=folder, num_kills=arguments.kills).run(random.Random(arguments.seed))
        except SoakError as error:
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
            return 1
        met = ", ".join(f"{phase} {num}" for phase, num in phases.most_common())
        say(f"{name}: after {arguments.kills} kills ({met}) the run ended as the uninterrupted one did")
    return 0


if __name__ == "__main__":
    sys.exit(main())
