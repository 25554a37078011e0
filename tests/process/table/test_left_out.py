"""What tables leave out is counted and named: users, items, empty titles."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import legos.tables

ITEMS = pd.DataFrame(
    {
        "sku": [f"S{number}" for number in range(9)],
        "title": ["red lamp", "", "blue pan", "", "a b", "a c", "a d", "a e", "old chair"],
    }
)
_HAD = {"c1": [0, 1, 2], "c2": [3, 4], "c3": [5, 6], "c4": [7], "c5": [1, 3], "c6": [5]}
EVENTS = pd.DataFrame(
    [
        (user, f"S{item}", time, "buy" if len(items) > 1 else "view")
        for user, items in _HAD.items()
        for time, item in enumerate(items)
    ],
    columns=["customer_id", "sku", "time", "event"],
)


@pytest.mark.slow
def test_customers_items_and_titles_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = pd.DataFrame({"customer_id": ["c1", "c7"], "age": [1, 2]})
    legos.tables.build(
        ITEMS,
        EVENTS,
        users,
        output=tmp_path / "tables",
        positive=["buy"],
        clicked_only=True,
        split="none",
    )
    said = " ".join(capsys.readouterr().out.split())
    for note in (
        r"users of events .*without an event that counts, left out: 2 of 6 \('c4', 'c6'\)",
        r"items of items .*without a click that counts, left out: 2 of 9 \('S[78]', 'S[78]'\)",
        r"title is empty for 2 of 7 items \('S[13]', 'S[13]'\)",
        r"users of users .*without events, left out: 1 \('c7'\)",
    ):
        assert re.search(note, said), said


@pytest.mark.slow
def test_nothing_is_said_where_nothing_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = ITEMS.assign(title="a lamp")
    legos.tables.build(items, EVENTS, output=tmp_path / "tables", split="none")
    said = capsys.readouterr().out
    assert "left out" not in said
    assert "is empty for" not in said
