"""Readers of GENRE's logs: what a language model answered about books and users (ONCE, section 3).

The logs were appended to by resumed scripts, so an id can occur several times; the later answer
counts, as it does in ONCE's own ``book-desc.csv``. Rows that cannot be read are counted, not
repaired.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from legos.errors import DataError

Key = TypeVar("Key", int, str)
Value = TypeVar("Value")
_DESCRIPTION = "[description]"


@dataclass
class GenreLog(Generic[Key, Value]):
    """One log, read.

    Attributes:
        path: the file.
        values: the last readable answer of every id.
        duplicates: readable rows whose id had occurred before.
        bad_rows: rows that could not be read.
        bad_lines: 1-based numbers of the first ten of them.
    """

    path: Path
    values: dict[Key, Value] = field(default_factory=dict)
    duplicates: int = 0
    bad_rows: int = 0
    bad_lines: list[int] = field(default_factory=list)

    def oddities(self) -> dict[str, int]:
        """The counts under the names of the manifest."""
        name = self.path.name
        return {f"{name}: duplicate ids": self.duplicates, f"{name}: bad rows": self.bad_rows}


@dataclass(frozen=True)
class GeneratedBook:
    """A book that the model invented for a user with few books."""

    title: str
    description: str


def read_descriptions(path: Path) -> GenreLog[str, str]:
    """``book_summarizer.log``: ``bid TAB [description] text`` -> description by book id."""
    return _read(path, _description)


def read_interests(path: Path) -> GenreLog[int, list[str]]:
    """``user_profiler.log``: ``{"uid": 0, "interest": [...]}`` -> interests by user index.

    The profiles were written from whole histories, held-out books included.
    """
    return _read(path, _interests)


def read_generated_books(path: Path) -> GenreLog[int, GeneratedBook]:
    """``generator_v*.log``: ``{"uid": 0, "book": "{...}"}``, JSON in JSON -> book by user index."""
    return _read(path, _generated_book)


def _read(path: Path, parse: Callable[[str], tuple[Key, Value]]) -> GenreLog[Key, Value]:
    log: GenreLog[Key, Value] = GenreLog(path)
    for number, line in _lines(path):
        try:
            key, value = parse(line)
        except (ValueError, KeyError, TypeError):  # whatever is wrong with a row: it is counted
            log.bad_rows += 1
            if len(log.bad_lines) < 10:
                log.bad_lines.append(number)
            continue
        log.duplicates += key in log.values
        log.values[key] = value
    return log


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield number, raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: not UTF-8 ({error.reason})") from None


def _description(line: str) -> tuple[str, str]:
    book, tab, text = line.partition("\t")
    text = text.strip().removeprefix(_DESCRIPTION).strip()
    if not tab or not book or not text:
        raise ValueError("no id or no description")
    return book, text


def _interests(line: str) -> tuple[int, list[str]]:
    row = json.loads(line)
    interests = row["interest"]
    if not isinstance(interests, list) or not all(isinstance(word, str) for word in interests):
        raise ValueError("interests are not a list of strings")
    return _user(row), interests


def _generated_book(line: str) -> tuple[int, GeneratedBook]:
    row = json.loads(line)
    book = json.loads(row["book"])
    title, description = book["title"], book["description"]
    if not isinstance(title, str) or not isinstance(description, str) or not title.strip():
        raise ValueError("title or description is not text")
    return _user(row), GeneratedBook(title.strip(), description.strip())


def _user(row: dict[str, Any]) -> int:
    user = row["uid"]
    if type(user) is not int:
        raise ValueError("uid is not a number")
    return user
