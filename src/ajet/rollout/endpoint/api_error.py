"""What goes wrong at the endpoint, in OpenAI's format: status, message, type, code and the parameter at fault."""

from __future__ import annotations

import json

LONGEST_MESSAGE, LONGEST_PARAM = 2000, 200
"""Characters; what a client wrote may be quoted in them."""


class ApiError(Exception):
    """One error reply."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        """`status` is HTTP's and decides the type; `code` and `param` are OpenAI's words for programs."""
        super().__init__(_cut(message, LONGEST_MESSAGE))
        self.status = status
        self.message = _cut(message, LONGEST_MESSAGE)
        self.code = code
        self.param = None if param is None else _cut(param, LONGEST_PARAM)

    def body(self) -> bytes:
        """The error as OpenAI's clients read it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def wrong_key(message: str) -> ApiError:
    """401 for a key that opens nothing."""
    return ApiError(401, message, code="invalid_api_key")


def too_large(max_bytes: int) -> ApiError:
    """413 for a body over the bound."""
    return ApiError(413, f"The request is larger than {max_bytes} bytes (endpoint.max_body_mib).", code="too_large")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
