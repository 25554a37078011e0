"""Files of three releases and of the prepared sets: the same reviews in, the same data out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.errors import DataError
from process.amazon.metadata import item_fields, read_metadata
from process.amazon.reviews import read_reviews
from process.amazon.sequences import read_sequences
from process.bad_lines import BadLines
from tests.process.amazon.amazon_files import (
    TINY,
    review_2014,
    review_2023,
    review_prepared,
    write_json_lines,
    write_lines,
)


@pytest.mark.parametrize("make", [review_2014, review_2023, review_prepared])
@pytest.mark.parametrize("name", ["reviews.json.gz", "reviews.jsonl"])
def test_a_release_is_told_by_its_keys_and_read_alike(
    tmp_path: Path, make: Callable[..., dict[str, Any]], name: str
) -> None:
    path = write_json_lines(tmp_path / name, (make(*row) for row in TINY))
    found, texts, oddities = read_reviews([path], BadLines())
    users, items = (np.array(ids, dtype=object) for ids in (found.user_ids, found.item_ids))
    rows = zip(users[found.user], items[found.item], found.rating, found.time, strict=True)
    assert [(u, i, float(r), int(t)) for u, i, r, t in rows] == TINY
    assert set(oddities.values()) == {0}
    columns = {field: list(column) for field, column in texts.columns(np.array([12, 0])).items()}
    assert columns.pop("user_name", []) == (["J", "J"] if make is review_2014 else [])
    assert columns == {"review": ["u4 on e.", "u1 on a."], "headline": ["about e", "about a"]}


def test_several_files_are_one_and_may_be_of_several_releases(tmp_path: Path) -> None:
    first = write_json_lines(tmp_path / "a.json.gz", (review_2014(*row) for row in TINY[:4]))
    second = write_json_lines(tmp_path / "b.jsonl.gz", (review_2023(*row) for row in TINY[4:]))
    found, texts, _ = read_reviews([first, second], BadLines())
    assert len(found) == len(TINY)
    assert list(texts.columns(np.array([5]))["review"]) == ["u2 on a."]


def test_unknown_ratings_and_times_are_counted_and_stay(tmp_path: Path) -> None:
    nothing = review_2014("u", "e", 1.0, 4)
    del nothing["overall"], nothing["unixReviewTime"], nothing["reviewText"]
    rows = [review_2014("u", "a", 0, 1), review_2014("u", "b", None, 2), nothing]
    rows += [review_2014("u", "c", float("nan"), 3), review_2014("u", "d", 5, 4, summary=None)]
    path = write_json_lines(tmp_path / "reviews.json", rows)
    assert "NaN" in path.read_text()
    found, texts, oddities = read_reviews([path], BadLines())
    assert np.isnan(found.rating).tolist() == [True, True, True, True, False]
    assert found.time.tolist() == [1, 2, -1, 3, 4]
    assert sorted(oddities.values()) == [1, 4]
    columns = texts.columns(np.arange(5))
    assert columns["review"][2] == ""
    assert columns["headline"][4] == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"reviewerID": "u", "asin": ', "not JSON"),
        ("{'reviewerID': 'u', 'asin': 'a'}", "not JSON"),
        ("[1]", "a JSON list, expected an object"),
        (json.dumps({"asin": "a", "overall": 5}), "no 'reviewerID' here; found: asin, overall"),
        (
            json.dumps(review_2014("u", "a", 9, 1)),
            "'overall' is 9, expected a rating from 0 ",
        ),
        (json.dumps(review_2014("u", "a", -1, 1)), "'overall' is -1"),
        (json.dumps(review_2014("u", "a", "five", 1)), "'overall' is 'five', expected a number"),
        (json.dumps(review_2014("u", "a", True, 1)), "'overall' is True, expected a number"),
        (json.dumps(review_2014("u", "a", 5, -4)), "'unixReviewTime' is -4"),
        (json.dumps(review_2014("u", None, 5, 1)), "'asin' is None, expected an id"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps(review_2014("u", "a", 5, 1))
    path = write_lines(tmp_path / "reviews.json.gz", [good, good, line, good])
    with pytest.raises(DataError, match=rf"reviews\.json\.gz:3: {message}"):
        read_reviews([path], BadLines())


def test_a_text_that_is_none_is_named(tmp_path: Path) -> None:
    rows = [review_2014("u", "a", 5, 1), review_2014("u", "b", 5, 1, reviewText={"x": 1})]
    path = write_json_lines(tmp_path / "reviews.json", rows)
    with pytest.raises(DataError, match=r"reviews\.json:2: 'reviewText' is \{'x': 1\}"):
        read_reviews([path], BadLines())


def test_a_file_of_something_else_says_what_was_expected(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "meta.json", [{"asin": "a", "title": "x"}])
    with pytest.raises(DataError, match=r"meta.json:1: not a review .*reviewerID, asin .*2023"):
        read_reviews([path], BadLines())


def test_a_cut_gzip_is_named(tmp_path: Path) -> None:
    rows = (review_2014(f"u{i}", "a", 5, i * i) for i in range(500))
    path = write_json_lines(tmp_path / "reviews.json.gz", rows)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"reviews\.json\.gz:\d+: .*cut short after line"):
        read_reviews([path], BadLines())


METADATA = {
    "2014": "{'asin': 'a', 'title': \"It's\", 'brand': 'B', 'description': 'about  it', "
    "'categories': [['Top', 'Mid', 'Leaf'], ['Top', 'Other']], 'price': 1.5, 'related': None}",
    "2018": json.dumps(
        {"asin": "a", "title": "It's", "brand": "B", "description": ["about", "it", ""],
         "category": ["Top", "Mid", "Leaf"], "price": "$1.50"}
    ),
    "2023": json.dumps(
        {"parent_asin": "a", "title": "It's", "store": "B", "description": ["about", "it"],
         "categories": ["Top", "Mid", "Leaf"], "main_category": "Top", "price": 1.5}
    ),
}  # fmt: skip


@pytest.mark.parametrize("release", METADATA)
def test_metadata_of_every_release_has_the_same_fields(tmp_path: Path, release: str) -> None:
    path = write_lines(tmp_path / "meta.json.gz", [METADATA[release]])
    found = read_metadata([path], {"a"}).items["a"]
    paths = "Top > Mid > Leaf" + ("; Top > Other" if release == "2014" else "")
    assert found == {
        "title": "It's", "brand": "B", "description": "about it", "categories": paths,
        "category": "Mid", "subcategory": "Leaf", "price": "$1.50",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "price"),
    [("$1,299", "$1299.00"), (7, "$7.00"), ("$ 3.5", "$3.50"), ("$5.00 - $9.00", None),
     (".a-box{width:1}", None), ("from 14.99", None), (None, None), ("", None), (0, None)],
)  # fmt: skip
def test_prices_are_dollars_and_cents_or_nothing(
    tmp_path: Path, given: object, price: str | None
) -> None:
    line = json.dumps({"asin": "a", "title": "t", "price": given})
    found = read_metadata([write_lines(tmp_path / "meta.json", [line])], {"a"}).items["a"]
    assert found.get("price") == price


def test_a_python_line_that_would_run_is_refused_and_does_not(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    line = f"{{'asin': __import__('os').mkdir({str(victim)!r})}}"
    path = write_lines(tmp_path / "meta.json", ["{'asin': 'a'}", line])
    with pytest.raises(DataError, match=r"meta\.json:2: neither JSON nor a Python dict of plain"):
        read_metadata([path], {"a"})
    assert not victim.exists()


def test_deeply_nested_python_is_an_error_not_a_crash(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "meta.json", ["'" + "(" * 10, "{'a': " + "(" * 100_000])
    with pytest.raises(DataError, match=r"meta\.json:1: neither"):
        read_metadata([path], {"a"})
    path = write_lines(tmp_path / "meta.json", ["{'a': " + "(" * 100_000])
    with pytest.raises(DataError, match=r"meta\.json:1: neither"):
        read_metadata([path], {"a"})


def test_metadata_keeps_what_is_wanted_and_counts_the_rest(tmp_path: Path) -> None:
    rows = [
        {"asin": "a", "title": "first"}, {"asin": "a", "title": "second"},
        {"asin": "b", "title": "<span>getTime</span>"}, {"asin": "x", "title": "nobody's"},
        {"asin": "c", "category": [], "description": []},
    ]  # fmt: skip
    path = write_json_lines(tmp_path / "meta.json", rows)
    metadata = read_metadata([path], {"a", "b", "c", "d"})
    assert metadata.items == {"a": {"title": "second"}, "b": {}, "c": {}}, "the fullest of two"
    assert list(metadata.oddities.values()) == [1, 1, 2, 1]
    frame, texts, categories = item_fields(["d", "a"], metadata.items)
    assert {name: list(column) for name, column in texts.items()} == {"title": ["", "second"]}
    assert categories == ()
    assert frame.to_dict("list") == {"item_id": ["d", "a"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"title": "x"}, "no item id .item_id, parent_asin, asin. here; found: title"),
        ({"asin": "a", "title": {}}, "'title' is {}, expected a string"),
        ({"asin": "a", "categories": [["x", {}]]}, "'categories' is .*expected paths"),
    ],
)
def test_bad_metadata_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write_json_lines(tmp_path / "meta.jsonl", [{"asin": "b"}, row])
    with pytest.raises(DataError, match=rf"meta\.jsonl:2: {message}"):
        read_metadata([path], {"a"})


def test_sequences_are_read_in_order(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "sequences.tsv", ["u2\tc a b", "u1\ta"])
    found = read_sequences(path)
    assert (found.user_ids, set(found.item_ids)) == (["u1", "u2"], {"a", "b", "c"})
    assert found.user.tolist() == [1, 1, 1, 0]
    assert [found.item_ids[item] for item in found.item] == ["c", "a", "b", "a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u1\ta", "user 'u1' stands on an earlier line"),
        ("u2\t ", "user 'u2' has no items"),
        ("\ta", "no user"),
        ("u2 a b", "found 1 TAB-separated columns, expected 2"),
        ("u2\ta z", "item 'z' is not in items.jsonl"),
    ],
)
def test_a_bad_sequence_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_lines(tmp_path / "sequences.tsv", ["u1\ta b", line])
    with pytest.raises(DataError, match=rf"sequences\.tsv:2: {message}"):
        read_sequences(path, frozenset("ab"))


def test_an_empty_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match=r"reviews\.json\.gz: the file is empty"):
        read_reviews([path], BadLines())
