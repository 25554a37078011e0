"""Review files of three releases and of the prepared sets, one JSON object a line.

They are read twice: users, items, ratings and times first, then the texts of what passed the
filters, so that memory grows with what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from legos.errors import DataError
from process.amazon.interactions import UNKNOWN_TIME, Collector, Interactions
from process.json_lines import Row, read_json_lines

MOST_STARS = 5
TEXTS = ("review", "headline")


@dataclass(frozen=True)
class ReviewFormat:
    """What a release calls the parts of a review.

    Attributes:
        name: of the release.
        user, item, rating, time, review, headline: keys.
        ticks: units of ``time`` a second.
    """

    name: str
    user: str
    item: str
    rating: str
    time: str
    review: str
    headline: str
    ticks: int = 1


FORMATS = (
    ReviewFormat(
        "Amazon 2014 and 2018",
        "reviewerID", "asin", "overall", "unixReviewTime", "reviewText", "summary",
    ),
    ReviewFormat(
        "Amazon 2023", "user_id", "parent_asin", "rating", "timestamp", "text", "title", 1000
    ),
    ReviewFormat("prepared", "user_id", "item_id", "rating", "timestamp", "review", "summary"),
)  # fmt: skip


def detect_format(row: Row) -> ReviewFormat:
    """The release a line is from, told by its keys.

    Raises:
        DataError: of none; names file, line and keys.
    """
    for known in FORMATS:
        if known.user in row.values and known.item in row.values:
            return known
    found = ", ".join(sorted(row.values)) or "nothing"
    expected = "; ".join(f"{known.user}, {known.item} ({known.name})" for known in FORMATS)
    raise DataError(
        f"{row.path}:{row.line}: not a review of a known release; expected the keys {expected}; "
        f"found: {found}"
    )


def read_reviews(paths: Sequence[Path]) -> tuple[Interactions, dict[str, int]]:
    """Users, items, ratings and times of all reviews, and counts of oddities.

    A rating of 0, null or NaN, and a missing one, is unknown.

    Args:
        paths: review files; the first line of each tells its release.

    Raises:
        DataError: a damaged file or line; names file and line.
    """
    collector = Collector()
    unrated = undated = 0
    for path in paths:
        known: ReviewFormat | None = None
        for row in read_json_lines([path], "reading interactions"):
            known = known or detect_format(row)
            rating, time = _rating(row, known), _time(row, known)
            unrated += math.isnan(rating)
            undated += time == UNKNOWN_TIME
            collector.add(row.text(known.user), row.text(known.item), rating, time, row.content)
    oddities = {
        "reviews without a rating": unrated,
        "reviews without a time, put before all others of their user": undated,
    }
    return collector.done(), oddities


def read_texts(paths: Sequence[Path], places: np.ndarray) -> dict[str, list[str]]:
    """The texts of chosen reviews, each on one line, "" where there is none.

    Args:
        paths: the files that ``read_reviews`` read.
        places: ``(K,)`` int64 ``Interactions.place`` of the reviews wanted.

    Returns:
        By field ``review`` and ``headline`` ``K`` texts; a field that nobody filled is left out.

    Raises:
        DataError: a text is not a string; names file and line.
    """
    row_of_place = {place: row for row, place in enumerate(places.tolist())}
    texts = {field: [""] * len(places) for field in TEXTS}
    place = -1
    for path in paths:
        known: ReviewFormat | None = None
        for row in read_json_lines([path], "reading review texts"):
            known = known or detect_format(row)
            place += 1
            wanted = row_of_place.get(place)
            if wanted is not None:
                texts["review"][wanted] = _text(row, known.review)
                texts["headline"][wanted] = _text(row, known.headline)
    return {field: found for field, found in texts.items() if any(found)}


def _rating(row: Row, known: ReviewFormat) -> float:
    value = row.values.get(known.rating)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{row.path}:{row.line}: {known.rating!r} is {value!r}, expected a number")
    if math.isnan(value) or value == 0:
        return math.nan
    if not 0 < value <= MOST_STARS:
        raise DataError(
            f"{row.path}:{row.line}: {known.rating!r} is {value!r}, expected 0 (unknown) to "
            f"{MOST_STARS}"
        )
    return float(value)


def _time(row: Row, known: ReviewFormat) -> int:
    if row.values.get(known.time) is None:
        return UNKNOWN_TIME
    time = row.integer(known.time)
    if not 0 <= time < 2**62:
        raise DataError(
            f"{row.path}:{row.line}: {known.time!r} is {time}, expected a time since 1970"
        )
    return time // known.ticks


def _text(row: Row, key: str) -> str:
    value = row.values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{row.path}:{row.line}: {key!r} is a {type(value).__name__}, expected a string"
        )
    return " ".join(value.split())
