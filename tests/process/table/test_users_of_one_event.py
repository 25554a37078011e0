"""Users whose events no split asks for still have a history when lists are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from legos.data.tables import Tables
from legos.recommend.histories import whole_histories
from tests.process.table.own import build, small_shop

SHOP = small_shop()
KNOWN = SHOP.events[SHOP.events["sku"].isin(SHOP.items["sku"])]
OLDEST, NEWEST = KNOWN["ts"].min() - 1, KNOWN["ts"].max() + 1


def _events(time: int) -> pd.DataFrame:
    """The shop's events and one of a user who has no other, at a time."""
    alone = KNOWN.iloc[:1].assign(customer_id="alone", ts=time)
    return pd.concat([KNOWN, alone], ignore_index=True)


@pytest.mark.parametrize(
    ("split", "time"), [("leave-last-out", OLDEST), ("by-time", OLDEST), ("by-time", NEWEST)]
)
def test_the_only_event_of_a_user_is_their_history(tmp_path: Path, split: str, time: int) -> None:
    columns = build(SHOP.items, _events(time), tmp_path, split=split)
    tables = Tables.load(columns.folder)
    user = tables.vocabulary("user_id").index("alone")
    for name in tables.splits:
        assert user not in tables.scalar(name, "user_id").tolist()
    history = whole_histories(tables, list(tables.splits)).row(user).tolist()
    assert [tables.vocabulary("item_id")[item] for item in history] == [KNOWN.iloc[0]["sku"]]


def test_it_changes_no_impression_and_no_other_history(tmp_path: Path) -> None:
    without, having = (
        Tables.load(build(SHOP.items, events, tmp_path / name).folder)
        for name, events in (("without", KNOWN), ("having", _events(OLDEST)))
    )
    states = _by_id(without)
    found = _by_id(having)
    assert found.pop("alone") == [[KNOWN.iloc[0]["sku"]]]
    assert found == states
    for split in without.splits:
        assert len(having.scalar(split, "time")) == len(without.scalar(split, "time"))


def test_events_beyond_the_longest_history_are_read_in_their_order(tmp_path: Path) -> None:
    tables = Tables.load(build(SHOP.items, KNOWN, tmp_path, longest_history=3).folder)
    whole = whole_histories(tables, ["train", "valid", "test"])
    items = tables.vocabulary("item_id")
    read = {
        user: [items[item] for item in whole.row(row).tolist()]
        for row, user in enumerate(tables.vocabulary("user_id"))
    }
    once = KNOWN.sort_values("ts").drop_duplicates(["customer_id", "sku"])
    assert once.groupby("customer_id").size().max() > 10
    assert read == once.groupby("customer_id")["sku"].agg(list).to_dict()


def _by_id(tables: Tables) -> dict[str, list[list[str]]]:
    """User -> histories, as ids."""
    users, items = (np.array(tables.vocabulary(name)) for name in ("user_id", "item_id"))
    states = tables.lists("histories", "items").numpy()
    found: dict[str, list[list[str]]] = {}
    for row, user in enumerate(users[tables.scalar("histories", "user_id").numpy()]):
        found.setdefault(user, []).append(items[states.row(row)].tolist())
    return found
