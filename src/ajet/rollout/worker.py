"""`python -m ajet.rollout.worker http://<trainer>:8765 <workflow>`: play episodes here, for a trainer elsewhere.

The trainer is started with `workflow=workers endpoint.host=0.0.0.0`, and both with the same AJET_WORKER_KEY. The
workflow is one like any other, a built-in name or a class of yours (`my_game.py->MyWorkflow`): its agents ask the
trainer's models by URL. Workers may come and go; one that dies has its episodes played again by others.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import yaml

from ajet.config.fields import shows_password
from ajet.config.user_code.lines import one_line, user_traceback
from ajet.errors import AjetError, ConfigError, EpisodeOverError, PolicyError, WorkflowError
from ajet.records import Task
from ajet.rollout.event_loop import EpisodeLoop
from ajet.rollout.outputs import kept_output
from ajet.rollout.remote.agreed import VERSION, worker_key
from ajet.rollout.remote.lease import Lease
from ajet.rollout.remote.tuner import RemoteTuner, TrainerClient, TrainerGoneError
from ajet.workflow import Workflow, WorkflowTask

WAIT_S = 20.0
"""That a claim waits for an episode before it is made again."""
RETRY_S = 1.0
CLOSING_S = 5.0
"""For what a program has left running on its loop."""
MOST_SAID = 1000
"""Characters of an error that are sent."""


def work(
    url: str,
    make_workflow: Callable[..., Workflow],
    *,
    concurrency: int = 8,
    patience_s: float = 60.0,
    key: str | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Play episodes until the trainer is gone; the number of those that were finished.

    Args:
        url: the trainer's, e.g. `http://trainer:8765`.
        make_workflow: a workflow object for each episode, e.g. the class; given the run's `trainable_targets`.
        concurrency: episodes at once, each on a thread of its own.
        patience_s: so long the trainer may be out of reach before its run counts as over.
        key: the trainer's; None: that of AJET_WORKER_KEY.
        stop: once it is set no more episodes are begun; who waits for one notices within `WAIT_S`.

    Raises:
        ConfigError: no key, no such address or one with a password in it, or no workflow can be made.
        AjetError: the trainer was never reached, or will not have this worker.
    """
    if shows_password(url):
        raise ConfigError("The trainer's address must not hold a password, which messages would show: export its key.")
    worker = _Worker(TrainerClient(url, worker_key(key)), make_workflow, patience_s, stop or threading.Event())
    threads = [threading.Thread(target=worker.run, name="ajet-worker", daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        worker.give_up()  # on Ctrl-C: others play its episodes at once, not when their leases end
    if worker.refusal is not None:
        raise worker.refusal
    return worker.num_finished


class _Worker:
    """What the threads of a worker share."""

    def __init__(
        self, trainer: TrainerClient, make_workflow: Callable[..., Workflow], patience_s: float, stop: threading.Event
    ) -> None:
        self._trainer = trainer
        self._make_workflow = make_workflow
        self._patience_s = patience_s
        self._stop = stop
        self._given_up = False
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._lock = threading.Lock()
        self._held = set[str]()
        self._was_reached = False
        self.num_finished = 0
        self.refusal: AjetError | None = None
        """Why no episode can be played here."""

    def run(self) -> None:
        """A thread: one episode after the other."""
        failing_since: float | None = None
        while self.refusal is None and not self._stop.is_set() and not self._given_up:
            try:
                claimed = self._trainer.ask(
                    "/claim", {"worker": self._name, "wait_s": WAIT_S, "version": VERSION}, timeout_s=WAIT_S + 10
                )
                self._was_reached, failing_since = True, None
                if claimed is not None:  # after `stop`, too: it is this worker's now
                    self._play(claimed)
            except EpisodeOverError:
                continue  # it ended between being claimed and being told of
            except TrainerGoneError as error:
                failing_since = failing_since or time.monotonic()
                if error.is_final or time.monotonic() - failing_since > self._patience_s:
                    if error.is_final or not self._was_reached:
                        self.refusal = error
                    return
                time.sleep(RETRY_S)
            except AjetError as error:
                self.refusal = error
            except (KeyError, TypeError, OSError) as error:
                # An answer that is none of this version's, or a file too many.
                self.refusal = WorkflowError(one_line(error))

    def _play(self, claimed: Mapping[str, Any]) -> None:
        """Play one episode and say how it ended; whatever it raises is the episode's end, not the worker's.

        Raises:
            ConfigError: no workflow can be made, so that none of the episodes could be played here.
        """
        path = f"/episodes/{claimed['episode']}"
        with self._lock:
            self._held.add(path)
        if self._given_up:
            self._abort(path)
            return
        workflow = self._made(claimed["trainable_targets"])  # where it raises, `give_up` gives the episode back
        task = WorkflowTask(
            task=Task(**claimed["task"]), repeat=claimed["repeat"], episode_uuid=claimed["episode_uuid"]
        )
        tuner = RemoteTuner(self._trainer, claimed["episode"], workflow.trainable_targets)
        loop = EpisodeLoop()
        asyncio.set_event_loop(loop)  # for plain functions that drive a loop themselves
        lease = Lease(self._trainer, path, claimed["lease_s"], loop)
        try:
            said = lease.hold(lambda: _outcome(workflow, task, tuner, lease))
            if said is not None:
                self._tell(path, *said)
        finally:
            with self._lock:
                self._held.discard(path)
            loop.close_within(CLOSING_S)  # behind the answer: what a program left running may take its time

    def _made(self, targets: list[str] | None) -> Workflow:
        try:
            workflow = self._make_workflow(**({} if targets is None else {"trainable_targets": targets}))
        except BaseException as error:  # whatever a user's class raises; the next episode would fare no better
            raise ConfigError(f"no workflow can be made: {' '.join(str(error).split())}") from error
        if targets is None and workflow.trainable_targets is not None:
            listed = ",".join(workflow.trainable_targets)
            raise ConfigError(
                f"{type(workflow).__name__} trains {listed}, and its trainer every agent: start that with "
                f"'trainable_targets=[{listed}]'"
            )
        return workflow

    def _tell(self, path: str, verb: str, body: Mapping[str, Any]) -> None:
        """Say how an episode ended, and say so where that cannot be done."""
        problem: AjetError | None = None
        for _ in range(3):
            try:
                self._trainer.ask(f"{path}/{verb}", body)
            except EpisodeOverError:
                return  # too late, or told already by a request whose answer was lost
            except TrainerGoneError as error:
                problem = error
                time.sleep(RETRY_S)
            except AjetError as error:  # an output that cannot be sent
                problem, verb, body = error, "abort", {"error": str(error)[:MOST_SAID]}
            else:
                with self._lock:
                    self.num_finished += verb == "finish"
                return
        print(f"warning: an episode's end could not be told: {problem}", file=sys.stderr, flush=True)

    def give_up(self) -> None:
        """Say of the episodes that are being played that they are not any more."""
        self._given_up = True
        with self._lock:
            held = list(self._held)
        for path in held:
            self._abort(path)

    def _abort(self, path: str) -> None:
        with suppress(AjetError):
            self._trainer.ask(f"{path}/abort", {"error": "the worker was stopped"}, timeout_s=RETRY_S)


def _outcome(
    workflow: Workflow, task: WorkflowTask, tuner: RemoteTuner, lease: Lease
) -> tuple[str, Mapping[str, Any]] | None:
    """What to tell the trainer of a program; None where the episode is over there already."""
    try:
        made: Any = workflow.execute(task, tuner)
        output = kept_output(lease.run(made) if inspect.isawaitable(made) else made)
        return "finish", output.model_dump()
    except BaseException as error:  # the boundary to code that users write
        if lease.is_lost or isinstance(error, EpisodeOverError):
            return None
        print(user_traceback(error), file=sys.stderr, flush=True)
        return "abort", {"error": one_line(error)[:MOST_SAID], "policy": isinstance(error, PolicyError)}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    about, _, more = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(prog="ajet rollout.worker", description=about, epilog=more)
    parser.add_argument("url", help="the trainer's, as it says it")
    parser.add_argument("workflow", help="a built-in one, or my_game.py->MyWorkflow")
    parser.add_argument("params", nargs="*", metavar="name=value", help="the workflow's parameters")
    parser.add_argument("--concurrency", type=_positive, default=8, help="episodes at once; default: %(default)s")
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="S",
        help="so long the trainer may be away; default: %(default)s s",
    )
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: its episodes are given up at once
    try:
        make_workflow = _maker(arguments.workflow, arguments.params)
        num_finished = work(
            arguments.url, make_workflow, concurrency=arguments.concurrency, patience_s=arguments.patience
        )
    except AjetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"the trainer is gone; {num_finished} episodes were played for it", file=sys.stderr)
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _maker(entry: str, params: Sequence[str]) -> Callable[[], Workflow]:
    """Workflow objects with parameters as the command line has them.

    Raises:
        ConfigError: no such workflow, or a parameter that it does not have.
    """
    from ajet.workflows.loading import load_workflow

    workflow = load_workflow(entry)
    values = {}
    for given in params:
        name, equals, value = given.partition("=")
        if not equals or name not in workflow.model_fields:
            known = ", ".join(sorted(set(workflow.model_fields) - set(Workflow.model_fields))) or "none"
            raise ConfigError(f"{given}: {workflow.__name__} takes name=value of {known}")
        values[name] = yaml.safe_load(value)
    return partial(workflow, **values)


if __name__ == "__main__":
    sys.exit(main())
