"""A connection to a server of the Tinker API: every answer awaited for a bounded time, every failure one sentence.

In: a call of the `tinker` client. Out: its result, or an `EngineError`. The client's own waits have no end, and its
threads outlive them, so that calls are made in threads that end with the process. The key is in no message.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import tinker
from tinker.lib.base_url import DEFAULT_BASE_URL, resolve_base_url

from ajet.engine.tinker import TinkerConfig
from ajet.errors import ConfigError, EngineError

T = TypeVar("T")

KEY_WITHOUT_KEYS = "tml-none"
"""For servers that take any key; the client wants one that begins so."""
CLOSING_S = 5.0
_SAID = 300


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
        logging.getLogger("tinker").setLevel(logging.CRITICAL)  # how its retries end is said here
        self.settings = settings
        self.base_model = settings.base_model or base_model
        self.url = settings.base_url or os.environ.get("TINKER_BASE_URL") or "Thinking Machines' service"
        variable = settings.api_key_env or "TINKER_API_KEY"
        if resolve_base_url(settings.base_url) == resolve_base_url(DEFAULT_BASE_URL) and not os.environ.get(variable):
            raise ConfigError(
                f"no key for the Tinker service: export {variable}=..., or name a server of your own by tinker.base_url"
            )
        self._key = (settings.api_key_env and os.environ.get(settings.api_key_env)) or KEY_WITHOUT_KEYS
        self._models: list[str] = []
        self._is_gone = False
        self._client = tinker.ServiceClient(base_url=settings.base_url, api_key=self._key)

    def base_sampler(self) -> Any:
        """A sampling client of the base model."""
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
        except EngineError:
            client = self.trainer(rank=rank, seed=seed)
            warnings.filterwarnings("ignore", message="DEPRECATED: TrainingClient.load_state", category=FutureWarning)
            self.wait(lambda: client.load_state_with_optimizer(path), f"restoring {path}")
            return client

    def archive(self, path: str) -> bytes:
        """The files of saved sampling weights, as a tar archive.

        Args:
            path: `tinker://<run>/sampler_weights/<name>`, or without the middle, as some servers have it.
        """
        run, *_, name = path.removeprefix("tinker://").split("/")
        place = f"training_runs/{run}/checkpoints/{name}/archive"
        return self.called(lambda: self._asked("GET", place), f"downloading {path}")

    def forget(self, client: Any) -> None:
        """Let the server drop a training client's adapters; one that cannot is left to forget them by itself."""
        self._models.remove(client.model_id)
        self._unload(client.model_id)

    def _unload(self, model_id: str) -> None:
        body = {"model_id": model_id, "type": "unload_model"}
        with suppress(EngineError):
            self.called(lambda: self._asked("POST", "unload_model", body), "dropping adapters", within_s=CLOSING_S)

    def _asked(self, method: str, place: str, body: dict[str, str] | None = None) -> bytes:
        """What the server answers where the client has no call of its own."""
        base = resolve_base_url(self.settings.base_url).rstrip("/")
        answer = httpx.request(
            method,
            f"{base}/api/v1/{place}",
            json=body,
            headers={"X-API-Key": self._key},
            follow_redirects=True,
            timeout=self.settings.timeout_s,
        )
        answer.raise_for_status()
        return answer.content

    def wait(self, submit: Callable[[], Any], doing: str) -> Any:
        """What the client's future comes to, within `tinker.timeout_s`; errors as `called`."""
        return self.called(lambda: submit().result(timeout=self.settings.timeout_s), doing)

    def called(self, call: Callable[[], T], doing: str, *, within_s: float | None = None) -> T:
        """The result of a blocking call.

        Args:
            call: made in a thread of its own, which is left behind if it does not end.
            doing: what the server is asked for, for the sentence.
            within_s: seconds; None: `tinker.timeout_s`.

        Raises:
            EngineError: it failed, or did not end in time.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # it is the waiting thread's
                future.set_exception(error)

        threading.Thread(target=run, name="ajet-tinker", daemon=True).start()
        try:
            return future.result(within_s or self.settings.timeout_s)
        except Exception as error:  # the boundary to a network and a server, whose errors are of many kinds
            self._is_gone |= isinstance(error, TimeoutError | tinker.APIConnectionError | httpx.TransportError)
            raise self.failure(error, doing) from error

    def failure(self, error: Exception, doing: str) -> EngineError:
        """What went wrong, in words, without the key."""
        return EngineError(f"{self._reason(error)} ({doing})".replace(self._key, "***"))

    def _reason(self, error: Exception) -> str:
        here = f"the Tinker server at {self.url}"
        if isinstance(error, TimeoutError):
            return f"{here} did not answer within tinker.timeout_s={self.settings.timeout_s:g} seconds"
        status = _status(error)
        words = " ".join(str(error).split())[:_SAID] or type(error).__name__
        if status in (401, 403):
            variable = self.settings.api_key_env or "TINKER_API_KEY"
            return f"{here} does not take the key in {variable}: {words}"
        if status == 402:
            return f"{here} asks for payment: {words}"
        if status == 429:
            return f"{here} allows no more for now: {words}"
        if isinstance(error, tinker.APIConnectionError | httpx.TransportError):
            return f"{here} cannot be reached: {words}"
        return f"{here} refused: {words}"

    def close(self) -> None:
        """Drop adapters and end the session; a server that has stopped answering is left alone."""
        if self._is_gone:
            return
        for model_id in self._models:
            self._unload(model_id)
        self._models.clear()
        with suppress(EngineError):
            self.called(lambda: self._client.close("success").result(), "ending the session", within_s=CLOSING_S)


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error; the client wraps what it got."""
    while error is not None:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None
