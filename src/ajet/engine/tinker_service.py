"""A connection to a server of the Tinker API: every answer awaited for a bounded time, every failure one sentence.

In: a call of the `tinker` client. Out: its result, or an `EngineError`. The client's own waits have no end, and its
threads outlive them, so that calls are made in threads that end with the process. The key is in no message.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import tinker
from tinker.lib.base_url import DEFAULT_BASE_URL, resolve_base_url

from ajet.engine.silence import Silence
from ajet.engine.tinker import TinkerConfig
from ajet.engine.tinker_failures import LISTENS_S, TAKEN, TinkerFailures, status_of
from ajet.engine.tinker_requests import NOT_KNOWN, TinkerRequests
from ajet.engine.tinker_troubles import Troubles
from ajet.errors import ConfigError, EngineError, EngineLostError

T = TypeVar("T")

KEY_WITHOUT_KEYS = "tml-none"
"""For servers that take any key; the client wants one that begins so."""
NO_SUCH_PLACE = 404
CLOSING_S = 5.0
AFTERWARDS_S = 30.0
"""For an answer of a server that was waited for in vain: a last state may still be saved there."""


class _NameTakenError(Exception):
    """The server has a state of this name."""


class TinkerService:
    """One session with a server; ends with `close`."""

    def __init__(self, settings: TinkerConfig, base_model: str) -> None:
        """Nothing is asked of the server yet.

        Args:
            settings: the `tinker` section.
            base_model: `model.path`, unless the section names another.

        Raises:
            ConfigError: there is no key, and the service needs one.
        """
        os.environ.setdefault("TINKER_TELEMETRY", "0")  # nothing is sent elsewhere unless the user asks for it
        self.settings = settings
        self.base_model = settings.base_model or base_model
        self.url = settings.place
        self._base = resolve_base_url(settings.base_url).rstrip("/")
        needs_key = self._base == resolve_base_url(DEFAULT_BASE_URL).rstrip("/")
        key = os.environ.get(settings.key_name) if needs_key or settings.api_key_env else None
        if needs_key and not key:
            raise settings.no_key()
        self._key = _plain(key, settings.key_name) or KEY_WITHOUT_KEYS
        self._requests = TinkerRequests(self._base, self._key, settings.timeout_s)
        self._models: list[str] = []
        self._is_gone = False
        self._asked: set[Future[Any]] = set()
        self.silence = Silence()
        """Of the server, towards those who wait for samples; an answer to anything else breaks it, too."""
        self._troubles = Troubles()
        self._failures = TinkerFailures(
            self._troubles,
            url=self.url,
            base_url=self._base,
            key=self._key,
            key_variable=settings.key_name,
            timeout_s=settings.timeout_s,
        )
        self._client = tinker.ServiceClient(base_url=settings.base_url, api_key=self._key)

    def base_sampler(self) -> Any:
        """A sampling client of the base model.

        Raises:
            EngineError: nobody listens there, which the client would try again for minutes, or the server does not have
                the model, which some say only when they are to sample from it.
        """
        self.called(self._requests.reach, "connecting")
        try:
            told = self.wait(
                lambda: tinker.RestClient(base_url=self.settings.base_url, api_key=self._key).get_server_capabilities(),
                "asking for its models",
            )
        except EngineError as error:
            if status_of(error.__cause__) != NO_SUCH_PLACE:
                raise
            raise EngineError(
                f"what is at {self.url} is no Tinker server: tinker.base_url is what comes before /api/v1 ({error})"
            ) from error
        names = sorted(model.model_name for model in told.supported_models if model.model_name)
        if names and self.base_model not in names:
            raise EngineError(
                f"the Tinker server at {self.url} does not have {self.base_model}: set tinker.base_model to one of "
                f"{', '.join(names)}"
            )
        return self.wait(
            lambda: self._client.create_sampling_client(base_model=self.base_model), f"opening {self.base_model}"
        )

    def sampler(self, trainer: Any) -> Any:
        """A sampling client of a training client's weights as they are now."""
        return self.wait(trainer.save_weights_and_get_sampling_client, "publishing weights")

    def trainer(self, *, rank: int, seed: int) -> Any:
        """A training client of new adapters on the base model."""
        client = self.wait(
            lambda: self._client.create_lora_training_client(base_model=self.base_model, rank=rank, seed=seed),
            "making adapters",
        )
        self._models.append(client.model_id)
        return client

    def restored(self, path: str, *, rank: int, seed: int) -> Any:
        """A training client with saved adapters and their optimizer.

        The newer way, which some servers do not know, then the older one.
        """
        try:
            client = self.wait(
                lambda: self._client.create_training_client_from_state_with_optimizer(path), f"restoring {path}"
            )
            self._models.append(client.model_id)
            return client
        except EngineError as error:
            if status_of(error.__cause__) not in NOT_KNOWN:
                raise
            client = self.trainer(rank=rank, seed=seed)
            warnings.filterwarnings("ignore", message="DEPRECATED: TrainingClient.load_state", category=FutureWarning)
            self.wait(lambda: client.load_state_with_optimizer(path), f"restoring {path}")
            return client

    def saved(self, save: Callable[[str], Any], kind: str, doing: str) -> str:
        """Save under a name that no other state has; returns the server's path.

        Where an answer is lost the client asks again, and the server may say that the name is taken: by the request
        before, of whose end nobody will hear. It is then saved once more, under another name.

        Args:
            save: asks for it, given the name.
            kind: the end of the name.
            doing: as `called`.

        Raises:
            EngineError: as `called`.
        """

        def named() -> Any:
            return save(f"ajet-{uuid.uuid4().hex[:12]}-{kind}")

        try:
            return str(self.called(lambda: self._unless_taken(named()), doing).path)
        except EngineError as error:
            if not isinstance(error.__cause__, _NameTakenError):
                raise
        return str(self.wait(named, doing).path)

    def _unless_taken(self, future: Any) -> Any:
        """The client's result; `_NameTakenError` once the server says so, which the client would hear for minutes."""
        since = time.monotonic()
        while True:
            left = since + self._patience_s() - time.monotonic()
            try:
                return _result(future, min(left, LISTENS_S), keep=left > LISTENS_S)
            except TimeoutError:
                trouble = self._troubles.latest(self._base, since)
                if trouble is not None and trouble.status == TAKEN:
                    future.future().cancel()
                    raise _NameTakenError(trouble.words) from None
                if left <= LISTENS_S or future.future().done():
                    raise

    def archive(self, path: str) -> bytes:
        """The files of saved sampling weights, as a tar archive.

        Args:
            path: `tinker://<run>/sampler_weights/<name>`, or without the middle, as some servers have it.
        """
        # Without it a run goes on: a download that takes too long says nothing of the server.
        within_s = self.settings.timeout_s
        return self.called(lambda: self._requests.export(path), f"downloading {path}", within_s=within_s)

    def forget(self, client: Any) -> None:
        """Let the server drop a training client's adapters; one that cannot is left to forget them by itself."""
        self._models.remove(client.model_id)
        self.unload(client.model_id)

    def unload(self, model_id: str) -> None:
        """Ask the server to drop a model."""
        body = {"model_id": model_id, "type": "unload_model"}
        with suppress(EngineError):
            self.called(
                lambda: self._requests.ask("POST", "unload_model", body), "dropping adapters", within_s=CLOSING_S
            )

    def wait(self, submit: Callable[[], Any], doing: str) -> Any:
        """What the client's future comes to, within `tinker.timeout_s`; errors as `called`."""
        return self.called(lambda: _result(submit(), self._patience_s()), doing)

    @property
    def is_asked(self) -> bool:
        """Whether anything but samples is waited for."""
        return bool(self._asked)

    def _patience_s(self) -> float:
        """For one answer. Of a server that has left one out little is expected, and the run is to end."""
        return min(AFTERWARDS_S, self.settings.timeout_s) if self._is_gone else self.settings.timeout_s

    def called(self, call: Callable[[], T], doing: str, *, within_s: float | None = None) -> T:
        """The result of a blocking call.

        Args:
            call: made in a thread of its own, which is left behind if it does not end.
            doing: what the server is asked for, for the sentence.
            within_s: seconds, after which the server may still be there; None: `tinker.timeout_s`, or less once
                it was waited for in vain.

        Raises:
            EngineError: it failed, or did not end in time.
        """
        future: Future[T] = Future()
        limit_s = within_s or self._patience_s()
        was_gone = self._is_gone

        def run() -> None:
            try:
                if was_gone:
                    self._requests.reach(CLOSING_S)
                future.set_result(call())
            except BaseException as error:  # it is the waiting thread's
                future.set_exception(error)

        threading.Thread(target=run, name="ajet-tinker", daemon=True).start()
        self._asked.add(future)
        try:
            result = future.result(limit_s)
        except Exception as error:  # the boundary to a network and a server, whose errors are of many kinds
            self._is_gone |= within_s is None and isinstance(
                error, TimeoutError | tinker.APIConnectionError | httpx.TransportError
            )
            raise self.failure(error, doing, limit_s) from error
        finally:
            self._asked.discard(future)
        self.silence.broken()
        return result

    def failure(self, error: Exception, doing: str, within_s: float) -> EngineError:
        """As `TinkerFailures.failure`."""
        return self._failures.failure(error, doing, within_s)

    def lost(self, setting: str, within_s: float) -> EngineLostError:
        """As `TinkerFailures.lost`; the server is asked for little else from now on."""
        self._is_gone = True
        return self._failures.lost(setting, within_s)

    def close(self) -> None:
        """Drop adapters and end the session; a server that has stopped answering is left alone."""
        self._troubles.leave()
        if self._is_gone:
            return
        for model_id in self._models:
            self.unload(model_id)
        self._models.clear()
        with suppress(EngineError):
            self.called(lambda: self._client.close("success").result(), "ending the session", within_s=CLOSING_S)


def _plain(key: str | None, variable: str) -> str:
    """A key without what surrounds it; the client waits for ever on one that cannot stand in a request."""
    key = (key or "").strip()
    if not all("!" <= each <= "~" for each in key):
        raise ConfigError(f"the key in {variable} holds a space, a line break or a letter that no key has: set it anew")
    return key


def _result(future: Any, timeout_s: float, *, keep: bool = False) -> Any:
    """What a client's future comes to; one that nobody waits for any more is given up, for the client sends nothing
    else before it, unless it is kept."""
    try:
        return future.result(timeout=timeout_s)
    except TimeoutError:
        if not keep and isinstance(future, tinker.APIFuture):
            future.future().cancel()
        raise
