"""Review files of three releases and of the prepared sets, one JSON object a line.

They are read once. Texts go to disk until it is known which reviews pass the filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from process.bad_lines import BadLine, BadLines
from process.interactions.rows import Collector, Interactions
from process.json_blocks import Lines, read_blocks
from process.json_lines import Row
from process.moments import UNKNOWN_TIME, read_moment
from process.spilled_texts import SpilledTexts, TextBlock

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


class Reviews(NamedTuple):
    """What review files hold.

    Attributes:
        interactions: users, items, ratings and times.
        texts: one row an interaction, without markup, each on one line; ``Interactions.place`` is
            its number. None where there are none.
        oddities: counts.
    """

    interactions: Interactions
    texts: SpilledTexts | None
    oddities: dict[str, int]


def read_reviews(paths: Sequence[Path], bad: BadLines) -> Reviews:
    """All reviews.

    A rating of 0, null or NaN, and a missing one, is unknown; so is a time that is null or missing.

    Args:
        paths: review files; the first lines of each tell its release.
        bad: counts the lines that cannot be read.

    Raises:
        DataError: a damaged file, or too many bad lines; names file and line.
    """
    collector, texts = Collector(), SpilledTexts(TEXTS)
    for interactions, written in read_blocks(paths, "reading reviews", parse_reviews, bad):
        collector.extend(interactions)
        texts.add(written)
    bad.check()
    found = collector.done()
    oddities = {
        "reviews without a rating": int(np.isnan(found.rating).sum()),
        "reviews without a time, put before all others of their user": int(
            (found.time == UNKNOWN_TIME).sum()
        ),
        **bad.oddities(),
    }
    return Reviews(found, texts, oddities)


def parse_reviews(
    lines: Lines, known: ReviewFormat | None
) -> tuple[tuple[Collector, TextBlock], ReviewFormat | None]:
    """The reviews of a block; ``known``: the release of the file, told by its first lines."""
    found, texts = list[tuple[str, str, float, int, bytes]](), list[str]()
    for row in lines:
        try:
            known = known or detect_format(row)
            user, item = row.id(known.user), row.id(known.item)
            rating = _rating(row, known)
            time = read_moment(row, known.time, lines.notes, milliseconds=known.milliseconds)
            written = row.text(known.review), row.text(known.headline)
        except BadLine as error:
            lines.refuse(error)
        else:
            found.append((user, item, rating, time, row.content))
            texts += written
    return (Collector.of_rows(found), TextBlock(texts)), known


def _rating(row: Row, known: ReviewFormat) -> float:
    value = row.values.get(known.rating)
    if type(value) is float and 0 < value <= MOST_STARS:
        return value
    value = row.number(known.rating)
    if value is None or math.isnan(value) or value == 0:
        return math.nan
    if not 0 < value <= MOST_STARS:
        raise row.bad(known.rating, f"a rating from 0 (unknown) to {MOST_STARS}")
    return float(value)
