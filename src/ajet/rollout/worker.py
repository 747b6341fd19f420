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
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import yaml

from ajet.config.user_code.lines import one_line, user_traceback
from ajet.errors import AjetError, ConfigError, EpisodeOverError, PolicyError
from ajet.records import Task
from ajet.rollout.remote.tuner import RemoteTuner, TrainerClient, TrainerGoneError
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

KEY = "AJET_WORKER_KEY"
WAIT_S = 20.0
"""That a claim waits for an episode before it is made again."""
RETRY_S = 1.0
RENEWALS = 3
"""In the time of a lease."""
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
    """Play episodes until the trainer is gone; the number that it took.

    Args:
        url: the trainer's, e.g. `http://trainer:8765`.
        make_workflow: a workflow object for each episode, e.g. the class; given the run's `trainable_targets`.
        concurrency: episodes at once, each on a thread of its own.
        patience_s: so long the trainer may be out of reach before its run counts as over.
        key: the trainer's; None: that of AJET_WORKER_KEY.
        stop: once it is set no more episodes are begun; who waits for one notices within `WAIT_S`.

    Raises:
        ConfigError: no key, or no workflow can be made.
        TrainerGoneError: it was never reached, or does not know the key.
    """
    key = key if key is not None else os.environ.get(KEY, "")
    if not key:
        raise ConfigError(f"The trainer lets workers in by a key: export {KEY} as it is there.")
    worker = _Worker(TrainerClient(url, key), make_workflow, patience_s, stop or threading.Event())
    threads = [threading.Thread(target=worker.run, name="ajet-worker", daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        worker.give_up()  # on Ctrl-C: others play its episodes at once, not when their leases end
    if worker.refused is not None:
        raise worker.refused
    return worker.num_taken


class _Worker:
    """What the threads of a worker share."""

    def __init__(
        self, trainer: TrainerClient, make_workflow: Callable[..., Workflow], patience_s: float, stop: threading.Event
    ) -> None:
        self._trainer = trainer
        self._make_workflow = make_workflow
        self._patience_s = patience_s
        self._stop = stop
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._lock = threading.Lock()
        self._held = set[str]()
        self._reached_at: float | None = None
        self._started_at = time.monotonic()
        self.num_taken = 0
        self.refused: AjetError | None = None

    def run(self) -> None:
        """A thread: one episode after the other."""
        while self.refused is None and not self._stop.is_set():
            try:
                claimed = self._trainer.ask(
                    "/claim", {"worker": self._name, "wait_s": WAIT_S}, timeout_s=WAIT_S + RETRY_S + 10
                )
                self._reached_at = time.monotonic()
            except EpisodeOverError:
                continue  # it ended between being claimed and being told of
            except TrainerGoneError as error:
                if self._is_over(error):
                    return
                time.sleep(RETRY_S)
                continue
            if claimed is not None:  # after `stop`, too: it is this worker's now
                self._play(claimed)

    def _is_over(self, error: TrainerGoneError) -> bool:
        since = self._reached_at or self._started_at
        if error.is_final or time.monotonic() - since > self._patience_s:
            if self._reached_at is None or error.is_final:
                self.refused = error
            return True
        return False

    def _play(self, claimed: Mapping[str, Any]) -> None:
        """Play one episode and say how it ended; whatever it raises is the episode's end, not the worker's."""
        path, targets = f"/episodes/{claimed['episode']}", claimed["trainable_targets"]
        self._held.add(path)
        try:
            workflow = self._make_workflow(**({} if targets is None else {"trainable_targets": targets}))
        except Exception as error:  # whatever a user's class raises; the next episode would fare no better
            self.refused = ConfigError(f"no workflow can be made: {' '.join(str(error).split())}")
            return  # and `give_up` gives it back
        task = WorkflowTask(
            task=Task(**claimed["task"]), repeat=claimed["repeat"], episode_uuid=claimed["episode_uuid"]
        )
        tuner = RemoteTuner(self._trainer, claimed["episode"], targets)
        lease = _Lease(self._trainer, path, claimed["lease_s"])
        try:
            output = lease.hold(lambda: workflow.execute(task, tuner))
            if not isinstance(output, WorkflowOutput):
                raise TypeError(f"execute returned {type(output).__name__}, and a WorkflowOutput is needed")
            verb, body = "finish", output.model_dump(mode="json")
        except (EpisodeOverError, asyncio.CancelledError):
            return
        except BaseException as error:  # the boundary to code that users write
            print(user_traceback(error), file=sys.stderr, flush=True)
            verb, body = "abort", {"error": one_line(error)[:MOST_SAID], "policy": isinstance(error, PolicyError)}
        finally:
            self._held.discard(path)
        self._tell(f"{path}/{verb}", body)

    def give_up(self) -> None:
        """Say of the episodes that are being played that they are not any more."""
        for path in list(self._held):
            with suppress(AjetError):
                self._trainer.ask(f"{path}/abort", {"error": "the worker was stopped"}, timeout_s=RETRY_S)

    def _tell(self, path: str, body: Mapping[str, Any]) -> None:
        for _ in range(3):
            try:
                self._trainer.ask(path, body)
            except EpisodeOverError:
                return  # too late, or told already by a request whose answer was lost
            except TrainerGoneError:
                time.sleep(RETRY_S)
            except AjetError as error:  # an output that cannot be sent
                path, body = f"{path.rpartition('/')[0]}/abort", {"error": str(error)[:MOST_SAID], "policy": False}
            else:
                with self._lock:
                    self.num_taken += path.endswith("/finish")
                return


def _nothing() -> None:
    pass


class _Lease:
    """Renews an episode's lease while it is played, and cancels a program whose episode is over."""

    def __init__(self, trainer: TrainerClient, path: str, lease_s: float) -> None:
        self._trainer = trainer
        self._path = path
        self._every_s = lease_s / RENEWALS
        self._done = threading.Event()
        self._cancel: Callable[[], None] = _nothing

    def hold(self, program: Callable[[], Any]) -> Any:
        """What the program returns; asynchronous ones get a loop of their own."""
        renewing = threading.Thread(target=self._renew, daemon=True)
        renewing.start()
        try:
            made = program()
            return asyncio.run(self._cancellable(made)) if inspect.isawaitable(made) else made
        finally:
            self._done.set()

    async def _cancellable(self, made: Any) -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(made)

        def cancel() -> None:
            with suppress(RuntimeError):  # it has ended meanwhile, and its loop is closed
                loop.call_soon_threadsafe(task.cancel)

        self._cancel = cancel
        return await task

    def _renew(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                self._trainer.ask(f"{self._path}/renew", {})
            except EpisodeOverError:
                self._cancel()  # of a plain function nothing can be ended, but its models answer no more
                return
            except TrainerGoneError:
                continue


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    about, _, more = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(prog="ajet rollout.worker", description=about, epilog=more)
    parser.add_argument("url", help="the trainer's, as it says it")
    parser.add_argument("workflow", help="a built-in one, or my_game.py->MyWorkflow")
    parser.add_argument("params", nargs="*", metavar="name=value", help="the workflow's parameters")
    parser.add_argument("--concurrency", type=int, default=8, help="episodes at once; default: %(default)s")
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="S",
        help="so long the trainer may be away; default: %(default)s s",
    )
    arguments = parser.parse_args(argv)
    try:
        make_workflow = _maker(arguments.workflow, arguments.params)
        num_taken = work(arguments.url, make_workflow, concurrency=arguments.concurrency, patience_s=arguments.patience)
    except AjetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"the trainer is gone; {num_taken} episodes were played for it", file=sys.stderr)
    return 0


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
