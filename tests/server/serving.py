"""A server in a thread of this process, and requests to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from legos.server.app import OPEN_PATHS, Server
from legos.server.guard import rules
from legos.server.schemas import Candidates
from legos.server.served import Opening, Served, Shelf


@dataclass
class Client:
    """Asks one server; each request has a connection of its own."""

    port: int

    def send(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        status, _, content = self.send("GET", path, **headers)
        return status, json.loads(content)

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """The same for a request with a body."""
        told = {"Content_Type": "application/json", **headers}
        status, _, content = self.send("POST", path, json.dumps(body).encode(), **told)
        return status, json.loads(content)


def served(run: Any) -> Served:
    """A run with exact lists."""
    return Served(run, Candidates(kind="exact"))


def make_server(run: Any, newer: Any = None, *, key: str | None = None, **options: Any) -> Server:
    """A server of a run; ``newer()`` gives the run that a reload opens."""
    opening = Opening(lambda: Path("newest"), lambda _: served(newer()))
    allowed = rules(key=key, host="127.0.0.1", open_paths=OPEN_PATHS)
    return Server(Shelf(served(run), opening), allowed, **options)


@contextmanager
def serving(server: Server) -> Iterator[Client]:
    """Answer requests while the block runs."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.app, lifespan="on", log_config=None, access_log=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    while not running.started:
        time.sleep(0.005)
    try:
        yield Client(listening.getsockname()[1])
    finally:
        running.should_exit = True
        thread.join()
        listening.close()
