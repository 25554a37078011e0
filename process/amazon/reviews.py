"""Review files of three releases and of the prepared sets, one JSON object a line.

They are read twice: users, items, ratings and times first, then the texts of what passed the
filters, so that memory grows with what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from process.bad_lines import BadLine, BadLines
from process.interactions.rows import Collector, Interactions
from process.json_lines import Row, read_json_lines
from process.moments import UNKNOWN_TIME, read_moment

MOST_STARS = 5
TEXTS = ("review", "headline")


@dataclass(frozen=True)
class ReviewFormat:
    """What a release calls the parts of a review.

    Attributes:
        name: of the release.
        user, item, rating, time, review, headline: keys.
        milliseconds: ``time`` is in those.
    """

    name: str
    user: str
    item: str
    rating: str
    time: str
    review: str
    headline: str
    milliseconds: bool = False


FORMATS = (
    ReviewFormat(
        "Amazon 2014 and 2018",
        "reviewerID", "asin", "overall", "unixReviewTime", "reviewText", "summary",
    ),
    ReviewFormat(
        "Amazon 2023", "user_id", "parent_asin", "rating", "timestamp", "text", "title", True
    ),
    ReviewFormat("prepared", "user_id", "item_id", "rating", "timestamp", "review", "summary"),
)  # fmt: skip


def detect_format(row: Row) -> ReviewFormat:
    """The release a line is from, told by its keys.

    Raises:
        BadLine: of none; names file, line and keys.
    """
    for known in FORMATS:
        if known.user in row.values and known.item in row.values:
            return known
    expected = "; ".join(f"{known.user}, {known.item} ({known.name})" for known in FORMATS)
    raise BadLine(
        row.at,
        "no review of a known release",
        f"not a review of a known release; expected the keys {expected}; found: {row.keys}",
    )


def read_reviews(paths: Sequence[Path], bad: BadLines) -> tuple[Interactions, dict[str, int]]:
    """Users, items, ratings and times of all reviews, and counts of oddities.

    A rating of 0, null or NaN, and a missing one, is unknown; so is a time that is null or missing.

    Args:
        paths: review files; the first lines of each tell its release.
        bad: counts the lines that cannot be read.

    Raises:
        DataError: a damaged file, or too many bad lines; names file and line.
    """
    collector = Collector()
    unrated = undated = 0
    for place, (row, known) in enumerate(_rows(paths, "reading interactions", bad)):
        try:
            user, item = row.id(known.user), row.id(known.item)
            rating = _rating(row, known)
            time = read_moment(row, known.time, bad.notes, milliseconds=known.milliseconds)
            _check_texts(row, known)
            collector.add(user, item, rating, time, content=row.content, place=place)
        except BadLine as error:
            bad.add(error)
        else:
            unrated += math.isnan(rating)
            undated += time == UNKNOWN_TIME
    bad.check()
    oddities = {
        "reviews without a rating": unrated,
        "reviews without a time, put before all others of their user": undated,
        **bad.oddities(),
    }
    return collector.done(), oddities


def read_texts(paths: Sequence[Path], places: np.ndarray) -> dict[str, list[str]]:
    """The texts of chosen reviews, each on one line without markup, "" where there is none.

    Args:
        paths: the files that ``read_reviews`` read.
        places: ``(K,)`` int64 ``Interactions.place`` of the reviews wanted.

    Returns:
        By field ``review`` and ``headline`` ``K`` texts; a field that nobody filled is left out.

    Raises:
        DataError: a damaged file; names file and line.
    """
    row_of_place = {place: row for row, place in enumerate(places.tolist())}
    texts = {field: [""] * len(places) for field in TEXTS}
    rows = _rows(paths, "reading review texts", BadLines(max_share=1))
    for place, (row, known) in enumerate(rows):
        wanted = row_of_place.get(place)
        if wanted is not None:
            texts["review"][wanted] = row.text(known.review)
            texts["headline"][wanted] = row.text(known.headline)
    return {field: found for field, found in texts.items() if any(found)}


def _rows(paths: Sequence[Path], purpose: str, bad: BadLines) -> Iterator[tuple[Row, ReviewFormat]]:
    """The lines of all files, each with the release of its file."""
    for path in paths:
        known: ReviewFormat | None = None
        for row in read_json_lines([path], purpose, bad=bad):
            try:
                known = known or detect_format(row)
            except BadLine as error:
                bad.add(error)
                continue
            yield row, known


def _rating(row: Row, known: ReviewFormat) -> float:
    value = row.number(known.rating)
    if value is None or math.isnan(value) or value == 0:
        return math.nan
    if not 0 < value <= MOST_STARS:
        raise row.bad(known.rating, f"a rating from 0 (unknown) to {MOST_STARS}")
    return float(value)


def _check_texts(row: Row, known: ReviewFormat) -> None:
    for key in (known.review, known.headline):
        if not isinstance(row.values.get(key), str | None):
            row.text(key)  # raises
