"""From files to tables to a trained model: splits, languages, the data YAML, the next command."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from legos.commands.main import main
from legos.data.tables import Tables
from legos.errors import DataError
from legos.recommend.new_items import read_new_items
from process.columns import ColumnReader
from tests.process.table.own import build, clicks, fields, small_shop

SHOP = small_shop()
ITEMS, EVENTS, USERS = SHOP.items, SHOP.events, SHOP.users
STRANGERS = USERS.assign(customer_id=[f"no{n}" for n in range(len(USERS))])
KNOWN = EVENTS[EVENTS["sku"].isin(ITEMS["sku"])]


def sizes(tables: ColumnReader) -> dict[str, int]:
    splits = tables.manifest["summary"]["splits"]
    return {name: split["impressions"] for name, split in splits.items()}


def test_the_whole_catalogue_stays_and_what_nobody_clicked_is_never_drawn(
    shop_tables: ColumnReader, tmp_path: Path
) -> None:
    items = shop_tables.vocabulary("item_id")
    assert set(items) == set(ITEMS["sku"])
    for split in sizes(shop_tables):
        shown = {items[row] for row in shop_tables.lists(split, "candidates").values.tolist()}
        assert not shown & set(SHOP.unclicked)
    clicked = build(ITEMS, EVENTS, tmp_path / "clicked", clicked_only=True)
    assert set(clicked.vocabulary("item_id")) == set(ITEMS["sku"]) - set(SHOP.unclicked)


@pytest.mark.slow
def test_lines_in_another_order_change_nothing_but_sources(tmp_path: Path) -> None:
    again = pd.concat([ITEMS, ITEMS[:9].assign(description=None)])
    tied = EVENTS.assign(ts=EVENTS["ts"] // 10**8 * 10**8)
    manifests = []
    for number in range(2):
        parts = [f.sample(frac=1, random_state=number) for f in (again, tied, USERS)]
        for part, name in zip(parts, ("items", "events", "users"), strict=True):
            part.to_csv(tmp_path / f"{name}.csv", index=False)
        items, events, users = (tmp_path / f"{name}.csv" for name in ("items", "events", "users"))
        tables = build(items, events, tmp_path / str(number), users=users, duplicates="keep")
        manifests.append({k: v for k, v in tables.manifest.items() if k != "sources"})
    one, other = manifests
    assert one == other


def test_other_ids_change_no_text_and_no_size(shop_tables: ColumnReader, tmp_path: Path) -> None:
    names = {sku: f"article/{number}" for number, sku in enumerate(ITEMS["sku"][::-1])}
    other = build(
        ITEMS.assign(sku=ITEMS["sku"].map(names)),
        EVENTS.assign(
            sku=EVENTS["sku"].map(names).fillna("lost"), customer_id="x" + EVENTS["customer_id"]
        ),
        tmp_path / "other",
    )
    assert sizes(shop_tables) == sizes(other)
    back = {new: old for old, new in names.items()}
    found = sorted((u[1:], [back[i] for i in h], back[c]) for u, h, c, _ in clicks(other, "test"))
    assert found == sorted((u, h, c) for u, h, c, _ in clicks(shop_tables, "test"))


@pytest.mark.slow
def test_splits_part_as_they_say(shop_tables: ColumnReader, tmp_path: Path) -> None:
    newest = KNOWN.drop_duplicates(["customer_id", "sku"]).groupby("customer_id").tail(1)
    assert {(u, c) for u, _, c, _ in clicks(shop_tables, "test")} == set(
        zip(newest["customer_id"], newest["sku"], strict=True)
    )
    timed = build(ITEMS, EVENTS, tmp_path / "timed", split="by-time", cuts=[0.5, 0.75])
    ends = [timed.scalar(name, "time") for name in ("train", "valid", "test")]
    assert ends[0].max() < ends[1].min() <= ends[1].max() < ends[2].min()
    drawn = build(ITEMS, EVENTS, tmp_path / "drawn", split="random")
    assert sizes(drawn) == {"train": 40, "valid": 40, "test": 40}


@pytest.mark.slow
def test_a_column_may_be_the_split(tmp_path: Path) -> None:
    place = np.arange(len(EVENTS))
    names = np.select([place < 600, place < 700], ["Train", "dev"], "test")
    own = build(ITEMS, EVENTS.assign(split=names), tmp_path / "own")
    assert own.manifest["split_rule"].startswith("own: ")
    named = build(ITEMS, EVENTS.assign(part=names), tmp_path / "named", split="part")
    assert named.manifest["fingerprint"] == own.manifest["fingerprint"]
    train, test = own.scalar("train", "time"), own.scalar("test", "time")
    assert train.max() <= test.min()
    mixed = np.where(place % 3 == 0, "test", "train")
    tables = build(ITEMS, EVENTS.assign(split=mixed), tmp_path / "mixed", duplicates="keep")
    held_out = set(KNOWN["sku"][np.isin(KNOWN.index, place[place % 3 == 0])])
    assert held_out
    rows = {(u, i) for u, i in EVENTS.loc[mixed == "train", ["customer_id", "sku"]].to_numpy()}
    for user, history, click, _ in clicks(tables, "train"):
        assert {(user, item) for item in [*history, click]} <= rows
    with pytest.raises(DataError, match="'split' is 'a', expected train, valid or test"):
        build(ITEMS, EVENTS.assign(split="a"), tmp_path)
    ignored = build(ITEMS, EVENTS.assign(split="a"), tmp_path, split="leave-last-out")
    assert ignored.manifest["split_rule"].startswith("leave-last-out")


def test_without_a_split_all_is_train_and_valid_asks_again(tmp_path: Path) -> None:
    tables = build(ITEMS, EVENTS, tmp_path, split="none")
    assert sizes(tables) == {
        "train": len(KNOWN.drop_duplicates(["customer_id", "sku"])) - 40,
        "valid": 40,
        "valid_uniform": 40,
    }
    trained = {(u, c) for u, _, c, _ in clicks(tables, "train")}
    assert {(u, c) for u, _, c, _ in clicks(tables, "valid")} <= trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": STRANGERS}, "none of its users .'no"),
        ({"cuts": [0.5, 0.7]}, "--cuts: read by --split by-time alone"),
        ({"split": "random", "negatives": 2}, "--negatives: --split random draws no negatives"),
        ({"split": "random", "duplicates": "keep"}, "--duplicates keep: --split random parts"),
        ({"split": "weekly"}, "--split weekly: no such column; "),
        ({"text": ["titel"]}, "--text titel: no such column; did you mean 'title'"),
        ({"text": ["brand"], "category": ["brand"]}, "--category brand: is given as --text"),
        ({"leave_out": ["pric"]}, "--leave-out pric: no such column; did you mean 'price'"),
        ({"number": ["title"]}, "number field 'title': 120 values are not 32-bit numbers"),
        ({"item": "SKUs"}, "--item SKUs: no such column; did you mean 'sku'"),
        ({"candidates": [500]}, "500 negatives a row are requested"),
        ({"encoding": "utf-7x"}, None),
        ({"duplicate": "first"}, "duplicate: no such option; did you mean 'duplicates'"),
        ({"duplicates": "all"}, "--duplicates all: choose from: first"),
        ({"tokenizer": ["auto", "words=words"]}, "--tokenizer auto: cannot be combined"),
        ({"split": "by-time", "events": EVENTS.drop(columns="ts")}, "interactions have no time"),
        ({"events": EVENTS[:0]}, "events .DataFrame.: it has no rows"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_one_message(
    options: dict[str, object], message: str | None, tmp_path: Path
) -> None:
    events = options.get("events", EVENTS)
    rest = {name: value for name, value in options.items() if name != "events"}
    if message is None:
        build(ITEMS, events, tmp_path, **rest)  # nothing is read by an encoding
        return
    with pytest.raises(DataError, match=message):
        build(ITEMS, events, tmp_path, **rest)
    assert not (tmp_path / "tables").exists()


@pytest.mark.slow
def test_kinds_are_told_by_values_and_by_the_user(tmp_path: Path) -> None:
    number = np.arange(len(ITEMS))
    items = ITEMS.assign(
        tags=["red|large" if n % 2 else "blue|small|light" for n in number],
        link=[f"https://shop.example/{n}" for n in number],
        ean=4_006_381_333_900 + number,
        shelf_id=number % 7,
        released=[f"20{10 + n % 15}-03-01" for n in number],
        empty=None,
        in_stock=number % 2 == 0,
        year=2000 + number % 20,
    )
    found = fields(build(items, EVENTS, tmp_path / "guessed"))
    assert found == {
        "title": "text", "description": "text", "brand": "category", "price": "number",
        "tags": "text", "shelf_id": "category", "released": "number", "in_stock": "category",
        "year": "number",
    }  # fmt: skip
    tables = build(
        items, EVENTS, tmp_path / "said", category=["year"], text=["brand"], leave_out=["tags"]
    )
    said = fields(tables)
    assert said["year"] == "category"
    assert said["brand"] == "text"
    assert "tags" not in said
    assert set(tables.texts("year")) == {str(2000 + n) for n in range(20)}


def test_users_have_fields(tmp_path: Path) -> None:
    strangers = pd.DataFrame({"customer_id": ["new"], "age": [30], "country": ["AT"]})
    users = pd.concat([USERS[5:], strangers])
    tables = build(ITEMS, EVENTS, tmp_path, users=users)
    kinds = {name: field["kind"] for name, field in tables.manifest["user_fields"].items()}
    assert kinds == {"age": "number", "country": "category"}
    ages = dict(zip(tables.vocabulary("user_id"), tables.scalar("users", "age"), strict=True))
    assert np.isnan(ages["c0"])
    assert ages["c9"] == USERS["age"][9]
    odd = tables.manifest["oddities"]
    assert odd["users without fields"] == 5
    assert odd["described users without events, left out"] == 1


@pytest.mark.slow
def test_new_items_may_be_called_as_in_the_file_of_items(tmp_path: Path) -> None:
    items = ITEMS.rename(columns={"title": "Name"})
    tables = build(items, EVENTS, tmp_path)
    assert tables.manifest["source_columns"] == {
        "user_id": "customer_id",
        "item_id": "sku",
        "title": "Name",
    }
    text = (tmp_path / "tables/data.yaml").read_text()
    assert '- column: title@words  # "Name" of the file' in text
    own = items[:2].assign(sku=["new 1", "new 2"])
    standard = own.rename(columns={"sku": "item_id", "Name": "title"})
    for frame in (own, standard):
        new = read_new_items(frame, Tables.load(tmp_path / "tables"), ["title"], [])
        assert new.ids == ["new 1", "new 2"]
        assert new.texts["title"] == ITEMS["title"][:2].tolist()


@pytest.mark.slow
def test_the_screen_is_short_and_a_file_has_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(ITEMS, EVENTS.drop(columns="ts"), tmp_path, leave_out=["brand"])
    told = capsys.readouterr().out
    assert len(told.splitlines()) <= 25
    told = " ".join(told.split())  # lines are as wide as the terminal
    assert "user customer_id · item sku · event event" in told
    assert "title text · description text · price number" in told
    assert "warning: no column says when" in told
    assert "below chance" not in told  # negatives by popularity stand beside uniform ones
    report = (tmp_path / "tables/report.txt").read_text()
    assert "rules without content" in report
    assert "rules without content" not in told
    build(ITEMS, EVENTS.drop(columns="ts"), tmp_path, leave_out=["brand"], verbose=True)
    assert report in capsys.readouterr().out


@pytest.mark.slow
def test_tables_that_are_there_are_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = build(ITEMS, EVENTS, tmp_path)
    text = (tmp_path / "tables/data.yaml").read_text()
    (tmp_path / "tables/data.yaml").write_text(text + "# mine\n")
    build(ITEMS, EVENTS, tmp_path)
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "tables/data.yaml").read_text() == text + "# mine\n"
    with pytest.raises(DataError, match=r"made with other .*; add --force"):
        build(ITEMS, EVENTS[1:], tmp_path)
    other = build(ITEMS, EVENTS[1:], tmp_path, force=True)
    assert other.manifest["fingerprint"] != first.manifest["fingerprint"]


def run_next(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """Type the command that was printed last, perhaps with ``more`` words; returns it."""
    command = capsys.readouterr().out.strip().splitlines()[-1].strip()
    words = command[command.index("legos run --data ") :]
    assert main([*shlex.split(words)[1:], *more]) == 0
    return words


def make(folder: Path, language: str, *words: str) -> int:
    """Files of a small shop and ``legos table`` on them, all in the working directory."""
    shop = small_shop(language)
    for name in ("items", "events", "users"):
        getattr(shop, name).to_csv(folder / f"{name}.csv", index=False)
    line = "table --items items.csv --events events.csv --output data/shop"
    return main([*line.split(), *words])


SHORT = "--exp.train.epochs 2"
SHORTER = f"{SHORT} --exp.report false"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "words", "expected", "more"),
    [
        ("en", "--users users.csv", "recommended", SHORT),
        ("de", "--split by-time", "recommended_words", SHORTER),
        ("en", "--split none", "recommended", ""),  # says its number of epochs
        ("en", "--split random", "multi_vae", SHORTER),
        pytest.param("zh", "", "recommended_words", "", marks=pytest.mark.nightly),  # a minute
    ],
    ids=["english", "german", "none", "random", "chinese"],
)
def test_the_printed_command_trains_and_measures_to_the_end(
    language: str, words: str, expected: str, more: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert make(tmp_path, language, *words.split()) == 0
    run_next(capsys, *more.split())
    (results,) = (tmp_path / "runs/shop").glob("*/*/results.json")
    assert results.parts[-3] == expected


@pytest.mark.slow
def test_the_tokenizer_follows_the_language(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = small_shop("zh")
    build(shop.items, shop.events, tmp_path, tokenizer="bert=minilm")
    told = " ".join(capsys.readouterr().out.split())
    assert "of its tokens are unknown to bert (minilm)" in told
    assert "--tokenizer auto takes llama=smollm2" in told
    german = small_shop("de")
    tables = build(german.items, german.events, tmp_path / "de", tokenizer="auto")
    assert list(tables.manifest["tokenizers"]) == ["bert"]
    assert tables.manifest["honesty"]["texts"]["title"]["unknown"] == {"bert": 0.0}
