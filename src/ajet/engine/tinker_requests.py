"""Plain HTTP requests to a server of the Tinker API, for what its client has no call for.

In: a place below `/api/v1`. Out: the body of the answer. The key goes to the server's own address and nowhere else, and
no message has what stands behind a path, which may be somebody's signature.
"""

from __future__ import annotations

import httpx

CONNECTING_S = 30.0
MOST_REDIRECTS = 5
NOT_KNOWN = (400, 404, 405, 422)
"""Statuses by which servers refuse a request that they do not know."""


class TinkerRequests:
    """Requests to one server, each on a connection of its own."""

    def __init__(self, base_url: str, key: str, timeout_s: float) -> None:
        """Nothing is asked yet.

        Args:
            base_url: without a slash at its end.
            key: of the server.
            timeout_s: the longest silence of the server within one request.
        """
        self.base_url = base_url
        self._key = key
        self._timeout_s = timeout_s

    def reach(self, within_s: float = CONNECTING_S) -> None:
        """Connect, which the client would try again for minutes.

        Args:
            within_s: seconds without a word from the server.

        Raises:
            httpx.TransportError: nobody listens there.
        """
        httpx.get(f"{self.base_url}/api/v1/healthz", timeout=within_s)

    def ask(self, method: str, place: str, body: dict[str, str] | None = None) -> bytes:
        """What the server answers, wherever it sends us for it.

        Raises:
            httpx.HTTPError: it cannot be reached, or refuses.
        """
        with httpx.Client(timeout=self._timeout_s) as client:
            request = client.build_request(
                method, f"{self.base_url}/api/v1/{place}", json=body, headers={"X-API-Key": self._key}
            )
            origin = _origin(request.url)
            for _ in range(MOST_REDIRECTS):
                answer = client.send(request)
                if answer.next_request is None:
                    break
                request = answer.next_request
                if _origin(request.url) != origin:
                    del request.headers["X-API-Key"]  # the key is this server's alone
        if not answer.is_success:
            told = f"{answer.status_code} {answer.reason_phrase} for {request.url.copy_with(query=None)}"
            raise httpx.HTTPStatusError(told, request=request, response=answer)
        return answer.content

    def export(self, path: str) -> bytes:
        """The files of saved sampling weights, as a tar archive.

        Args:
            path: `tinker://<run>/sampler_weights/<name>`, or without the middle, as some servers have it.

        Raises:
            httpx.HTTPError: as `ask`.
        """
        run, *kind, name = path.removeprefix("tinker://").split("/")
        # The middle is part of the checkpoint's id for some servers, and unknown to others.
        for checkpoint in dict.fromkeys(["/".join([*kind, name]), name]):
            try:
                return self.ask("GET", f"training_runs/{run}/checkpoints/{checkpoint}/archive")
            except httpx.HTTPStatusError as error:
                if checkpoint == name or error.response.status_code not in NOT_KNOWN:
                    raise
        raise AssertionError("the last id is the name")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
