"""The UCSD interactions in two passes: count, then keep what passes the filters as integers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from legos.errors import DataError
from process.bad_lines import BadLine, BadLines
from process.json_lines import Row, read_json_lines
from process.moments import UNKNOWN_TIME, read_moment
from process.ties import by_hash, by_id, pair_hashes

MOST_STARS = 5
DATE = "date_added"
NEUTRAL = 3  # ratings above are positive, below negative; 0 means that nobody rated


@dataclass(frozen=True)
class Filters:
    """Which users and books stay; defaults are ONCE's.

    Attributes:
        fewest_readers, most_readers: ratings a book must have, 3 stars left out.
        fewest_positives: positive books a user must have.
        users: keep at most this many, drawn at random; None = all.
        longest: keep a user's first so many positives, and so many negatives.
        unrated_is_negative: count rating 0 (shelved, not rated) as a dislike, as ONCE's script did.
    """

    fewest_readers: int = 5
    most_readers: int = 10_000
    fewest_positives: int = 10
    users: int | None = None
    longest: int = 50
    unrated_is_negative: bool = False

    def sign(self, rating: float) -> int:
        """1 positive, -1 negative, 0 dropped."""
        if rating == 0 and not self.unrated_is_negative:
            return 0
        return (rating > NEUTRAL) - (rating < NEUTRAL)


@dataclass(frozen=True)
class Ratings:
    """Kept ratings, ordered by user, then time, then a seeded hash. ``K`` ratings.

    Attributes:
        user_ids: ``U`` ids; book_ids: ``N`` ids.
        user, book: ``(K,)`` int32 positions in them.
        positive: ``(K,)`` bool.
        time: ``(K,)`` int64 Unix seconds.
    """

    user_ids: list[str]
    book_ids: list[int]
    user: np.ndarray
    book: np.ndarray
    positive: np.ndarray
    time: np.ndarray


def read_ratings(
    paths: Sequence[Path],
    filters: Filters,
    generator: np.random.Generator,
    seed: int,
    bad: BadLines,
) -> tuple[Ratings, dict[str, int]]:
    """Read the interactions twice; memory grows with users, books and kept ratings only.

    Of several ratings of a user and book the earliest counts.

    Args:
        paths: the files.
        filters: which users and books stay.
        generator: draws the users kept.
        seed: of the hash that orders ratings of one time.
        bad: counts the lines that cannot be read.

    Returns:
        The ratings of users and books that can still pass the filters, and counts of oddities.

    Raises:
        DataError: a damaged file, too many bad lines, or no user and book pass the filters.
    """
    positives, readers, dropped = _count(paths, filters, bad)
    books = [
        book
        for book, count in readers.items()
        if filters.fewest_readers <= count <= filters.most_readers
    ]
    books = [books[i] for i in by_hash([str(book) for book in books])]
    chosen = [user for user, count in positives.items() if count >= filters.fewest_positives]
    chosen = [chosen[i] for i in by_id(chosen)]
    if filters.users is not None and filters.users < len(chosen):
        picked = np.sort(generator.permutation(len(chosen))[: filters.users])
        chosen = [chosen[i] for i in picked]
    if not chosen or not books:
        raise DataError(
            f"{paths[0]}: of {len(positives)} users and {len(readers)} books, {len(chosen)} users "
            f"have {filters.fewest_positives} positive books and {len(books)} books have "
            f"{filters.fewest_readers} to {filters.most_readers} ratings; nothing is left"
        )
    ratings, twice = _collect(paths, filters, chosen, books, seed)
    return ratings, {**dropped, "ratings of the same user and book again": twice}


def _count(
    paths: Sequence[Path], filters: Filters, bad: BadLines
) -> tuple[dict[str, int], dict[int, int], dict[str, int]]:
    """Positives by user, ratings by book, and how many ratings were dropped."""
    positives: dict[str, int] = {}
    readers: dict[int, int] = {}
    neutral = unrated = undated = 0
    for row in read_json_lines(paths, "counting interactions", bad=bad):
        try:
            user, book, rating = _rated(row)
            time = read_moment(row, DATE, bad.notes)
        except BadLine as error:
            bad.add(error)
            continue
        sign = filters.sign(rating)
        neutral += rating == NEUTRAL
        unrated += rating == 0
        undated += time == UNKNOWN_TIME
        if sign:
            readers[book] = readers.get(book, 0) + 1
            positives[user] = positives.get(user, 0) + (sign > 0)
    bad.check()
    what = "taken as negative" if filters.unrated_is_negative else "dropped"
    dropped = {
        "interactions of 3 stars, dropped": neutral,
        f"unrated interactions, {what}": unrated,
        **bad.oddities(),
    }
    if undated:
        dropped["interactions without a date, put before all others of their user"] = undated
    return positives, readers, dropped


def _collect(
    paths: Sequence[Path], filters: Filters, chosen: list[str], books: list[int], seed: int
) -> tuple[Ratings, int]:
    """Second pass: the ratings of chosen users and books, and how many came twice."""
    row_of_user = {user: row for row, user in enumerate(chosen)}
    row_of_book = {book: row for row, book in enumerate(books)}
    user, book, positive, time = array("i"), array("i"), array("b"), array("q")
    content = bytearray()
    again = BadLines(max_share=1)  # the first pass has counted them
    for row in read_json_lines(paths, "collecting interactions", bad=again):
        try:
            user_id, book_id, rating = _rated(row)
            moment = read_moment(row, DATE, again.notes)
        except BadLine:
            continue
        user_row, book_row = row_of_user.get(user_id), row_of_book.get(book_id)
        sign = filters.sign(rating)
        if user_row is None or book_row is None or not sign:
            continue
        user.append(user_row)
        book.append(book_row)
        positive.append(sign > 0)
        time.append(moment)
        content += row.content
    users, rows = np.asarray(user, dtype=np.int32), np.asarray(book, dtype=np.int32)
    moments = np.asarray(time, dtype=np.int64)
    pairs = pair_hashes(chosen, [str(book) for book in books], users, rows, seed)
    order = np.lexsort((np.frombuffer(content, dtype="<u8"), pairs, moments, users))
    _, first = np.unique(
        users[order].astype(np.int64) * len(books) + rows[order], return_index=True
    )
    order = order[np.sort(first)]
    ratings = Ratings(
        user_ids=chosen,
        book_ids=books,
        user=users[order],
        book=rows[order],
        positive=np.asarray(positive, dtype=np.int8)[order] > 0,
        time=moments[order],
    )
    return ratings, len(users) - len(order)


def _rated(row: Row) -> tuple[str, int, float]:
    """User, book and rating; a rating of null is 0, as where a book was only shelved."""
    row.required("rating")
    rating = row.number("rating") or 0
    if not 0 <= rating <= MOST_STARS:
        raise row.bad("rating", f"a rating from 0 (unrated) to {MOST_STARS}")
    return row.id("user_id"), row.integer("book_id"), rating
