"""What the parts of GENRE hand to each other: requests, replies, answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypedDict

Message = Mapping[str, str]
_HALF_PAIR = re.compile("[\\ud800-\\udfff]")


@dataclass(frozen=True)
class Sampling:
    """How a model is asked; part of a request's hash, so another setting asks again."""

    model: str
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    frequency_penalty: float = 0.0
    """The scheme's."""

    def parameters(self) -> dict[str, Any]:
        """Everything but the model's name, as the store has it."""
        return {key: value for key, value in asdict(self).items() if key != "model"}


@dataclass(frozen=True)
class Request:
    """One question to a language model."""

    key: str
    """Raw id of the item or user; generators add the round: ``U7#1``."""
    messages: tuple[Message, ...]
    """``{"role": ..., "content": ...}``, in order."""
    schema: Mapping[str, Any]
    """JSON schema of the answer."""
    max_tokens: int
    hash: str
    """SHA-256 over everything here: two requests with one hash are one question."""
    scheme: str = ""
    version: int = 1
    source: str = ""
    """Which history was read: ``train``, ``valid``, ``all``; empty for items."""
    sampling: Sampling = field(default_factory=lambda: Sampling(model=""))


@dataclass(frozen=True)
class Usage:
    """Tokens of one or many replies."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True)
class Reply:
    """What a server said to one request."""

    text: str
    usage: Usage
    seconds: float
    model: str
    """The name that the server gives itself."""
    finish_reason: str
    """In lower case: ``stop``, ``length`` for an answer that was cut, ``content_filter``."""
    refusal: str = ""
    """What the model said in place of an answer."""
    reasoned: bool = False
    """Whether there was reasoning apart from the text; it is never read."""
    without: tuple[str, ...] = ()
    """Parameters that this server refuses, so that the model was asked without them."""


def whole_characters(text: str) -> str:
    """A text with U+FFFD in place of every half of a surrogate pair; whole pairs are joined."""
    if _HALF_PAIR.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Asked(TypedDict):
    """What every line of a store or its quarantine says."""

    hash: str
    key: str
    scheme: str
    version: int
    source: str
    model: str
    parameters: dict[str, Any]
    text: str
    usage: dict[str, int]
    seconds: float
    time: str


class Answer(Asked):
    """One line of a store."""

    answer: dict[str, Any]
    notes: list[str]


class Rejected(Asked):
    """One line of a quarantine: an answer that could not be used, or a request that failed."""

    reason: str
    final: bool
    """The next run does not ask it again: the model refused, or used up its limit."""


class AnswerStore(Protocol):
    """What the loop needs of a store (``process.genre.store.Store``)."""

    @property
    def final_hashes(self) -> set[str]:
        """Requests that were refused in a way that asking again would not change."""

    def __contains__(self, request_hash: object) -> bool:
        """Whether a request has its answer."""

    def add(self, answers: Iterable[Answer]) -> None:
        """Append answers, on disk when this returns; a hash that already exists is refused."""

    def reject(self, rejected: Iterable[Rejected]) -> None:
        """Append to the quarantine, on disk when this returns."""


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    requests: int
    """All that were asked for."""
    already: int
    """Of these, answered by an earlier run."""
    refused: int
    """Of these, refused or cut at their limit in an earlier run, and not asked again."""
    answered: int
    quarantined: int
    """Answers that are no valid JSON of the schema, and refusals."""
    failed: int
    """Requests without any reply after every retry."""
    usage: Usage
    cost: float
    """In the currency of the prices; 0 for a local model."""
    seconds: float
    stopped: str = ""
    """Why the run ended early: a budget, the endpoint, or nothing."""
    gave_up: bool = False
    """Whether it ended early because the endpoint failed."""
    first_reason: str = ""
    """Why the first request that has no answer has none."""

    @property
    def asked(self) -> int:
        """Requests that this run was to answer."""
        return self.requests - self.already - self.refused
