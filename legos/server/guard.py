"""Checks before every route: API key, host and origin, sizes; and security headers.

A page of another origin can send requests to a server on this machine, and a name that points to
127.0.0.1 makes such a page one of the same origin (DNS rebinding). So a request must name a host
that is expected, a POST must be JSON and must not come from another origin, and no answer allows
other origins to read it.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legos.server.refusals import Refusal
from legos.server.telemetry import Telemetry

_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MOST_HEADERS = 2**16  # bytes, with the path
_BODY_SECONDS = 10.0  # in which the body of a request has to arrive


@dataclass(frozen=True)
class Rules:
    """The rules by which requests are accepted.

    Attributes:
        key: that clients must send; None: nobody has to.
        hosts: names that a request may call the server by, in lower case.
        any_address: also every numeric address, for a server that is bound to several.
        open_paths: paths that need no key.
        max_body: bytes of a body.
    """

    key: str | None
    hosts: frozenset[str]
    any_address: bool
    open_paths: frozenset[str]
    max_body: int


def rules(
    *,
    key: str | None,
    host: str,
    names: Iterable[str] = (),
    open_paths: frozenset[str] = frozenset(),
    max_body: int = 2**20,
) -> Rules:
    """The rules of a server that is bound to a host.

    Args:
        key: that clients must send.
        host: address that the server is bound to.
        names: others by which it may be called.
        open_paths: what needs no key.
        max_body: bytes of a request's body.
    """
    loopback = is_loopback(host)
    own = {"127.0.0.1", "localhost", "::1"} if loopback else {host.lower(), "localhost"}
    return Rules(
        key=key,
        hosts=frozenset(own | {name.lower() for name in names}),
        any_address=not loopback,
        open_paths=open_paths,
        max_body=max_body,
    )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached only from this machine."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


class Guard:
    """ASGI middleware that refuses what the rules do not allow, and counts requests."""

    def __init__(
        self, app: ASGIApp, rules: Rules, telemetry: Telemetry, routes: Collection[str]
    ) -> None:
        self.app, self.rules, self.telemetry, self.routes = app, rules, telemetry, set(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in self.routes else "other"
        began, status = time.perf_counter(), "500"

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                MutableHeaders(scope=message).update(_POLICY)
            await send(message)

        try:
            await self._checked(scope, receive, send_guarded)
        finally:
            self.telemetry.requests.labels(route, status).inc()
            self.telemetry.seconds.labels(route).observe(time.perf_counter() - began)
            if status[0] == "5" and status not in ("503", "504"):
                self.telemetry.errors.inc()

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            self._check_size(scope)
            self._check_origin(scope["method"], headers)
            scope["legos.has_key"] = self._has_key(headers)
            if not scope["legos.has_key"] and scope["path"] not in self.rules.open_paths:
                raise Refusal(
                    401,
                    "this server needs its API key: Authorization: Bearer KEY, or X-API-Key: KEY",
                )
            body = await self._read(scope["method"], headers, receive)
        except Refusal as refusal:
            response = refusal.response()
            if refusal.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, send)
            return
        await self.app(scope, _Replayed(body, receive), send)

    def _check_size(self, scope: Scope) -> None:
        size = len(scope["path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > _MOST_HEADERS:
            raise Refusal(431, f"headers: found {size:,} bytes, expected at most {_MOST_HEADERS:,}")

    def _check_origin(self, method: str, headers: Headers) -> None:
        host = ", ".join(headers.getlist("host"))  # of two, a proxy may believe the other one
        if not self._is_ours(host):
            known = ", ".join(sorted(self.rules.hosts))
            raise Refusal(
                400,
                f"Host: found {host[:60]!r}, expected one of {known}; --allow-host adds another",
            )
        if method in ("GET", "HEAD"):
            return
        origin = headers.get("origin")
        elsewhere = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if elsewhere or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refusal(403, f"Origin: found {(origin or '')[:60]!r}, expected this server's own")

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.rules.hosts:
            return True
        return self.rules.any_address and _is_address(name)

    def _has_key(self, headers: Headers) -> bool:
        if self.rules.key is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(given.encode(), self.rules.key.encode())

    async def _read(self, method: str, headers: Headers, receive: Receive) -> bytes:
        """Read the body of a request, up to the allowed size."""
        if method == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Refusal(
                    415, f"Content-Type: found {kind[:60]!r}, expected 'application/json'"
                )
        length, most = headers.get("content-length", "0"), self.rules.max_body
        too_long = Refusal(413, f"body: found more than expected, at most {most:,} bytes")
        if length.isdecimal() and int(length) > most:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "body: the client disconnected before the end")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_long
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refusal(408, f"body: not complete within {_BODY_SECONDS:g} s") from None


class _Replayed:
    """Replay a body that was read, so that the application can read it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
