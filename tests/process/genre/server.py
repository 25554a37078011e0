"""An OpenAI-compatible server on loopback that fails as it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 20, 10


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    number: int
    """0, 1, ... in the order of arrival."""
    body: dict[str, Any]
    headers: dict[str, str]
    time: float

    @property
    def text(self) -> str:
        """The first message of the user: which request it is."""
        return str(next(m["content"] for m in self.body["messages"] if m["role"] == "user"))


@dataclass(frozen=True)
class Told:
    """What to do with a request."""

    text: str | list[Any] | None = '{"title": "A title"}'
    """The content; some servers send a list of parts."""
    message: dict[str, Any] = field(default_factory=dict)
    """Further keys of the message: a refusal, reasoning."""
    finish: str | None = "stop"
    status: int = 200
    error: str | None = None
    """Message of an error body."""
    raw: bytes | None = None
    """The whole body, whatever it is."""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    """Close the connection in the middle of the body."""

    def body(self) -> bytes:
        """The body of the response."""
        if self.raw is not None:
            return self.raw
        if self.error is not None:
            return json.dumps({"error": {"message": self.error, "type": "x"}}).encode()
        choice = {
            "index": 0,
            "finish_reason": self.finish,
            "message": {"role": "assistant", "content": self.text, **self.message},
        }
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
        reply = {"id": "same-for-all", "object": "chat.completion", "created": 1, "model": "fake"}
        return json.dumps({**reply, "choices": [choice], "usage": usage}).encode()


def refusing(
    field: str, message: str | None = None, *, status: int = 400, **error: Any
) -> Callable[[Asked], Told]:
    """Answers well to requests without a field; ``system`` is the role.

    Args:
        field: that is refused.
        message: of the error; by default as OpenAI words it.
        status: of the error.
        error: further keys of it.
    """
    told = message or f"Unsupported parameter: '{field}' is not supported with this model."
    body = {"message": told, "type": "invalid_request_error", **error}

    def tell(asked: Asked) -> Told:
        roles = [message["role"] for message in asked.body["messages"]]
        if field in asked.body or (field == "system" and "system" in roles):
            return Told(status=status, raw=json.dumps({"error": body}).encode())
        return Told()

    return tell


class FaultyServer:
    """Runs in a thread of its own while its ``with`` block lasts.

    Args:
        tell: decides about each request.
    """

    def __init__(self, tell: Callable[[Asked], Told] = lambda asked: Told()) -> None:
        self._tell = tell
        self.asked: list[Asked] = []
        self.in_flight = self.most_in_flight = 0
        self._ready = threading.Event()

    def __enter__(self) -> FaultyServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")[1:]
                pairs = (line.split(": ", 1) for line in lines if line)
                headers = {name.lower(): value for name, value in pairs}
                content = await reader.readexactly(int(headers["content-length"]))
                asked = Asked(len(self.asked), json.loads(content), headers, time.monotonic())
                self.asked.append(asked)
                if not await self._answer(asked, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        told = self._tell(asked)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(told.delay)
        finally:
            self.in_flight -= 1
        body = told.body()
        own = {"content-type": "application/json", "content-length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in {**own, **told.headers}.items()]
        head = "\r\n".join([f"HTTP/1.1 {told.status} X", *lines, "", ""]).encode()
        writer.write(head + (body[: len(body) // 2] if told.cut else body))
        await writer.drain()
        return not told.cut
