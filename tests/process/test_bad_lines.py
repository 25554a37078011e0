"""What can be read is read, the rest is counted by kind; too much of it stops the reader."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from legos.errors import ConfigError, DataError
from process.amazon.__main__ import build_parser
from process.amazon.assemble import Options, read_amazon
from process.amazon.reviews import read_reviews
from process.bad_lines import BadLine, BadLines
from process.interactions.impressions import Negatives
from process.json_lines import Row, read_json_lines
from process.moments import read_moment
from tests.process.amazon.amazon_files import TINY, review_2014, write_json_lines, write_lines

GOOD = [review_2014(*row) for row in TINY]


def row(**values: Any) -> Row:
    return Row(Path("x.json"), 7, values)


def lines(tmp_path: Path, *bad: str) -> Path:
    """1,000 good lines and bad ones in their midst."""
    good = [json.dumps(review_2014(f"u{i % 50}", f"i{i % 70}", 4.0, i)) for i in range(1000)]
    return write_lines(tmp_path / "reviews.json", [*good[:500], *bad, *good[500:]])


@pytest.mark.parametrize("value", [4, 4.0, "4", "4.0", " 4 ", "+4", "0.4e1"])
def test_numbers_are_read_however_they_are_written(value: Any) -> None:
    assert row(a=value).number("a") == 4
    assert row(a=value).integer("a") == 4


@pytest.mark.parametrize("value", [None, "", "  "])
def test_nothing_is_no_number(value: Any) -> None:
    assert row(a=value).number("a") is None
    assert row().number("a") is None


@pytest.mark.parametrize(
    "value",
    [
        "four",
        "4,5",
        "0x4",
        "1_000",
        "٤",
        "9" * 400,
        2**63,
        True,
        [4],
        {},
        float("inf"),
        "inf",
        "4 5",
    ],
)
def test_what_is_no_number_is_bad(value: Any) -> None:
    with pytest.raises(BadLine, match=r"x\.json:7: 'a' is .*expected a number"):
        row(a=value).number("a")


@pytest.mark.parametrize("value", [4.5, "4.5", float("nan"), "nan", None])
def test_a_fraction_is_no_whole_number(value: Any) -> None:
    with pytest.raises(BadLine, match="expected a whole number"):
        row(a=value).integer("a")


def test_ids_may_be_numbers_but_not_empty() -> None:
    assert [row(a=value).id("a") for value in ("x", 12, 12.0)] == ["x", "12", "12"]
    for value in ("", " ", None, True, [], 1.5):
        with pytest.raises(BadLine, match="expected an id"):
            row(a=value).id("a")
    with pytest.raises(BadLine, match=r"no 'a' here; found: b"):
        row(b=1).id("a")


def test_texts_may_be_numbers_lists_and_nothing() -> None:
    values: list[Any] = [" a &amp; b ", 1984, ["a", None, "<p>b</p>"], None, float("nan"), []]
    assert [row(a=value).text("a") for value in values] == ["a & b", "1984", "a b", "", "", ""]
    assert row().text("a") == ""
    with pytest.raises(BadLine, match="expected a string or a list of strings"):
        row(a={}).text("a")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1447789055, 1447789055), (1447789055.0, 1447789055), ("1447789055", 1447789055),
        (1447789055123, 1447789055), ("1447789055123", 1447789055),
        (1447789055123456, 1447789055), (1447789055123456789, 1447789055),
        ("2015-11-17T11:37:35-08:00", 1447789055), ("2015-11-17 19:37:35", 1447789055),
        ("2015-11-17T19:37:35Z", 1447789055), ("2015-11-17", 1447718400), ("2015", 1420070400),
        ("Tue Nov 17 11:37:35 -0800 2015", 1447789055), (None, -1), ("", -1), (0, 0),
    ],
)  # fmt: skip
def test_times_are_read_in_every_form(value: Any, seconds: int) -> None:
    assert read_moment(row(t=value), "t", Counter()) == seconds


def test_units_that_were_not_declared_are_told() -> None:
    notes: Counter[str] = Counter()
    read_moment(row(t=1447789055123), "t", notes)
    assert notes == {"times in milliseconds, read as such": 1}
    notes.clear()
    assert read_moment(row(t=1447789055123), "t", notes, milliseconds=True) == 1447789055
    assert notes == {}
    assert read_moment(row(t=1447789055), "t", notes, milliseconds=True) == 1447789055
    assert notes == {"times in seconds, read as such": 1}


@pytest.mark.parametrize(
    "value",
    [
        "Mon Jan 01 00:00:00 -0800 1900", "Sat Oct 07 00:00:00 -0700 17", "2099-01-01", 4070908800,
        -5, "Fri Feb 30 00:00:00 -0800 2012", "Tue Nov 17 25:00:00 -0800 2015", "yesterday",
        "2015-13-01", float("nan"), True, [1], "9999-12-31T23:59:59", "1900", "Tue",
    ],
)  # fmt: skip
def test_times_that_cannot_be_are_bad(value: Any) -> None:
    with pytest.raises(BadLine, match=r"x\.json:7: 't' is "):
        read_moment(row(t=value), "t", Counter())


BAD = (
    "{broken",
    "[1, 2]",
    json.dumps(review_2014("u1", "i1", "five", 5)),
    json.dumps(review_2014("u1", "i1", 9, 5)),
    json.dumps(review_2014("u1", "i1", "six", 5)),
    json.dumps(review_2014("", "i1", 4, 5)),
    json.dumps({key: value for key, value in GOOD[0].items() if key != "asin"}),
    json.dumps(review_2014("u1", "i1", 4, -3)),
    "[" * 100_000,
)


def test_few_bad_lines_are_left_out_and_counted_by_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, oddities = read_reviews([lines(tmp_path, *BAD)], BadLines())
    assert len(found) == 1000
    assert {what: count for what, count in oddities.items() if "left out" in what} == {
        "lines left out: no 'asin'": 1,
        "lines left out: 'overall' is not a number": 2,
        "lines left out: 'overall' is not a rating from 0 (unknown) to 5": 1,
        "lines left out: 'reviewerID' is not an id": 1,
        "lines left out: 'unixReviewTime' is not a time between 1970 and now": 1,
        "lines left out: not JSON": 2,
        "lines left out: not a JSON object": 1,
    }
    said = capsys.readouterr().err
    assert "left out: 2 x 'overall' is not a number; the first: " in said
    assert "reviews.json:503: 'overall' is 'five', expected a number" in said


def test_texts_stay_with_their_reviews_past_bad_lines(tmp_path: Path) -> None:
    last = json.dumps(review_2014("u", "last", 4, 9, reviewText="the last one"))
    path = lines(tmp_path, *BAD, last)
    found, texts, _ = read_reviews([path], BadLines())
    place = found.place[found.item == found.item_ids.index("last")]
    assert list(texts.columns(place)["review"]) == ["the last one"]


def test_too_many_bad_lines_are_refused_with_a_table_of_kinds(tmp_path: Path) -> None:
    path = lines(tmp_path, *BAD, *BAD)
    with pytest.raises(DataError, match=r"18 of 1,018 lines cannot be read \(1\.77%, allowed are"):
        read_reviews([path], BadLines())
    with pytest.raises(DataError, match=r"4 x not JSON; the first: .*reviews\.json:501: not JSON"):
        read_reviews([path], BadLines(0.017))
    assert len(read_reviews([path], BadLines(0.02)).interactions) == 1000


def test_another_kind_of_file_is_refused_at_once(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "ratings.csv", (f"u{i},i{i},5.0,{i}" for i in range(100_000)))
    bad = BadLines()
    with pytest.raises(DataError, match=r"ratings\.csv:1: not JSON .*expected one JSON object a l"):
        read_reviews([path], bad)
    assert bad.lines == 10


def test_half_a_character_is_replaced_and_counted_or_named(tmp_path: Path) -> None:
    path = lines(tmp_path, json.dumps(review_2014("u\ud83d", "i", 4, 5)))
    found, _, oddities = read_reviews([path], BadLines())
    assert "u\ufffd" in found.user_ids
    assert oddities["lines with half a character, read with U+FFFD in its place"] == 1
    whole = write_lines(tmp_path / "whole.json", [json.dumps({"a": "\U0001f600"})])
    assert next(iter(read_json_lines([whole], "x"))).values == {"a": "\U0001f600"}
    with pytest.raises(DataError, match=r"reviews\.json:501: holds half a character"):
        list(read_json_lines([path], "x"))


@pytest.mark.parametrize("share", ["-0.1", "1.1", "nan", "much"])
def test_the_share_is_checked(share: str) -> None:
    command = ["reviews", "--reviews", "x", "--output", "y", "--max-bad", share]
    with pytest.raises(ConfigError, match=r"--max-bad: .*expected a share from 0 to 1"):
        build_parser().parse_args(command)


def catalogue(tmp_path: Path, **options: Any) -> Any:
    reviews = write_json_lines(tmp_path / "reviews.json", GOOD)
    metadata = write_json_lines(
        tmp_path / "meta.json", ({"asin": item, "title": f"T {item}"} for item in "abcdefghij")
    )
    options = {"negatives": Negatives(1, (2,)), **options}
    return read_amazon([reviews], [metadata], name="x", options=Options(**options))


def test_items_without_clicks_stay_in_the_catalogue_and_are_never_drawn(tmp_path: Path) -> None:
    whole, clicked = catalogue(tmp_path), catalogue(tmp_path, clicked_only=True)
    assert set(whole.items["item_id"]) == set("abcdefghij")
    assert set(clicked.items["item_id"]) == set("abcdef")
    assert whole.oddities["items that nobody clicked, in the catalogue but never drawn"] == 4
    for split, rows in whole.splits.items():
        names = whole.items["item_id"].to_numpy()[rows.candidate_values]
        others = clicked.splits[split]
        assert (
            names.tolist() == clicked.items["item_id"].to_numpy()[others.candidate_values].tolist()
        )


def test_a_core_of_items_keeps_none_without_clicks(tmp_path: Path) -> None:
    from process.interactions.filters import Filters

    raw = catalogue(tmp_path, filters=Filters(item_core=2), split="random-80-10-10")
    assert set(raw.items["item_id"]) == set("abcde")
