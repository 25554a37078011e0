"""New impressions of a trained set: old ids stay, what was never seen is appended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from legos.data.tables import Tables
from legos.errors import DataError
from process.mind import read_mind, read_mind_impressions
from process.raw import TokenizerSpec
from process.tables import new_impressions_tables, write_tables
from tests.process.mind_files import write_lines, write_mind

NEW_NEWS = (
    "N1\tsports\tsoccer\tA changed title\tChanged.\t\t[]\t[]",
    "N9\tweather\tmarkets\tStocks fall again\tMarkets fell.\t\t[]\t[]",
)
NEW = ("a\tU2\t\tN3 N9\tN9-1 N1-0", "b\tU77\t11/20/2019 1:00:00 PM\t\tN2-0 N9-1")
SPECS = [TokenizerSpec("words", "words"), TokenizerSpec("bert", "minilm")]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    raw = read_mind(*(write_mind(tmp_path / "raw") / part for part in ("train", "dev")))
    write_tables(raw, tmp_path / "parent", SPECS, unitok=False)
    return tmp_path / "parent"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    write_lines(tmp_path / "new" / "news.tsv", NEW_NEWS)
    write_lines(tmp_path / "new" / "behaviors.tsv", NEW)
    return tmp_path / "new"


def tokens(tables: Tables, column: str, item: int) -> list[str]:
    lists = tables.lists("items", column)
    words = tables.vocabulary(column.split("@")[1])
    return [words[token] for token in lists.values[lists.offsets[item] : lists.offsets[item + 1]]]


def test_old_items_and_users_keep_their_ids_and_new_ones_follow(
    parent: Path, new: Path, tmp_path: Path
) -> None:
    raw = read_mind_impressions(new, parent)
    manifest = new_impressions_tables(parent, raw, tmp_path / "tables")
    old, tables = Tables.load(parent), Tables.load(tmp_path / "tables")
    assert manifest["parent"] == old.fingerprint
    assert tables.splits == ["impressions"]
    assert tables.vocabulary("item_id") == [*old.vocabulary("item_id"), "N9"]
    assert tables.vocabulary("user_id") == [*old.vocabulary("user_id"), "U77"]
    for name in ("words", "bert", "category", "subcategory"):
        assert tables.vocabulary(name) == old.vocabulary(name)
    for column in ("title@words", "abstract@bert"):
        kept = len(old.lists("items", column).values)
        assert np.array_equal(
            tables.lists("items", column).values[:kept], old.lists("items", column).values
        )
    assert tables.scalar("impressions", "user_id").tolist() == [1, 3]
    assert tables.lists("impressions", "candidates").values.tolist() == [5, 0, 1, 5]
    assert tables.lists("impressions", "labels").values.tolist() == [1, 0, 0, 1]
    assert tables.lists("histories", "items").values.tolist() == [2, 5]


def test_new_texts_are_cut_by_the_sets_own_tokenizers(
    parent: Path, new: Path, tmp_path: Path
) -> None:
    new_impressions_tables(parent, read_mind_impressions(new, parent), tmp_path / "tables")
    tables = Tables.load(tmp_path / "tables")
    assert tokens(tables, "title@words", 5) == ["stocks", "fall", "<unknown>"]
    assert tokens(tables, "title@bert", 5) == ["stocks", "fall", "again"]
    assert tokens(tables, "title@words", 0) == ["a", "cup", "final"], "the set's content counts"
    assert tables.texts("title")[5] == "Stocks fall again"


def test_categories_the_set_does_not_know_become_unknown_and_are_counted(
    parent: Path, new: Path, tmp_path: Path
) -> None:
    raw = read_mind_impressions(new, parent)
    manifest = new_impressions_tables(parent, raw, tmp_path / "tables")
    tables = Tables.load(tmp_path / "tables")
    assert tables.scalar("items", "category").tolist()[-1] == 0
    assert tables.scalar("items", "subcategory").tolist()[-1] == 3
    assert manifest["oddities"]["new items of a category the trained set does not know"] == 1
    assert manifest["oddities"]["items the trained set knows already (its content counts)"] == 1


def test_known_items_need_no_news_file_and_labels_may_be_missing(
    parent: Path, new: Path, tmp_path: Path
) -> None:
    (new / "news.tsv").unlink()
    write_lines(new / "behaviors.tsv", ["a\tU1\t\tN1 N2\tN3 N5"])
    new_impressions_tables(parent, read_mind_impressions(new, parent), tmp_path / "tables")
    tables = Tables.load(tmp_path / "tables")
    assert tables.num_items == 5
    assert tables.lists("impressions", "labels").values.tolist() == [-1, -1]


def test_an_item_nobody_knows_is_refused(parent: Path, new: Path) -> None:
    (new / "news.tsv").unlink()
    with pytest.raises(DataError, match=r"behaviors.tsv:1: candidate 'N9' is not in news.tsv"):
        read_mind_impressions(new, parent)


def test_tables_that_are_none_are_refused(new: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest.json: not a folder of prepared tables"):
        read_mind_impressions(new, tmp_path / "nothing")


def test_making_them_twice_is_quick_and_another_parent_is_noticed(
    parent: Path, new: Path, tmp_path: Path
) -> None:
    raw = read_mind_impressions(new, parent)
    first = new_impressions_tables(parent, raw, tmp_path / "tables")
    assert new_impressions_tables(parent, raw, tmp_path / "tables") == first
    other = read_mind(tmp_path / "raw/train", tmp_path / "raw/dev", name="other")
    write_tables(other, tmp_path / "other", SPECS[:1], unitok=False)
    with pytest.raises(DataError, match=r"made with other .*parent"):
        new_impressions_tables(tmp_path / "other", raw, tmp_path / "tables")
