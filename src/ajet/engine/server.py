"""One of vLLM's servers as the engine knows it: where it is, whose it is, and how its weights change.

In: a file of weights, or a folder of adapters. Out: a server that samples from them, and says with each completion
which weights these were.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ajet.engine.server_process import ServerProcess, answers
from ajet.errors import EngineError
from ajet.records import Completion, FinishReason

GENERATE = "/inference/v1/generate"
"""Ids in, ids out."""
ANSWERS_WITHIN_S = 60.0
"""For a question whose answer needs no work."""
UNLOAD_ADAPTER = "/v1/unload_lora_adapter"


@dataclass(slots=True, kw_only=True, eq=False)
class Server:
    """A server, and how it was started if it is ours."""

    url: str
    starter: Callable[[], ServerProcess] | None = None
    """Starts its process; None for a server that was there."""
    process: ServerProcess | None = None
    num_running: int = 0
    """Requests that wait for it."""
    reviving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of the requests that found it dead, one sees to it."""
    _was_restarted: bool = False

    @classmethod
    def started(cls, starter: Callable[[], ServerProcess]) -> Server:
        """One of ours, which may not answer yet."""
        process = starter()
        return cls(url=process.url, starter=starter, process=process)

    def check(self, model: str, max_context: int, handover: Path | None) -> None:
        """See that a server which was there can do what the run needs, but for what a first request will show.

        Args:
            model: what it should serve, a directory or a hub id; another directory of that name may be a copy.
            max_context: tokens that it must take.
            handover: the folder that weights are handed over in, if they are.

        Raises:
            EngineError: what is wrong, and what to change.
        """
        if not answers(self.url):
            raise EngineError(f"no vLLM server answers at {self.url}: start it, or correct engine.urls")
        try:
            card = self.ask("/v1/models", method="GET", within_s=ANSWERS_WITHIN_S).json()["data"][0]
            names, longest = [str(card["id"]), str(card["root"])], int(card["max_model_len"])
        except (LookupError, TypeError, ValueError) as error:
            raise EngineError(f"{self.url} is not a vLLM server: it names no model; correct engine.urls") from error
        if not any(Path(name).name == Path(model).name for name in names):
            raise EngineError(
                f"the server at {self.url} serves {names[1]}, but the run's model is {model}: start it with that, or a "
                f"copy of the same name, or correct engine.urls"
            )
        if longest < max_context:
            raise EngineError(
                f"the server at {self.url} takes {longest} tokens, but model.max_context={max_context}: start it with "
                f"--max-model-len {max_context}, or set model.max_context={longest}"
            )
        if handover is None:
            return
        question = {"method": "sees", "args": [str(handover)]}
        answer = self.ask("/collective_rpc", question, within_s=ANSWERS_WITHIN_S).json()
        seen = answer.get("results") if isinstance(answer, dict) else None
        if not seen or set(seen) != {"True"}:
            raise EngineError(
                f"the server at {self.url} does not see {handover}: set engine.weights_dir to a directory that it "
                "shares with this machine"
            )

    def start_anew(self, request: object) -> None:
        """Put the checkpoint's weights into a server that was there and may have another run's, and sample from them.

        Args:
            request: body of a request for a token.

        Raises:
            EngineError: it refuses, or says something else than ids, log-probabilities and version.
        """
        self.resume()
        self.put_weights(None)
        self.put_version(0)
        answer = self.ask(GENERATE, request)
        try:
            completion_of(answer.json())
        except (LookupError, TypeError, ValueError) as error:
            raise EngineError(
                f"vLLM's server at {self.url} does not say ids, log-probabilities and version of what it samples: is "
                "it of the version of vLLM that this process has? docs/engines.md says how it must be started"
            ) from error

    def drop_adapters(self) -> None:
        """Remove the adapters of another run, and see that it takes new ones.

        Raises:
            EngineError: it does not.
        """
        probe = {"lora_name": "no-such-adapter"}
        response = httpx.post(f"{self.url}{UNLOAD_ADAPTER}", json=probe, timeout=None, trust_env=False)
        if "cannot be found" not in response.text:
            raise EngineError(
                f"vLLM's server at {self.url} takes no adapters ({said(response)}): start it with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, as docs/engines.md says, or set engine.lora=merged"
            )
        self._keep_adapters(None)

    def put_adapter(self, name: str, folder: Path, *, keep: str | None) -> None:
        """Load an adapter beside the checkpoint's weights; of those that are there one may be kept."""
        self._keep_adapters(keep)
        self.ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def _keep_adapters(self, keep: str | None) -> None:
        for card in self.ask("/v1/models", method="GET").json()["data"]:
            if card.get("parent") is not None and card["id"] != keep:
                self.ask(UNLOAD_ADAPTER, {"lora_name": card["id"]})
        self.ask("/collective_rpc", {"method": "keep_newest_adapters", "args": [0 if keep is None else 1]})

    def restart(self, error: httpx.TransportError, put_policy: Callable[[], None]) -> None:
        """Start it again, once, and let it have the policy that it had, which no other thread may change meanwhile.

        Raises:
            EngineError: it is not ours, it has died before, or it does not start.
        """
        if answers(self.url):  # another thread has done it
            return
        if self.starter is None or self.process is None:
            raise EngineError(f"vLLM's server at {self.url} no longer answers ({type(error).__name__})") from error
        words = self.process.last_words()
        self.process.close()
        if self._was_restarted:
            raise EngineError(f"vLLM's server ended a second time: {words}") from error
        print(f"warning: vLLM's server ended and is started again: {words}", file=sys.stderr, flush=True)
        self._was_restarted = True
        self.process = self.starter()
        self.url = self.process.url
        self.process.wait()
        self.put_version(0)
        put_policy()

    def close(self) -> None:
        """End it if it is ours."""
        if self.process is not None:
            self.process.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Requests that run stand still meanwhile, and go on behind it."""
        self.ask("/pause?mode=keep")
        yield
        self.resume()

    def resume(self) -> None:
        """Let requests go on, if they stand still."""
        self.ask("/resume")

    def put_weights(self, path: Path | None) -> None:
        """Put a file's weights in place, the checkpoint's without one, and forget what was cached of the old ones."""
        self.ask("/collective_rpc", {"method": "load_weights_from", "args": ["" if path is None else str(path)]})
        self.forget_prefixes()

    def forget_prefixes(self) -> None:
        """Of old weights. Requests that run compute theirs again, so that no token is sampled from a mixture."""
        cleared = self.ask("/reset_prefix_cache?reset_running_requests=true").json()
        if not cleared["success"]:
            raise EngineError(f"vLLM's server at {self.url} kept cached prefixes of the old weights")

    def put_version(self, version: int) -> None:
        """Say which weights these are."""
        self.ask("/update_weight_version", {"new_version": str(version)})

    def ask(
        self, path: str, body: object = None, *, method: str = "POST", within_s: float | None = None
    ) -> httpx.Response:
        """Raises `EngineError` where the server refuses; httpx's errors where there is none, or it takes longer."""
        response = httpx.request(method, f"{self.url}{path}", json=body, timeout=within_s, trust_env=False)
        if not response.is_success:
            raise EngineError(
                f"vLLM's server at {self.url} cannot {path.partition('?')[0].strip('/')}: {said(response)}; "
                "docs/engines.md says how it must be started"
            )
        return response


def completion_of(answer: Any) -> Completion:
    """What `GENERATE` answers; `EngineError` where the request was ended by something else than its own limits."""
    (choice,) = answer["choices"]
    finish_reasons: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
    if choice["finish_reason"] not in finish_reasons:
        raise EngineError(f"vLLM ended a request with {choice['finish_reason']!r}")
    return Completion(
        token_ids=tuple(choice["token_ids"]),
        logprobs=tuple(token["logprob"] for token in choice["logprobs"]["content"]),
        finish_reason=finish_reasons[choice["finish_reason"]],
        # The oldest, where weights changed meanwhile.
        policy_version=int(choice["weight_versions"][0]["version"]),
    )


def said(response: httpx.Response) -> str:
    """A refusal in one line."""
    return f"{response.status_code} {' '.join(response.text.split())[:300]}"
