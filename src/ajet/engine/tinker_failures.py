"""What a Tinker server or its client has raised -> one sentence, without the key, and whether it is the end of the run.

In: an exception, and what was asked for. Out: an `EngineError`, which is an `EngineLostError` where every further
request would fail, too.
"""

from __future__ import annotations

import re
import time
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx
import tinker

from ajet.engine.tinker_retries import RetriedAnswer, RetriedAnswers
from ajet.errors import EngineError, EngineLostError

E = TypeVar("E", bound=EngineError)

LISTENS_S = 0.5
"""How often a wait that may end early looks whether it has to."""
TAKEN = 409
"""The status of a name that is taken."""
MEANINGS = {402: "asks for payment", 429: "allows no more for now", TAKEN: "has that already"}
FINAL = (401, 402, 403)
"""Statuses that every further request would have, too."""
DROPPED = ("Model not found", "not loaded", "Session not found", "session not found")
"""What servers say of adapters that they have dropped, and of sessions that they do not know any more."""
REFUSING = (400, 409, 413, 422)
"""Statuses of what a server does not do as it was asked to."""
_FULL = re.compile(r"maxim|limit|too many|reached|exceed|capacity|\bfull\b", re.IGNORECASE)
_SAID = 300


class TinkerFailures:
    """The failures of one server."""

    def __init__(
        self, retried: RetriedAnswers, *, url: str, base_url: str, key: str, key_variable: str, timeout_s: float
    ) -> None:
        """Args as follows.

        Args:
            retried: what the client meets and does not raise.
            url: the server, as the user knows it.
            base_url: the beginning of its URLs.
            key: is in no sentence.
            key_variable: where it comes from.
            timeout_s: `tinker.timeout_s`.
        """
        self._retried = retried
        self._url, self._base_url = url, base_url
        self._key, self._key_variable = key, key_variable
        self._timeout_s = timeout_s

    def failure(self, error: Exception, doing: str, within_s: float) -> EngineError:
        """What went wrong, in words.

        Args:
            error: what the client has raised.
            doing: what the server was asked for.
            within_s: how long it had.
        """
        if isinstance(error, TimeoutError):
            named = f"tinker.timeout_s={within_s:g}" if within_s == self._timeout_s else f"{within_s:g}"
            return self._said(EngineError, self._unanswered(named, within_s), doing)
        is_final = status_of(error) in FINAL or _is_dropped(error)
        return self._said(EngineLostError if is_final else EngineError, self._reason(error), doing)

    def lost(self, setting: str, within_s: float) -> EngineLostError:
        """That the server answers no requests for samples any more.

        Args:
            setting: what limits the wait, with its value.
            within_s: that value, in seconds.
        """
        return self._said(EngineLostError, self._unanswered(setting, within_s), "sampling")

    def no_adapters(self, error: EngineError, *, rank: int, base_model: str) -> EngineError:
        """What went wrong with making adapters: where the server refused, with the settings that it can have refused.

        Args:
            error: of `failure`, raised from what the client raised.
            rank: that was asked for.
            base_model: likewise.
        """
        cause = error.__cause__
        if status_of(cause) not in REFUSING and not isinstance(cause, tinker.RequestFailedError):
            return error
        words = _words(cause)
        if _FULL.search(words) and "rank" not in words.lower():
            why = (
                "has no place for more adapters, of which a run takes one, one more with algorithm.kl_coef, and one "
                f"while it probes: {words}; wait for other runs there, or until it drops what killed ones have left"
            )
        else:
            why = f"makes no adapters of model.lora.rank={rank} on {base_model}: {words}"
        return self._said(EngineError, why, "making adapters")

    def no_state(self, error: EngineError, path: str) -> EngineError:
        """What went wrong with a saved state; arguments as `no_adapters`, and its path there."""
        if status_of(error.__cause__) not in (404, 410):
            return error
        why = f"does not have {path}: it is another server than the one that saved it, or has forgotten it"
        return self._said(EngineError, f"{why} ({_words(error.__cause__)})", "restoring")

    def _said(self, kind: type[E], words: str, doing: str) -> E:
        return kind(f"the Tinker server at {self._url} {words} ({doing})".replace(self._key, "***"))

    def _unanswered(self, named: str, within_s: float) -> str:
        latest = self._retried.latest(self._base_url, time.monotonic() - within_s - LISTENS_S)
        if latest is None:
            return f"did not answer within {named} seconds"
        return f"{_meaning(latest)}: {latest.words}, and nothing else within {named} seconds"

    def _reason(self, error: Exception) -> str:
        status = status_of(error)
        words = _words(error)
        if status in (401, 403):
            return f"does not take the key in {self._key_variable}: {words}"
        if "api_key must" in words and status is None:
            return f"is not asked, for the key in {self._key_variable} is none of the Tinker API's: {words}"
        if _is_dropped(error):
            return f"has dropped the adapters, as it does minutes after it was last asked for anything: {words}"
        if status in MEANINGS:
            return f"{MEANINGS[status]}: {words}"
        if isinstance(error, tinker.APIConnectionError | httpx.TransportError):
            return f"cannot be reached{self._by_proxy()}: {words}{_advice(words)}"
        return f"refused: {words}"

    def _by_proxy(self) -> str:
        """Where the system's settings lead elsewhere first, in words; without the proxy's address, which may have a
        password in it."""
        url = httpx.URL(self._base_url)
        if url.scheme not in getproxies() or proxy_bypass(url.host):
            return ""
        return f" by way of the proxy in {url.scheme}_proxy (no_proxy={url.host} goes without it)"


def _advice(words: str) -> str:
    return "; is it http:// in place of https://?" if "WRONG_VERSION_NUMBER" in words else ""


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an error; the client wraps what it got."""
    while error is not None:
        status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None


def _words(error: BaseException | None) -> str:
    """What the server says in the body of its answer, or else the error itself, in one line."""
    found, said = error, str(error)
    while found is not None:
        if detail := _detail(getattr(found, "body", None)):
            said = detail
            break
        found = found.__cause__ or found.__context__
    return " ".join(said.split())[:_SAID] or type(error).__name__


def _detail(body: object) -> str:
    """What an answer's body says is wrong; empty where it says nothing that is known."""
    if not isinstance(body, dict):
        return ""
    detail = body.get("detail", body.get("message", body.get("error")))
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):  # what pydantic finds in a request
        return f"{'.'.join(map(str, detail[0].get('loc', ())))}: {detail[0].get('msg', '')}"
    return detail if isinstance(detail, str) else ""


def _is_dropped(error: BaseException) -> bool:
    return any(said in str(error) for said in DROPPED)


def _meaning(answer: RetriedAnswer) -> str:
    return MEANINGS.get(answer.status, "has failed")
