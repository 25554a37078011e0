"""Answers on disk: one JSON object a line, appended, never changed.

A batch is written in one piece and is on disk when ``add`` returns. What a crash leaves of a last
line is kept in the quarantine and cut off at the next opening, so its request is asked again. An
answer is dropped by a line that says so: the answer no longer counts, what it cost still does.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from pydantic import model_validator

from legos.errors import DataError
from legos.records import Count, Record, check_record, parse_json
from process.genre.answers import now
from process.genre.types import Answer, Rejected, Usage, whole_characters

TORN = "torn line"


class _Usage(Record):
    prompt_tokens: Count
    completion_tokens: Count


class _Line(Record):
    """What is asked of every line."""

    hash: str
    key: str
    usage: _Usage


class _AnswerLine(_Line):
    """An answer, or that an earlier one was dropped."""

    dropped: bool = False
    answer: dict[str, Any] | None
    source: str | None = None
    model: str | None = None
    version: int | None = None
    notes: list[str] | None = None
    seconds: float | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for name in ("answer", "source", "model", "version", "notes", "seconds"):
            if not self.dropped and getattr(self, name) is None:
                raise ValueError(f"{name}: this key is missing, or null")
        return self


class _RejectedLine(_Line):
    """A line of the quarantine."""

    reason: str
    seconds: float


@dataclass(frozen=True)
class Counts:
    """What a store holds."""

    answers: int
    quarantined: int
    """Requests that are in the quarantine and have no answer."""
    usage: Usage
    """Tokens of everything paid for, quarantined answers included."""
    seconds: float
    notes: int
    """Answers that were put right."""


class Store:
    """The answers of one scheme: ``<folder>/<scheme>.jsonl`` and its quarantine.

    Satisfies ``process.genre.types.AnswerStore``. Use ``Store.open`` to write (one process at a
    time) and ``Store.read`` to look (at any time, while another writes too).
    """

    def __init__(self, folder: Path, scheme: str) -> None:
        self.path = folder / f"{scheme}.jsonl"
        self.quarantine_path = folder / f"{scheme}.quarantine.jsonl"
        self._answers: dict[str, Answer] = {}
        self._rejected: list[Rejected] = []
        self._dropped: list[Answer] = []
        self._files: tuple[int, int] | None = None

    @classmethod
    @contextmanager
    def open(cls, folder: Path, scheme: str) -> Iterator[Store]:
        """Open for writing; files are made, torn lines put aside.

        Raises:
            DataError: another process has it open, or a line is damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(folder, scheme)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        file = os.open(store.path, flags, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(
                    f"{store.path}: another process is writing this store; wait for it, or choose "
                    "another --store"
                ) from None
            quarantine = os.open(store.quarantine_path, flags, 0o644)
            try:
                store._files = (file, quarantine)
                store._put_aside_torn_lines()
                store._load()
                yield store
            finally:
                os.close(quarantine)
        finally:
            store._files = None
            os.close(file)

    @classmethod
    def read(cls, folder: Path, scheme: str) -> Store:
        """What is there, without a lock; a line that is being written is left out.

        Raises:
            DataError: a line is damaged.
        """
        store = cls(folder, scheme)
        store._load()
        return store

    def __contains__(self, request_hash: object) -> bool:
        return request_hash in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    def __getitem__(self, request_hash: str) -> Answer:
        return self._answers[request_hash]

    def answers(self) -> list[Answer]:
        """All answers, in the order they came."""
        return list(self._answers.values())

    def quarantine(self) -> list[Rejected]:
        """Everything refused, in the order it came; a request can stand here several times."""
        return list(self._rejected)

    @property
    def refused_hashes(self) -> set[str]:
        """Requests that were refused and never answered."""
        return {entry["hash"] for entry in self._rejected if entry["hash"]} - set(self._answers)

    @property
    def final_hashes(self) -> set[str]:
        """Of these, what asking again would not change: refusals, answers that hit their limit."""
        final = {entry["hash"] for entry in self._rejected if entry.get("final")}
        return final & self.refused_hashes

    def counts(self) -> Counts:
        """How much there is, and what it cost."""
        lines = [*self._answers.values(), *self._dropped, *self._rejected]
        usage = Usage(
            sum(line["usage"]["prompt_tokens"] for line in lines),
            sum(line["usage"]["completion_tokens"] for line in lines),
        )
        return Counts(
            answers=len(self._answers),
            quarantined=len(self.refused_hashes),
            usage=usage,
            seconds=sum(line["seconds"] for line in lines),
            notes=sum(bool(answer["notes"]) for answer in self._answers.values()),
        )

    def add(self, answers: Iterable[Answer]) -> None:
        """Append answers; they are on disk when this returns.

        Raises:
            DataError: one of them already exists; nothing is written then.
        """
        batch: dict[str, Answer] = {}
        for answer in answers:
            if answer["hash"] in self._answers or answer["hash"] in batch:
                raise DataError(f"{self.path}: {answer['key']!r} is answered already")
            batch[answer["hash"]] = answer
        self._append(0, list(batch.values()))
        self._answers.update(batch)

    def replace(self, answers: Iterable[Answer]) -> None:
        """Append answers in place of those of the same requests; on disk when this returns."""
        batch = list(answers)
        old = [self._answers[a["hash"]] for a in batch if a["hash"] in self._answers]
        self._append_and_take([*map(_drop_line, old), *batch])

    def drop(self, hashes: Iterable[str]) -> None:
        """Take answers out; the next run asks their requests again. On disk when this returns.

        Args:
            hashes: of answers that are there.
        """
        self._append_and_take([_drop_line(self._answers[one]) for one in hashes])

    def reject(self, rejected: Iterable[Rejected]) -> None:
        """Append to the quarantine; on disk when this returns."""
        batch = list(rejected)
        self._append(1, batch)
        self._rejected.extend(batch)

    def _append_and_take(self, lines: list[Any]) -> None:
        self._append(0, lines)
        for line in lines:
            self._take(line)

    def _append(self, which: int, lines: list[Any]) -> None:
        if self._files is None:
            raise ValueError("the store is open for reading only")
        if not lines:
            return
        text = "".join(
            json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines
        )
        file, data = self._files[which], whole_characters(text).encode("utf-8")
        before = os.fstat(file).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            os.fsync(file)
        except OSError as error:
            os.ftruncate(file, before)  # a full disk leaves no half line
            error.filename = error.filename or str(self.path)
            raise

    def _put_aside_torn_lines(self) -> None:
        files = cast(tuple[int, int], self._files)
        torn = []
        for file, path in zip(files, (self.path, self.quarantine_path), strict=True):
            data = path.read_bytes()
            end = data.rfind(b"\n") + 1
            if end == len(data):
                continue
            if _is_whole(data[end:]):
                os.write(file, b"\n")
                continue
            torn.append(_torn(path, data[end:]))
            os.ftruncate(file, end)
        self._append(1, torn)

    def _take(self, line: Mapping[str, Any]) -> None:
        """One line of the answers: an answer, or that one was dropped."""
        if line.get("dropped"):
            old = self._answers.pop(line["hash"], None)
            self._dropped += [] if old is None else [old]
        else:
            self._answers.setdefault(line["hash"], cast(Answer, line))

    def _load(self) -> None:
        for line in _lines(self.path, _AnswerLine):
            self._take(line)
        self._rejected = [
            cast(Rejected, entry) for entry in _lines(self.quarantine_path, _RejectedLine)
        ]


def _drop_line(answer: Answer) -> dict[str, Any]:
    """The line that takes an answer out; it costs nothing itself."""
    usage = {"prompt_tokens": 0, "completion_tokens": 0}
    return {"hash": answer["hash"], "key": answer["key"], "answer": None, "usage": usage,
            "dropped": True, "time": now()}  # fmt: skip


def _is_whole(data: bytes) -> bool:
    """Whether only the line feed is missing."""
    try:
        return isinstance(parse_json(data, "", half_pairs=True), dict)
    except DataError:
        return False


def _torn(path: Path, data: bytes) -> Rejected:
    return {
        "hash": "",
        "key": "",
        "scheme": path.name.split(".")[0],
        "version": 0,
        "source": "",
        "model": "",
        "parameters": {},
        "text": data.decode("utf-8", "replace"),
        "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        "seconds": 0.0,
        "time": now(),
        "reason": f"{TORN} at the end of {path.name}",
        "final": False,
    }


def _lines(path: Path, schema: type[Record]) -> Iterator[dict[str, Any]]:
    data = path.read_bytes() if path.is_file() else b""
    whole = data[: data.rfind(b"\n") + 1]
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        value = parse_json(line, str(path), line=number, half_pairs=True)
        check_record(value, schema, f"{path}:{number}: no line of a store")
        if b"\\u" in line:  # half an emoji, stored before it was looked for
            value = json.loads(whole_characters(json.dumps(value, ensure_ascii=False)))
        yield value
