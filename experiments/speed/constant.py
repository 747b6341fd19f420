"""A server that answers every chat request with the same reply, in a process of its own: what its clients take by
themselves. `python -m experiments.speed.constant` writes its port."""

from __future__ import annotations

import asyncio
import json
import re

REPLY = json.dumps(
    {
        "id": "chatcmpl-0_1",
        "object": "chat.completion",
        "created": 1,
        "model": "ajet-asker",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Two and two are four.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class _Answer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._received = transport, b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and length is not None and len(body) >= int(length[1]):
            self._transport.write(_HEAD % len(REPLY) + REPLY)
            self._transport.close()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
