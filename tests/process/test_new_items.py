"""New items take the fields of the tables they join, whatever reader made these."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from legos.data.tables import Tables
from legos.errors import DataError
from process.amazon.assemble import Options, read_amazon, read_cllm4rec, read_prepared
from process.goodreads.release import read_release
from process.interactions.impressions import Negatives
from process.mind import read_mind, read_mind_impressions
from process.raw import RawData, TokenizerSpec
from process.tables import new_impressions_tables, write_tables
from tests.process.amazon.amazon_files import (
    TINY,
    review_2014,
    write_json_lines,
    write_prepared,
    write_public,
)
from tests.process.mind_files import write_lines, write_mind
from tests.process.test_goodreads_release import write_release

OPTIONS = Options(negatives=Negatives(train=1, candidates=(1,), seed=1))
NEW = {
    "item_id": "new", "title": "Fresh\n  soap", "description": ["It", "cleans."], "brand": "Acme",
    "categories": [["Beauty", "Bath", "Soap"]], "price": 12.5,
}  # fmt: skip


def mind(folder: Path) -> RawData:
    raw = write_mind(folder)
    return read_mind(raw / "train", raw / "dev", valid=raw / "dev")


def prepared(folder: Path) -> RawData:
    write_prepared(folder)
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    rows[0] |= {"brand": "Acme", "description": "Old.", "price": "$3.00"}
    write_json_lines(folder / "items.jsonl", rows)
    return read_prepared(folder, name="p", options=OPTIONS)


def reviews(folder: Path) -> RawData:
    path = write_json_lines(folder / "r.json", (review_2014(*row) for row in TINY))
    rows = [{"asin": item, "title": f"T {item}", "brand": "Acme"} for item in "abcdef"]
    described = write_json_lines(folder / "meta.json", rows)
    return read_amazon([path], [described], name="r", options=OPTIONS)


def public(folder: Path) -> RawData:
    return read_cllm4rec(write_public(folder), name="c")


def release(folder: Path) -> RawData:
    write_release(folder)
    return read_release(folder, name="g")


LAYOUTS: list[Callable[[Path], RawData]] = [mind, prepared, reviews, public, release]


def join(
    tmp_path: Path,
    make: Callable[[Path], RawData],
    *,
    write: Callable[[Path], object],
    items: str = "new",
) -> tuple[Tables, dict[str, Any]]:
    """The tables of new impressions; ``write`` fills their folder."""
    raw = make(tmp_path / "raw")
    write_tables(raw, tmp_path / "parent", [TokenizerSpec("words", "words")], unitok=False)
    old = str(raw.items["item_id"].iloc[0])
    write_lines(tmp_path / "new" / "behaviors.tsv", [f"1\tu\t\t{old}\t{items}-1 {old}-0"])
    write(tmp_path / "new")
    told = read_mind_impressions(tmp_path / "new", tmp_path / "parent")
    manifest = new_impressions_tables(tmp_path / "parent", told, tmp_path / "tables")
    return Tables.load(tmp_path / "tables"), manifest


def category(tables: Tables, name: str) -> str:
    return tables.vocabulary(name)[int(tables.scalar("items", name)[-1])]


@pytest.mark.parametrize("make", LAYOUTS)
def test_a_new_item_joins_tables_of_every_reader(
    tmp_path: Path, make: Callable[[Path], RawData]
) -> None:
    tables, manifest = join(
        tmp_path, make, write=lambda folder: write_json_lines(folder / "items.jsonl", [NEW])
    )
    assert tables.vocabulary("item_id")[-1] == "new"
    assert tables.texts("title")[-1] == "Fresh soap"
    for field in tables.manifest["fields"]:
        if field in ("abstract", "description"):
            assert tables.texts(field)[-1] == "It cleans."
        if field == "brand":
            assert category(tables, "brand") == "Acme"
        if field == "categories":
            assert tables.texts(field)[-1] == "Beauty > Bath > Soap"
    known = {"title", "abstract", "description", "brand", "categories", "price"}
    known |= {"category", "subcategory"} if make is prepared else set()
    lacking = set(tables.manifest["fields"]) - known
    counted = {name for name in manifest["oddities"] if name.startswith("described items without")}
    assert counted == {f"described items without {name}" for name in lacking}


@pytest.mark.parametrize("make", LAYOUTS)
def test_a_news_line_joins_tables_of_every_reader(
    tmp_path: Path, make: Callable[[Path], RawData]
) -> None:
    line = "new\tsports\tsoccer\tA title\tA text.\t\t[]\t[]"
    tables, _ = join(tmp_path, make, write=lambda folder: write_lines(folder / "news.tsv", [line]))
    assert tables.texts("title")[-1] == "A title"
    if "brand" in tables.manifest["fields"]:
        assert int(tables.scalar("items", "brand")[-1]) == 0


def test_a_table_with_a_header_and_compressed_lines_are_read(tmp_path: Path) -> None:
    lines = ["item_id\tbrand\tcolour\ttitle", "new\tAcme\tred\tSoap", "new\tOther\t\tAgain"]
    tables, manifest = join(
        tmp_path, prepared, write=lambda folder: write_lines(folder / "items.tsv", lines)
    )
    assert category(tables, "brand") == "Acme"
    assert tables.texts("title")[-1] == "Soap"
    assert manifest["oddities"]["items described again (the first line counts)"] == 1

    def compressed(folder: Path) -> None:
        (folder / "items.jsonl.gz").write_bytes(gzip.compress(json.dumps(NEW).encode()))

    tables, _ = join(tmp_path / "again", prepared, write=compressed)
    assert tables.texts("title")[-1] == "Fresh soap"


def test_strings_of_the_tables_own_categories_are_taken_as_they_are(tmp_path: Path) -> None:
    row = {
        "item_id": "new", "title": "Soap", "category": "Middle", "subcategory": "leaf 1",
        "categories": "Top > Middle > leaf 1", "price": "$3.00",
    }  # fmt: skip
    tables, manifest = join(
        tmp_path, prepared, write=lambda folder: write_json_lines(folder / "items.jsonl", [row])
    )
    assert category(tables, "category") == "Middle"
    assert category(tables, "subcategory") == "leaf 1"
    assert tables.texts("categories")[-1] == "Top > Middle > leaf 1"
    assert category(tables, "price") == "$3.00"
    assert not any("does not know" in name for name in manifest["oddities"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"items.jsonl": '{"item_id": "new", "titel": "Soap"}'},
            r"items.jsonl:1: item 'new' has none of .* fields .*'titel'.*did you mean 'title'",
        ),
        ({"items.jsonl": '{"title": "Soap"}'}, r"items.jsonl:1: no item id .*found: title"),
        ({"items.jsonl": '{"item_id": "", "title": "a"}'}, r"'item_id' is '', expected an id"),
        ({"items.jsonl": "[1]"}, r"items.jsonl:1: a JSON list"),
        ({"items.jsonl": ""}, r"items.jsonl: the file is empty"),
        ({"items.tsv": "item_id\ttitle\na\n"}, r"items.tsv:2: found 1 TAB-separated columns"),
        ({"items.tsv": "item_id\ttitle\ttitle\na\tb\tc\n"}, r"items.tsv:1: a column occurs twice"),
        ({"items.tsv": "name\ttitle\nnew\tb\n"}, r"items.tsv:1: found 2 .* expected 8"),
        ({"items.tsv": "item_id\ttitle\nnew\tb\n", "news.tsv": ""}, r"both describe items"),
        ({"other.jsonl": ""}, r"candidate 'new' is not in news.tsv; describe it there, or in one"),
    ],
)  # fmt: skip
def test_what_describes_nothing_is_refused_by_file_and_line(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).write_text(content)

    with pytest.raises(DataError, match=message):
        join(tmp_path, prepared, write=write)
    assert not (tmp_path / "tables").exists()
