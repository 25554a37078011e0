"""The files that ONCE released for Goodreads become the leave-last-out benchmark."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from legos.data.ragged import RaggedArray, from_lengths
from legos.data.texts import one_line
from legos.errors import DataError
from process.genre.importers import Log, read_log
from process.genre.scheme import load_scheme
from process.goodreads.leave_last_out import SPLIT_RULE, leave_last_out
from process.raw import RawData
from process.restricted_pickle import load_pickled_npy
from process.ties import by_id
from process.tsv import require_file

TEXT_FIELDS = ("title", "description")


def read_release(folder: Path, *, name: str, seed: int = 1) -> RawData:
    """Read ``book.csv``, ``book-desc.csv``, ``user/`` and the GENRE logs; draw the negatives.

    Without ``book-desc.csv`` the descriptions come from ``book_summarizer.log``.

    Raises:
        DataError: a file is missing or damaged, or an id points nowhere.
    """
    books = dict(read_rows(require_file(folder, "book.csv"), ("bid", "title"), "\t"))
    names = list(books)
    books = {names[i]: books[names[i]] for i in by_id(names)}
    descriptions, oddities, sources = _descriptions(folder)
    items = pd.DataFrame(
        {
            "item_id": list(books),
            "title": [one_line(title) for title in books.values()],
            "description": [one_line(descriptions.get(book, "")) for book in books],
        },
        dtype=object,
    )
    users, sequences = read_sequences(folder / "user", list(books))
    oddities["books without a description"] = int((items["description"] == "").sum())
    user_files = [folder / "user" / file for file in ("data.npy", "tok.bid.dat", "tok.uid.dat")]
    return RawData(
        name=name,
        layout="goodreads-once",
        items=items,
        text_fields=TEXT_FIELDS,
        category_fields=(),
        users=users,
        splits=leave_last_out(sequences, len(items), seed),
        split_rule=f"{SPLIT_RULE}; negatives by seed {seed}",
        sources=[folder / "book.csv", *sources, *user_files],
        oddities=oddities,
        settings={"seed": seed},
    )


def _descriptions(folder: Path) -> tuple[dict[str, str], dict[str, int], list[Path]]:
    """Description by book id, the oddities of every GENRE log at hand, and the files read."""
    oddities: dict[str, int] = {}
    table, log = folder / "book-desc.csv", folder / "book_summarizer.log"
    sources = [path for path in (table, log) if path.is_file()]
    if not sources:
        require_file(folder, "book-desc.csv")
    summaries = _genre_log(log, "book_description", oddities) if log.is_file() else None
    for pattern, scheme in (
        ("user_profiler.log", "book_profile"),
        ("generator_v*.log", "book_generator"),
    ):
        for path in sorted(folder.glob(pattern)):
            _genre_log(path, scheme, oddities)
            sources.append(path)
    if table.is_file():
        return dict(read_rows(table, ("bid", "desc"), ",")), oddities, sources
    values = summaries.values if summaries else {}
    return {book: value["description"] for book, value in values.items()}, oddities, sources


def _genre_log(path: Path, scheme: str, oddities: dict[str, int]) -> Log:
    log = read_log(path, load_scheme(scheme))
    oddities[f"{path.name}: duplicate ids"] = log.duplicates
    oddities[f"{path.name}: bad rows"] = log.bad.total()
    return log


def read_rows(path: Path, header: tuple[str, str], delimiter: str) -> Iterator[tuple[str, str]]:
    """Rows of a quoted two-column file with a header, each id once.

    Raises:
        DataError: another header, another number of columns, an id that is empty or occurs twice,
            not UTF-8; names file and line.
    """
    text = io.StringIO(_read_text(path), newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    seen: set[str] = set()
    try:
        found = next(reader, [])
        if tuple(found) != header:
            raise DataError(f"{path}:1: header is {found}, expected {list(header)}")
        for row in reader:
            if len(row) != 2:
                raise DataError(f"{path}:{reader.line_num}: {len(row)} columns, expected 2")
            if not row[0] or row[0] in seen:
                what = "occurs twice" if row[0] else "is empty"
                raise DataError(f"{path}:{reader.line_num}: {header[0]} {row[0]!r} {what}")
            seen.add(row[0])
            yield row[0], row[1]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from None
    if not seen:
        raise DataError(f"{path}: no rows")


def read_sequences(folder: Path, books: list[str]) -> tuple[list[str], RaggedArray]:
    """The UniTok-v3 table ``user/``: ids and reading sequences of the users.

    Args:
        folder: holds ``data.npy`` (a pickle), ``tok.uid.dat`` and ``tok.bid.dat``.
        books: book ids in the order of the item rows.

    Returns:
        User ids, and one row of item rows a user, oldest first.

    Raises:
        DataError: a file is missing or damaged, or an index outside its vocabulary.
    """
    path = folder / "data.npy"
    data = load_pickled_npy(path)
    if not isinstance(data, dict) or not {"uid", "history"} <= data.keys():
        raise DataError(f"{path}: expected a dict with 'uid' and 'history'")
    user_names, book_names = (_vocabulary(folder / f"tok.{key}.dat") for key in ("uid", "bid"))
    row_of_book = {book: row for row, book in enumerate(books)}
    unknown = [book for book in book_names if book not in row_of_book]
    if unknown:
        raise DataError(f"{folder / 'tok.bid.dat'}: book {unknown[0]!r} is not in book.csv")
    try:
        user_index = np.asarray(data["uid"], dtype=np.int64)
        parts = [np.asarray(history, dtype=np.int64) for history in data["history"]]
        values = np.concatenate([*parts, np.zeros(0, dtype=np.int64)])
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: uid or history is not made of numbers ({error})") from None
    for what, indices, limit in (
        ("uid", user_index, len(user_names)),
        ("history", values, len(book_names)),
    ):
        if len(indices) and not 0 <= indices.min() <= indices.max() < limit:
            raise DataError(f"{path}: {what} holds an index outside 0 to {limit - 1}")
    if len(user_index) != len(parts):
        raise DataError(f"{path}: {len(user_index)} users but {len(parts)} histories")
    rows = np.array([row_of_book[book] for book in book_names], dtype=np.int64)
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    return [user_names[i] for i in user_index], from_lengths(rows[values], lengths)


def _vocabulary(path: Path) -> list[str]:
    """One token a line."""
    text = _read_text(require_file(path.parent, path.name))
    return text.removesuffix("\n").split("\n")


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 ({error.reason})") from None
