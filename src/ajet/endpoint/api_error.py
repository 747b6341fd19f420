"""What goes wrong at the endpoint, in OpenAI's format: status, message, type, code and the parameter at fault."""

from __future__ import annotations

import json


class ApiError(Exception):
    """One error reply."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        """`status` is HTTP's and decides the type; `code` and `param` are OpenAI's words for programs."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

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
