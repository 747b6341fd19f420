"""A session with a server of the Tinker API: its samplers, its adapters, what it saves.

In: settings. Out: the client's own samplers and trainers, or an `EngineError`; `tinker_calls` bounds the waits. The key
is in no message.
"""

from __future__ import annotations

import os
import time
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import tinker
from tinker.lib.base_url import DEFAULT_BASE_URL, resolve_base_url

from ajet.engine.tinker import TinkerConfig
from ajet.engine.tinker_calls import CLOSING_S, TinkerCalls, result_of
from ajet.engine.tinker_failures import LISTENS_S, TAKEN, TinkerFailures, status_of
from ajet.engine.tinker_requests import NOT_KNOWN, TinkerRequests
from ajet.engine.tinker_retries import RetriedAnswers
from ajet.errors import ConfigError, EngineError

T = TypeVar("T")

KEY_WITHOUT_KEYS = "tml-none"
"""For servers that take any key; the client wants one that begins so."""
NO_SUCH_PLACE = 404


class _NameTakenError(Exception):
    """The server has a state of this name."""


class TinkerService(TinkerCalls):
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
        self._models: list[str] = []
        self._retried = RetriedAnswers()
        failures = TinkerFailures(
            self._retried,
            url=self.url,
            base_url=self._base,
            key=self._key,
            key_variable=settings.key_name,
            timeout_s=settings.timeout_s,
        )
        requests = TinkerRequests(self._base, self._key, settings.timeout_s)
        super().__init__(requests, failures, timeout_s=settings.timeout_s)
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
        fit = [
            model for model in told.supported_models if model.trainable is not False and model.sampleable is not False
        ]
        names = sorted(model.model_name for model in fit if model.model_name)
        if names and self.base_model not in names:
            raise EngineError(
                f"the Tinker server at {self.url} does not have {self.base_model} to train and sample: set "
                f"tinker.base_model to one of {', '.join(names)}"
            )
        return self.wait(
            lambda: self._client.create_sampling_client(base_model=self.base_model), f"opening {self.base_model}"
        )

    def sampler(self, trainer: Any) -> Any:
        """A sampling client of a training client's weights as they are now."""
        return self.wait(trainer.save_weights_and_get_sampling_client, "publishing weights")

    def trainer(self, *, rank: int, seed: int) -> Any:
        """A training client of new adapters on the base model.

        Raises:
            EngineError: as `called`; where the server refuses, it says the rank.
        """
        try:
            client = self.wait(
                lambda: self._client.create_lora_training_client(base_model=self.base_model, rank=rank, seed=seed),
                "making adapters",
            )
        except EngineError as error:
            raise self._failures.no_adapters(error, rank=rank, base_model=self.base_model) from error.__cause__
        self._models.append(client.model_id)
        return client

    def restored(self, path: str, *, rank: int, seed: int) -> Any:
        """A training client with saved adapters and their optimizer.

        The newer way, which some servers do not know, then the older one.

        Raises:
            EngineError: as `trainer`, or the server does not have the state.
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
        try:
            self.wait(lambda: client.load_state_with_optimizer(path), f"restoring {path}")
        except EngineError as error:
            self.forget(client)
            raise self._failures.no_state(error, path) from error.__cause__
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
                return result_of(future, min(left, LISTENS_S), keep=left > LISTENS_S)
            except TimeoutError:
                latest = self._retried.latest(self._base, since)
                if latest is not None and latest.status == TAKEN:
                    future.future().cancel()
                    raise _NameTakenError(latest.words) from None
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

    def close(self) -> None:
        """Drop adapters and end the session; a server that has stopped answering is left alone."""
        self._retried.leave()
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
