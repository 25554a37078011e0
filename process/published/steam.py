"""Steam's reviews and games (Kang and McAuley, ICDM 2018; Wan and McAuley, RecSys 2018).

``steam_reviews.json.gz`` (or ``steam_new.json.gz``) and ``steam_games.json.gz``, unpacked or not: a
Python dict a line, ``{u'username': u'...', u'product_id': u'725280', ...}``. A user is a name, as
most lines have no user_id. What reviews made of a game (``sentiment``) is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from process.bad_lines import BadLines
from process.published.choices import Choices
from process.published.layout import Columns, Derived, Layout
from process.published.objects import ObjectLines
from process.tsv import find_file, require_file

_GAME = ("id", "app_name", "title", "genres", "tags", "specs", "developer", "publisher")


def find(folder: Path, choices: Choices) -> Layout | None:
    """The layout of a folder; None: it has no reviews of Steam.

    Raises:
        DataError: there is no file of games.
    """
    found = (find_file(folder, name) for name in ("steam_reviews.json", "steam_new.json"))
    reviews = next((path for path in found if path is not None), None)
    if reviews is None:
        return None
    games = ObjectLines(require_file(folder, "steam_games.json"), _GAME, python_too=True)
    fields = [name for name in _GAME if name != "app_name"]
    keys = ["username", "product_id", "date", *["text"] * choices.reviews]
    asked: dict[str, Any] = {
        "item": "product_id", "user": "username", "time": "date", "text": ["title"],
        "list": ["genres", "tags", "specs"], "category": ["developer", "publisher"],
    }  # fmt: skip
    if choices.reviews:
        asked["review"] = "text"
    return Layout(
        name="steam",
        items=[Derived(games, fields, _titled)],
        events=[ObjectLines(reviews, keys, python_too=True)],
        asked=asked,
    )


def _titled(columns: Columns, bad: BadLines) -> dict[str, np.ndarray]:
    """The name in the shop where a game has no title."""
    titles = zip(columns["title"].tolist(), columns["app_name"].tolist(), strict=True)
    own = np.fromiter((title or name for title, name in titles), object, len(columns["title"]))
    return {"title": own}
