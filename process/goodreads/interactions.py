"""The UCSD interactions: read once, then counted and filtered as integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from legos.errors import DataError
from process.bad_lines import BadLine, BadLines
from process.interactions.parts import Part, Parts
from process.interactions.rows import Interactions
from process.json_blocks import Lines, read_blocks
from process.json_lines import Row
from process.moments import UNKNOWN_TIME, read_moment

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
    book_ids: list[str]
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
    """Read the interactions once; memory grows with users, books and ratings above or below 3.

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
    parts, counts = Parts(), Counter[str]()
    parse = partial(parse_ratings, filters)
    for part, counted in read_blocks(paths, "reading interactions", parse, bad):
        parts.extend(part)
        counts.update(counted)
    bad.check()
    what = "taken as negative" if filters.unrated_is_negative else "dropped"
    dropped = {
        "interactions of 3 stars, dropped": counts["neutral"],
        f"unrated interactions, {what}": counts["unrated"],
        **bad.oddities(),
    }
    if counts["undated"]:
        undated = "interactions without a date, put before all others of their user"
        dropped[undated] = counts["undated"]
    kept = _can_pass(parts.done(), filters, generator, paths[0]).chronological(seed)
    pairs = kept.user.astype(np.int64) * len(kept.item_ids) + kept.item
    first = kept.take(np.sort(np.unique(pairs, return_index=True)[1]))
    ratings = Ratings(
        first.user_ids, first.item_ids, first.user, first.item, first.rating > 0, first.time
    )
    return ratings, {**dropped, "ratings of the same user and book again": len(kept) - len(first)}


def parse_ratings(
    filters: Filters, lines: Lines, _: None
) -> tuple[tuple[Part, dict[str, int]], bool]:
    """The ratings of a block that say yes (1) or no (-1), and counts of all others."""
    found = list[tuple[str, str, float, int, bytes]]()
    neutral = unrated = undated = 0
    for row in lines:
        try:
            user, book, rating = _rated(row)
            time = read_moment(row, DATE, lines.notes)
        except BadLine as error:
            lines.refuse(error)
            continue
        neutral += rating == NEUTRAL
        unrated += rating == 0
        undated += time == UNKNOWN_TIME
        if sign := filters.sign(rating):
            found.append((user, str(book), sign, time, row.content))
    counts = {"neutral": neutral, "unrated": unrated, "undated": undated}
    users, items, ratings, times, contents = zip(*found, strict=True) if found else [()] * 5
    part = Part.of(users, items, ratings, times, b"".join(contents))
    return (part, counts), True


def _can_pass(
    found: Interactions, filters: Filters, generator: np.random.Generator, path: Path
) -> Interactions:
    """The ratings of users and books that have enough, and of no more users than asked for."""
    readers = np.bincount(found.item, minlength=len(found.item_ids))
    positives = np.bincount(found.user[found.rating > 0], minlength=len(found.user_ids))
    books = np.flatnonzero((readers >= filters.fewest_readers) & (readers <= filters.most_readers))
    chosen = np.flatnonzero(positives >= filters.fewest_positives)
    if filters.users is not None and filters.users < len(chosen):
        chosen = chosen[np.sort(generator.permutation(len(chosen))[: filters.users])]
    if not len(chosen) or not len(books):
        raise DataError(
            f"{path}: of {len(positives)} users and {len(readers)} books, {len(chosen)} users "
            f"have {filters.fewest_positives} positive books and {len(books)} books have "
            f"{filters.fewest_readers} to {filters.most_readers} ratings; nothing is left"
        )
    user_rows, item_rows = np.full(len(positives), -1), np.full(len(readers), -1)
    user_rows[chosen], item_rows[books] = np.arange(len(chosen)), np.arange(len(books))
    kept = found.take((user_rows[found.user] >= 0) & (item_rows[found.item] >= 0))
    return replace(
        kept,
        user_ids=[found.user_ids[row] for row in chosen],
        item_ids=[found.item_ids[row] for row in books],
        user=user_rows[kept.user].astype(np.int32),
        item=item_rows[kept.item].astype(np.int32),
    )


def _rated(row: Row) -> tuple[str, int, float]:
    """User, book and rating; a rating of null is 0, as where a book was only shelved."""
    row.required("rating")
    rating = row.number("rating") or 0
    if not 0 <= rating <= MOST_STARS:
        raise row.bad("rating", f"a rating from 0 (unrated) to {MOST_STARS}")
    return row.id("user_id"), row.integer("book_id"), rating
