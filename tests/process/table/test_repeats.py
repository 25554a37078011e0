"""A view and a purchase of one item are what the table of docs/your-data.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.process.table.own import build, clicks

_DONE = [("a", "view"), ("b", "view"), *((item, "purchase") for item in "acde")]
_SECOND = 1_735_689_600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, "abcde"),
        ({"duplicates": "last"}, "bacde"),
        ({"event_weight": {"view": 1, "purchase": 3}}, "bacde"),
        ({"positive": ["purchase"]}, "acde"),
        ({"duplicates": "keep"}, "abacde"),
    ],
)
def test_a_view_and_a_purchase_are_the_click_that_the_guide_says(
    tmp_path: Path, options: dict[str, Any], kept: str
) -> None:
    events = pd.DataFrame(
        [
            (user, chr(ord(letter) + shift), kind, _SECOND + time)
            for user, shift in (("u", 0), ("v", 5))
            for time, (letter, kind) in enumerate(_DONE)
        ],
        columns=["user", "item", "event", "time"],
    )
    items = pd.DataFrame({"item": list("abcdefghij"), "title": ["a b"] * 10})
    tables = build(items, events, tmp_path, **options)
    history, click = next(row[1:3] for row in clicks(tables, "test") if row[0] == "u")
    assert [*history, click] == list(kept)
