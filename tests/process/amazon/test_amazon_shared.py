"""The prepared sets, where they are at hand (``LEGOS_SHARED`` or ``../shared``)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from process.amazon.assemble import Options, read_prepared
from process.interactions.filters import Filters
from process.interactions.impressions import Negatives
from process.raw import RawData

SHARED = Path(os.environ.get("LEGOS_SHARED", Path(__file__).parents[4] / "shared")) / "data"


def prepared(name: str) -> tuple[Path, dict[str, Any]]:
    folder = SHARED / name
    if not (folder / "stats.json").is_file():
        pytest.skip(f"no prepared {name}: {folder} is not there (set LEGOS_SHARED)")
    return folder, json.loads((folder / "stats.json").read_text(encoding="utf-8"))


def read(folder: Path, **changes: Any) -> RawData:
    chosen = Options(split="random-80-10-10", **changes)
    return read_prepared(folder, name="real", options=chosen)


def interactions(raw: RawData) -> int:
    return sum(len(rows.candidate_values) for rows in raw.splits.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["amazon-beauty", "amazon-toys", "amazon-games"])
def test_sequences_have_the_counts_of_their_statistics(name: str) -> None:
    folder, stats = prepared(name)
    raw = read(folder)
    assert len(raw.users) == stats["users"]
    assert len(raw.items) == stats["items"]
    assert interactions(raw) == stats["interactions"]
    titled = stats["items"] - stats.get("empty_titles", 0)
    assert sum(map(bool, raw.texts["title"])) == stats.get("items_with_title", titled)
    again = stats.get("dup_items_in_a_sequence", stats.get("seq_with_duplicates"))
    assert raw.oddities["interactions of the same user and item, first one kept"] == again
    if "titles_distinct" in stats:
        assert len(set(raw.texts["title"])) == stats["titles_distinct"]


@pytest.mark.parametrize("name", ["amazon-giftcards", "amazon-musical-part"])
def test_reviews_have_the_counts_of_their_statistics(name: str) -> None:
    folder, stats = prepared(name)
    raw = read(folder)
    table = raw.further["reviews"]
    assert (len(raw.users), len(raw.items)) == (stats["users"], stats["items"])
    assert len(table) == stats.get("reviews_dedup", stats.get("reviews"))
    stars, counts = np.unique(table.columns["rating"], return_counts=True)
    found = {str(star): int(count) for star, count in zip(stars, counts, strict=True)}
    assert found == stats["ratings"]
    assert sum(map(bool, table.texts["review"])) == stats["with_review_text"]
    assert sum(map(bool, table.texts["headline"])) == stats["with_summary"]


@pytest.mark.slow
@pytest.mark.parametrize("subset", ["all", "titled_subset"])
def test_goodreads_has_the_counts_of_its_statistics(subset: str) -> None:
    folder, every = prepared("goodreads-reviews")
    stats, titled = every[subset], subset != "all"
    raw = read(folder, titled_only=titled)
    table = raw.further["reviews"]
    assert (len(table), len(raw.users), len(raw.items)) == (
        stats["reviews"], stats["users"], stats["items"],
    )  # fmt: skip
    counts = np.bincount(np.nan_to_num(table.columns["rating"]).astype(int), minlength=6)
    assert {str(star): int(count) for star, count in enumerate(counts)} == stats["ratings"]
    for least in (3, 5):
        core = read(folder, titled_only=titled, filters=Filters(user_core=least))
        assert len(core.users) == stats[f"users>={least}"]
        core = read(folder, titled_only=titled, filters=Filters(item_core=least))
        assert len(core.items) == stats[f"items>={least}"]


@pytest.mark.slow
def test_beautys_last_items_are_the_test_items() -> None:
    folder, stats = prepared("amazon-beauty")
    raw = read_prepared(folder, name="beauty", options=Options(negatives=Negatives(0, (1,))))
    last = {
        line.split("\t")[0]: line.split()[-1]
        for line in (folder / "sequences.tsv").read_text(encoding="utf-8").splitlines()
    }
    rows, ids = raw.splits["test"], raw.items["item_id"].to_numpy()
    clicked = ids[rows.candidate_values[rows.labels == 1]]
    found = dict(zip((raw.users[user] for user in rows.user), clicked, strict=True))
    assert found == last
    assert len(raw.splits["train"]) == stats["interactions"] - 3 * stats["users"]
