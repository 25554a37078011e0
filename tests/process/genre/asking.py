"""Requests and a store in memory, for tests of the client and the loop."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from process.genre.scheme import FOLDER
from process.genre.types import Answer, Rejected, Request, Sampling

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 1}},
    "required": ["title"],
    "additionalProperties": False,
}


def a_request(text: str, *, schema: dict[str, Any] | None = None, max_tokens: int = 30) -> Request:
    """One question; its text is its key."""
    return Request(
        key=text,
        messages=({"role": "system", "content": "Answer."}, {"role": "user", "content": text}),
        schema=schema or SCHEMA,
        max_tokens=max_tokens,
        hash=hashlib.sha256(text.encode()).hexdigest(),
        scheme="test",
        sampling=Sampling(model="fake", temperature=0.3, top_p=0.9, seed=7),
    )


def some_requests(count: int) -> list[Request]:
    """``item 0``, ``item 1``, ..."""
    return [a_request(f"item {number}") for number in range(count)]


class MemoryStore:
    """What a store keeps, in lists; refuses an answer given twice."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.rejected: list[Rejected] = []

    @property
    def final_hashes(self) -> set[str]:
        return {entry["hash"] for entry in self.rejected if entry.get("final")}

    def __contains__(self, request_hash: object) -> bool:
        return request_hash in self.answers

    def add(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            assert answer["hash"] not in self.answers, "answered twice"
            self.answers[answer["hash"]] = answer

    def reject(self, rejected: Iterable[Rejected]) -> None:
        self.rejected.extend(rejected)


def tiny_scheme(folder: Path) -> Path:
    """Write ``tiny_profile.yaml``, which asks for profiles of the users of tiny tables."""
    text = (FOLDER / "book_profile.yaml").read_text()
    text = text.replace("name: book_profile", "name: tiny_profile")
    path = folder / "tiny_profile.yaml"
    path.write_text(re.sub(r"fields: .*", "fields: {title: 5}", text))
    return path
