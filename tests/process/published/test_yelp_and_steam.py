"""Yelp's JSON and Steam's Python dicts become tables; nothing of a line is run."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.json_lines import plain_dict
from tests.process.published.published import build, refused, run_printed, texts
from tests.process.table.own import clicks, fields


def write_yelp(folder: Path) -> Path:
    """Sixteen businesses, ten users of five reviews, a tip each."""
    folder.mkdir()
    shops = [
        {
            "business_id": f"b{n}", "name": f"Café {n}", "address": "1 Main St", "city":
            ("Tampa", "Reno")[n % 2], "state": ("FL", "NV")[n % 2], "postal_code": "33602",
            "latitude": 27.9, "longitude": -82.4, "stars": 4.5, "review_count": 80, "is_open": 1,
            "attributes": {"WiFi": "u'free'"} if n % 3 else None, "categories":
            "Coffee & Tea, Food" if n % 4 else None, "hours": {"Monday": "8:0-22:0"},
        }
        for n in range(16)
    ]  # fmt: skip
    reviews = [
        {
            "review_id": f"r{u}{p}", "user_id": f"u{u}", "business_id": f"b{(3 * u + 2 * p) % 16}",
            "stars": 1.0 + (u + p) % 5, "useful": 0, "funny": 0, "cool": 0, "text":
            f"Visit {p}.\n\nNice!", "date": f"2018-07-0{p + 1} 22:09:11",
        }
        for u in range(10) for p in range(5)
    ]  # fmt: skip
    tips = [
        {"user_id": f"u{u}", "business_id": f"b{(3 * u + 11) % 16}", "text": "Avengers!",
         "date": "2019-01-01 00:00:01", "compliment_count": 0} for u in range(10)
    ]  # fmt: skip
    users = [
        {"user_id": f"u{u}", "name": "Ann", "review_count": 9, "yelping_since":
         "2007-01-25 16:47:26", "friends": "a, b", "average_stars": 3.9} for u in range(10)
    ]  # fmt: skip
    for name, rows in (("business", shops), ("review", reviews), ("tip", tips), ("user", users)):
        path = folder / f"yelp_academic_dataset_{name}.json"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_steam(folder: Path) -> Path:
    """Sixteen games, ten users of five reviews, each a Python 2 dict a line."""
    folder.mkdir()
    games = [
        "{u'publisher': u'Kotoshiro', u'genres': [u'Action', u'Indie'], u'app_name': u'Game "
        + f"{n}', u'title': u'Game {n}', u'url': u'http://x/{n}', u'tags': [u'Strategy'], "
        + f"u'price': 4.99, u'early_access': False, u'id': u'76{n}', u'developer': u'Kotoshiro'}}"
        for n in range(15)
    ]
    games.append("""{u'app_name': u"It's \\xe9", u'id': u'7615', u'price': u'Free To Play'}""")
    games.append("{u'app_name': u'Log', u'early_access': False}")
    reviews = [
        f"{{u'username': u'Name {u}', u'hours': 0.1, u'products': 41, u'product_id': "
        f"u'76{(3 * u + 2 * p) % 16}', u'page_order': 0, u'date': u'2017-12-1{p}', u'text': "
        f"u'True fun, u', u'early_access': False, u'page': 1}}"
        for u in range(10)
        for p in range(5)
    ]
    for name, lines in (("games", games), ("reviews", reviews)):
        with gzip.open(folder / f"steam_{name}.json.gz", "wt") as file:
            file.writelines(f"{line}\n" for line in lines)
    return folder


@pytest.mark.slow
def test_yelps_last_review_is_the_test_and_tips_are_events_if_asked(tmp_path: Path) -> None:
    folder = write_yelp(tmp_path / "raw")
    tables = build(folder, tmp_path / "tables")
    assert fields(tables) == {
        "title": "text", "categories": "text", "city": "category", "state": "category",
    }  # fmt: skip
    assert (texts(tables, "title")["b1"], texts(tables, "categories")["b4"]) == ("Café 1", "")
    assert {user: click for user, _, click, _ in clicks(tables, "test")}["u1"] == "b11"
    assert set(tables.manifest["user_fields"]) == {"yelping_since"}
    tipped = build(folder, tmp_path / "tipped", "--tips", "--reviews")
    assert {user: click for user, _, click, _ in clicks(tipped, "test")}["u1"] == "b14"
    assert tipped.manifest["summary"]["further"]["reviews"] == 60
    liked = build(folder, tmp_path / "liked", "--min-rating", "2")
    assert liked.manifest["oddities"]["interactions rated below 2, dropped"] == 10


@pytest.mark.slow
def test_steams_dicts_are_read_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_steam(tmp_path / "raw")
    told = refused(folder, tmp_path / "o", capsys)
    assert "steam_games.json.gz:17: no 'id'" in told
    tables = build(folder, tmp_path / "tables", "--max-bad", "0.1", "--reviews")
    assert texts(tables, "title")["7615"] == "It's é"
    assert texts(tables, "genres")["760"] == "Action, Indie"
    assert {user: click for user, _, click, _ in clicks(tables, "test")}["Name 1"] == "7611"
    assert set(tables.texts("review", table="reviews")) == {"True fun, u"}
    with gzip.open(folder / "steam_reviews.json.gz", "at") as file:
        file.write("{u'username': __import__('os').system('echo run')}\n")
    told = refused(folder, tmp_path / "o", capsys, "--max-bad", "0.01")
    assert "steam_games.json.gz:17" in told
    build(folder, tmp_path / "more", "--max-bad", "0.1")
    assert "steam_reviews.json.gz:51: neither JSON nor a Python dict" in capsys.readouterr().err


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(
        allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.slow
@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_a_quick_answer_is_that_of_python(values: dict[str, object]) -> None:
    line = repr(values).encode("utf-8", "surrogatepass")
    found = plain_dict(line)
    assert found is None or found == ast.literal_eval(line.decode())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{u'a': u'b, u', 'c': [True, None, 1.5]}", {"a": "b, u", "c": [True, None, 1.5]}),
        (b"{'a': 'None is True: False'}", {"a": "None is True: False"}),
        (b"{'a': (1, 2)}", None),
        (b"{'a': 'x' 'y'}", None),
        (b"{'a': b'x'}", None),
        (b"{'a': \"it's\"}", None),
        (b"{'a': 'line\\n'}", None),
        (b"{'a': open('x')}", None),
    ],
)
def test_what_is_not_plain_is_left_to_python(line: bytes, expected: object) -> None:
    assert plain_dict(line) == expected


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_yelp, write_steam])
def test_the_printed_command_trains_on_shops_and_games(
    write: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    build(write(Path("raw")), Path("data/x"), "--max-bad", "0.1")  # type: ignore[operator]
    run_printed(Path("data/x"), capsys, "--exp.train.epochs", "1", "--exp.report", "false")
    assert list(tmp_path.glob("runs/x/*/*/results.json"))
