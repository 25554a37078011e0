"""Where language models are asked: address, key, limits; and keeping the key out of every text."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from legos.errors import ConfigError, nearest

Structured = Literal["json_schema", "json_object", "text"]
STRUCTURED: tuple[Structured, ...] = ("json_schema", "json_object", "text")
KEY_VARIABLE = "OPENAI_API_KEY"
HIDDEN = "[hidden]"
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf)[-_][A-Za-z0-9_*\-]{8,}|(?i:bearer)\s+\S{8,}")


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server and how to treat it.

    Attributes:
        base_url: up to and including ``/v1``.
        key_variable: environment variable that holds the key; None is OPENAI_API_KEY, and no key
            at all for a server on this machine.
        concurrency: requests in flight at once.
        requests_per_minute: sent evenly; None is no limit.
        tokens_per_minute: prompts and answers; None is no limit.
        retries: of one request after its first attempt.
        timeout: seconds for one attempt.
        total_timeout: seconds for the whole run; None is no limit.
        structured: the strictest way of asking for JSON that is tried.
    """

    base_url: str
    key_variable: str | None = None
    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retries: int = 6
    timeout: float = 120.0
    total_timeout: float | None = None
    structured: Structured = "json_schema"

    def __post_init__(self) -> None:
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ConfigError(
                f"base URL {redact(self.base_url)!r}: expected http://... or https://..., for "
                "example http://127.0.0.1:8000/v1"
            )
        if address.username or address.password or address.query:
            raise ConfigError(
                f"base URL of {address.hostname}: holds a user, password or query; keys come from "
                "the environment only (--key-variable NAME)"
            )
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            self._refuse_below(name, 1)
        for name in ("timeout", "total_timeout"):
            self._refuse_below(name, 0.001)
        self._refuse_below("retries", 0)
        if self.structured not in STRUCTURED:
            raise ConfigError(
                f"structured output {self.structured!r}: unknown; "
                f"{nearest(self.structured, STRUCTURED)}"
            )

    def _refuse_below(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if value is not None and not value >= least:
            raise ConfigError(f"{name}: {value} found, expected at least {least:g}")

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def key(self) -> str | None:
        """The key, read from the environment.

        Raises:
            ConfigError: it is needed and not there.
        """
        if self.key_variable is None and self.is_local:
            return None
        variable = self.key_variable or KEY_VARIABLE
        key = os.environ.get(variable, "").strip()
        if not key:
            raise ConfigError(
                f"{urlsplit(self.base_url).hostname} needs a key, and the environment variable "
                f"{variable} is not set; `export {variable}=...`, or --key-variable NAME"
            )
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"environment variable {variable}: holds no key (invalid characters)")
        return key


def redact(text: str, key: str | None = None) -> str:
    """A text without the key, nor anything that looks like one."""
    if key:
        text = text.replace(key, HIDDEN)
    return _KEY_LIKE.sub(HIDDEN, text)
