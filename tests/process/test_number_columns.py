"""Number fields of items and users: written as they are, carried into tables of new impressions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import unitok

from legos.data.tables import Tables
from legos.errors import DataError
from process.genre.synthetic_items import add_synthetic_items
from process.mind import read_mind, read_mind_impressions
from process.raw import RawData, TokenizerSpec, UserFields
from process.tables import new_impressions_tables, write_tables
from tests.process.genre.test_store import answer
from tests.process.mind_files import write_lines, write_mind

WORDS = [TokenizerSpec("words", "words")]
PRICES = [9.5, np.nan, 20.0, 0.0, 1e6]
USERS = pd.DataFrame(
    {"about": ["reads", "", "swims"], "category": ["sports", "", "chess"], "age": [30.0, np.nan, 7]}
).astype({"age": np.float32})


@pytest.fixture
def raw(tmp_path: Path) -> RawData:
    folder = write_mind(tmp_path / "raw")
    raw = read_mind(folder / "train", folder / "dev", name="tiny")
    return replace(
        raw,
        items=raw.items.assign(price=np.array(PRICES, dtype=np.float32)),
        number_fields=("price",),
        user_fields=UserFields(USERS, ("about",), ("category",), ("age",)),
    )


def test_numbers_and_users_fields_become_columns(
    raw: RawData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tables(raw, tmp_path / "tables", WORDS)
    tables = Tables.load(tmp_path / "tables")
    assert tables.manifest["fields"]["price"] == {"kind": "number"}
    assert tables.manifest["user_fields"] == {
        "about": {"kind": "text", "tokenizers": ["words"]},
        "category": {"kind": "category"},
        "age": {"kind": "number"},
    }
    expected = {"kind": "scalar", "dtype": "float32", "vocabulary": None}
    assert tables.column("items", "price") == tables.column("users", "age") == expected
    np.testing.assert_array_equal(tables.scalar("items", "price").numpy(), PRICES)
    np.testing.assert_array_equal(tables.scalar("users", "age").numpy(), [30, np.nan, 7])
    known = ["<unknown>", "sports", "finance", "music", "chess"]
    assert tables.vocabulary("category") == known, "items and users share a field of one name"
    assert tables.scalar("users", "category").tolist() == [1, 0, 4]
    words = tables.vocabulary("words")
    told = tables.lists("users", "about@words")
    assert [words[token] for token in told.values] == ["reads", "swims"]
    assert told.lengths.tolist() == [1, 0, 1]
    shown = capsys.readouterr().out
    assert "number field price: 4 known, median 14.75, 0 to 1e+06" in shown
    assert "number field users.age: 2 known" in shown


def test_the_unitok_copy_leaves_numbers_out(raw: RawData, tmp_path: Path) -> None:
    write_tables(raw, tmp_path / "tables", WORDS)
    for table, name in (("items", "price"), ("users", "age")):
        loaded = unitok.UniTok.load(str(tmp_path / "tables/unitok" / table))
        assert name not in loaded.data
        assert "category" in loaded.data


def test_an_item_that_a_model_wrote_has_no_number(raw: RawData, tmp_path: Path) -> None:
    write_tables(raw, tmp_path / "tables", WORDS, unitok=False)
    written = {f"{raw.users[0]}#0": answer("a") | {"answer": {"title": "new words"}}}
    source = tmp_path / "answers.jsonl"
    source.write_text("{}")
    add_synthetic_items(
        tmp_path / "tables", written, tmp_path / "more", sources=[source], column="written"
    )
    prices = Tables.load(tmp_path / "more").scalar("items", "price").numpy()
    np.testing.assert_array_equal(prices, [*PRICES, np.nan])


def test_tables_without_numbers_are_described_as_ever(raw: RawData, tmp_path: Path) -> None:
    plain = replace(raw, number_fields=(), user_fields=None)
    manifest = write_tables(plain, tmp_path / "tables", WORDS, unitok=False)
    assert len(manifest["settings"]["fields"]) == 2
    assert not {"user_fields", "numbers"} & (manifest.keys() | manifest["summary"].keys())


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.array([1, 2, 3, 4, np.inf], np.float32), "'price' is infinite in row 4"),
        (np.array([1, 2, 3, 4, 5], np.float64), "'price' is float64, not float32"),
    ],
)
def test_other_numbers_are_refused(
    raw: RawData, tmp_path: Path, values: np.ndarray, what: str
) -> None:
    with pytest.raises(DataError, match=what):
        write_tables(replace(raw, items=raw.items.assign(price=values)), tmp_path / "tables", WORDS)
    assert not (tmp_path / "tables").exists()


def test_one_name_is_one_field(raw: RawData) -> None:
    with pytest.raises(DataError, match="item field 'title' is given twice"):
        replace(raw, number_fields=("title",)).check()


def test_new_items_have_numbers_new_users_have_none(raw: RawData, tmp_path: Path) -> None:
    write_tables(raw, tmp_path / "tables", WORDS, unitok=False)
    new = tmp_path / "new"
    write_lines(new / "behaviors.tsv", ["1\tU1\t\tN1\tX Y", "2\tU9\t\tX\tN2 Y"])
    items = [{"item_id": "X", "title": "x", "price": "3.25"}, {"item_id": "Y", "title": "y"}]
    (new / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    found = read_mind_impressions(new, tmp_path / "tables")
    new_impressions_tables(tmp_path / "tables", found, tmp_path / "made")
    made = Tables.load(tmp_path / "made")
    price = made.scalar("items", "price").numpy()
    np.testing.assert_array_equal(price, np.array([*PRICES, 3.25, np.nan], np.float32))
    np.testing.assert_array_equal(made.scalar("users", "age").numpy(), [30, np.nan, 7, np.nan])
    assert made.scalar("users", "category").tolist() == [1, 0, 4, 0]
    (new / "items.jsonl").write_text('{"item_id": "X", "price": "cheap"}\n')
    with pytest.raises(DataError, match=r"item 'X': price is 'cheap', expected a number"):
        read_mind_impressions(new, tmp_path / "tables")


def test_a_manifest_that_promises_another_number_is_refused(raw: RawData, tmp_path: Path) -> None:
    write_tables(raw, tmp_path / "tables", WORDS, unitok=False)
    path = tmp_path / "tables/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["fields"]["category"] = {"kind": "number"}
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"items\.category: a number field without"):
        Tables.load(tmp_path / "tables")
