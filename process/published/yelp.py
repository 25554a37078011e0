"""Yelp's open data set: ``yelp_academic_dataset_{business,review,user,tip}.json``.

One JSON object a line; keys as https://business.yelp.com/data/resources/open-dataset/ documents
them. What was counted over all reviews, held-out ones among them (stars and review_count of a
business, all counts of a user), is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from process.published.choices import Choices
from process.published.layout import Layout
from process.published.objects import ObjectLines
from process.table.sources import Source
from process.tsv import find_file, require_file

_NAME = "yelp_academic_dataset_{}.json"
_BUSINESS = ("business_id", "name", "categories", "city", "state")


def find(folder: Path, choices: Choices) -> Layout | None:
    """The layout of a folder; None: it has no reviews of Yelp.

    Raises:
        DataError: there is no file of businesses.
    """
    reviews = find_file(folder, _NAME.format("review"))
    if reviews is None:
        return None
    keys = ["user_id", "business_id", "stars", "date", *["text"] * choices.reviews]
    events: list[Source] = [ObjectLines(reviews, keys)]
    if choices.tips:
        events.append(ObjectLines(require_file(folder, _NAME.format("tip")), keys))
    users = find_file(folder, _NAME.format("user"))
    asked: dict[str, Any] = {
        "item": "business_id", "text": ["name", "categories"], "category": ["city", "state"],
    }  # fmt: skip
    if users is not None:
        asked["number"] = ["yelping_since"]
    if choices.reviews:
        asked["review"] = "text"
    return Layout(
        name="yelp",
        items=[ObjectLines(require_file(folder, _NAME.format("business")), _BUSINESS)],
        events=events,
        users=[ObjectLines(users, ["user_id", "yelping_since"])] if users else [],
        asked=asked,
    )
