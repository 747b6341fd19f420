"""`create_external_llm_fn`, as AgentJet has it: a blocking function that asks a model of one's own, e.g. from a judge.

AgentJet asks Alibaba's DashScope; here any OpenAI-compatible server will do. Left out: waiting between attempts, which
the OpenAI client does itself and for as long as the server says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ajet.config.fields import shows_password

URL_VARIABLE = "DASHSCOPE_BASE_URL"
KEY_VARIABLES = ("DASHSCOPE_API_KEY", "DASHSCOPE_API_KEY_BACKUP")
DASHSCOPE_URL = "https://dashscope.aliyuncs.com/compatible-mode/v1"
NUM_TRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A server and the keys to try there, one after the other."""

    base_url: str
    keys: tuple[str, ...]

    @classmethod
    def of_environment(cls, base_url: str | None = None, api_key: str | None = None) -> Account:
        """The server and keys that the environment names; an argument wins over it.

        DASHSCOPE_BASE_URL is the server, without it DashScope's own. DASHSCOPE_API_KEY and DASHSCOPE_API_KEY_BACKUP are
        keys with `|` between them; a server that was named does without.

        Raises:
            RuntimeError: DashScope itself would be asked without a key, or the address has a password in it, which
                errors would show.
        """
        url = base_url or os.environ.get(URL_VARIABLE)
        if shows_password(url):
            raise RuntimeError(f"the server's address must not hold a password: export {KEY_VARIABLES[0]} for its key")
        texts = [api_key] if api_key else [os.environ.get(name, "") for name in KEY_VARIABLES]
        keys = tuple(key for text in texts for key in text.split("|") if key)
        if not keys and url is None:
            raise RuntimeError(
                f"{KEY_VARIABLES[0]} is not set: export a key of DashScope, or {URL_VARIABLE}=<the /v1 URL of another "
                "OpenAI-compatible server>"
            )
        return cls(base_url=url or DASHSCOPE_URL, keys=keys or ("none",))

    def key(self, number: int) -> str:
        """The key of the `number`-th try, from 0."""
        return self.keys[number % len(self.keys)]


def create_external_llm_fn(
    alien_llm_model: str,
    alien_llm_response_length: int,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
) -> Callable[..., dict[str, str]]:
    """A function `(messages, sampling_params_override={}, request_id="") -> {"role": …, "content": …}`.

    It blocks until the reply is there: a judge that calls it wants `judge.own_thread=true`. It samples at temperature 0
    unless `sampling_params_override` says otherwise, whose other entries are handed on to the server as they are.

    Args:
        alien_llm_model: the model's name on the server.
        alien_llm_response_length: most tokens of a reply.
        base_url: the server; None: as the environment says, see `Account`.
        api_key: likewise.
    """

    def ask(
        messages: Sequence[Mapping[str, Any]],
        sampling_params_override: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> dict[str, str]:
        """Raises RuntimeError: no key, or no try was answered."""
        from openai import OpenAI, OpenAIError  # takes a second

        account = Account.of_environment(base_url, api_key)
        settings = {"max_completion_tokens": alien_llm_response_length, "temperature": 0.0}
        settings |= dict(sampling_params_override or {})
        for number in range(NUM_TRIES):
            with OpenAI(base_url=account.base_url, api_key=account.key(number), max_retries=1) as client:
                try:
                    reply = client.chat.completions.create(
                        model=alien_llm_model,
                        messages=list(messages),  # type: ignore[arg-type]
                        extra_body=settings,
                    )
                except OpenAIError as error:
                    failure = error
                    continue
            said = reply.choices[0].message
            return {"role": said.role, "content": said.content or ""}
        raise RuntimeError(f"{account.base_url} gave no reply in {NUM_TRIES} tries: {failure}") from failure

    return ask
