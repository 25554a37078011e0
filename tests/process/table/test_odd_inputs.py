"""Inputs as people have them: either read as they are meant, or one line that names the place."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import legos.tables
from legos.config.yaml_files import read_document
from legos.data.reviews import Reviews
from legos.data.tables import Tables
from legos.errors import DataError
from process.table.sources import open_source
from process.table.times import TICKS, read_small
from tests.process.table.own import build, clicks, fields, small_shop, written

SHOP = small_shop()
ITEMS, EVENTS = SHOP.items, SHOP.events[SHOP.events["sku"].isin(SHOP.items["sku"])]
NUMBERS = EVENTS.assign(customer_id=[int(user[1:]) for user in EVENTS["customer_id"]])
COUNTED = np.arange(len(EVENTS))


def test_a_column_of_json_lines_may_begin_late(tmp_path: Path) -> None:
    path = written(tmp_path / "items.jsonl", *['{"sku": "X"}'] * 20_001, '{"sku": "Y", "brand": 1}')
    assert open_source(path, "items", encoding="utf-8", quotes=True).names == ["sku", "brand"]


@pytest.mark.parametrize(
    ("numbers", "first", "told"),
    [
        ([2019, 2024], "2019-01-01", "years"),
        ([45_658, 45_658.25], "2025-01-01", "as spreadsheets write dates"),
        ([0, 1, 70_000], "1970-01-01", "they order the events, no more"),
    ],
)
def test_small_numbers_are_years_days_of_a_spreadsheet_or_an_order(
    numbers: list[float], first: str, told: str
) -> None:
    ticks, how = read_small((np.array(numbers) * TICKS).astype(np.int64))
    assert str(ticks[:1].astype("datetime64[us]").astype("datetime64[D]")[0]) == first
    assert told in how
    assert (np.diff(ticks) > 0).all()


@pytest.mark.slow
def test_days_of_a_spreadsheet_are_the_moments_that_they_stand_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = EVENTS.assign(ts=45_658 + COUNTED // 9)
    days.to_csv(tmp_path / "events.csv", index=False)
    tables = build(ITEMS, tmp_path / "events.csv", tmp_path)
    assert "as spreadsheets write dates, read as UTC" in " ".join(capsys.readouterr().out.split())
    assert tables.scalar("train", "time").min() >= 1_735_689_600
    other = build(
        ITEMS, EVENTS.assign(ts=1_735_689_600 + COUNTED // 9 * 86_400), tmp_path / "other"
    )
    assert clicks(other, "test") == clicks(tables, "test")


ODD_FRAMES: dict[str, Any] = {
    "period": EVENTS.assign(ts=pd.to_datetime(EVENTS["ts"], unit="ms").dt.to_period("s")),
    "categories": EVENTS.astype({"customer_id": "category", "event": "category"}),
    "Arrow": EVENTS.convert_dtypes(dtype_backend="pyarrow"),
    "equal index": EVENTS.set_axis([0] * len(EVENTS)),
    "index that is a column": EVENTS.set_index("sku", drop=False),
    "bytes": EVENTS.assign(sku=EVENTS["sku"].str.encode("utf-8")),
    "in parts": (part for part in (EVENTS[:300], EVENTS[300:])),
}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    seconds = EVENTS.assign(ts=EVENTS["ts"] // 1000 * 1000)
    return [
        clicks(build(ITEMS, e, tmp_path_factory.mktemp("t")), "test") for e in (EVENTS, seconds)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", ODD_FRAMES)
def test_frames_of_any_type_and_index_are_the_same(
    form: str, usual: list[Any], tmp_path: Path
) -> None:
    assert clicks(build(ITEMS, ODD_FRAMES[form], tmp_path), "test") in usual


@pytest.mark.slow
def test_columns_of_row_numbers_and_bytes_are_no_fields(tmp_path: Path) -> None:
    items = ITEMS.assign(image=b"\xff\xd8", **{"Unnamed: 0": range(len(ITEMS))})
    assert fields(build(items, EVENTS, tmp_path)) == fields(build(ITEMS, EVENTS, tmp_path / "2"))
    complex_ = ITEMS.assign(pair=[complex(n, 1) for n in range(len(ITEMS))])
    assert "pair" in fields(build(complex_, EVENTS, tmp_path / "3"))


def with_cell(column: str, value: object) -> pd.DataFrame:
    cells = pd.Series([value, *EVENTS[column][1:]], EVENTS.index, dtype=object)
    return EVENTS.assign(**{column: cells})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"events": [NUMBERS[:400], NUMBERS[400:].assign(customer_id=lambda f: [
                f"{user}.0" for user in f["customer_id"]])]},
            r"id '(\d+).0' is '\1' in events .* two ways of writing",
        ),
        ({"events": with_cell("customer_id", "NULL")}, r"row 1: 'customer_id' is 'NULL', expected"),
        ({"events": with_cell("ts", "12/31/2024")}, r"'12/31/2024', expected a date that can be"),
        ({"events": with_cell("ts", 0)}, "row 1: 'ts' is 0; most others are Unix milliseconds"),
        ({"events": with_cell("sku", "a\ud83d")}, r"'sku' holds half a character .* in 'a\\ud83d'"),
        ({"user": "sku"}, "which column is the item"),
        ({"items": ITEMS.assign(price=1e300)}, r"'price': 120 .* the first is 1e\+300"),
        ({"items": ITEMS.to_dict("records")}, "items: found a dict, expected a file, a pan"),
        ({"items": ITEMS["sku"]}, "items: found a Series"),
        ({"events": None}, "both are needed"),
        ({"headline": "title"}, "--headline title: no such column; "),
    ],
    ids=[
        "two writings", "NULL", "American date", "zero", "half a character", "role twice",
        "beyond float32", "dicts", "a series", "nothing", "no headline",
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_one_message(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = {"items": ITEMS, "events": EVENTS, "max_bad": 0, "tokenizer": "words=words", **options}
    with pytest.raises(DataError, match=message) as caught:
        legos.tables.build(**given, output=tmp_path / "tables")
    assert "row 1: row 1" not in str(caught.value)
    assert not (tmp_path / "tables").exists()


@pytest.mark.slow
def test_what_users_wrote_becomes_reviews(tmp_path: Path) -> None:
    said = EVENTS.assign(
        comment=[f"<b>fine</b> thing {n}" for n in COUNTED], stars=COUNTED % 5 + 1, short="ok"
    )
    options = {"review": "comment", "headline": "short"}
    fingerprints = set()
    for number in range(2):
        mixed = said.sample(frac=1, random_state=number)
        tables = build(ITEMS, mixed, tmp_path / str(number), **options)
        reviews = Reviews.from_tables(Tables.load(tables.folder))
        texts = dict(zip(reviews.texts["review"], reviews.ratings.tolist(), strict=True))
        assert set(reviews.texts["headline"]) == {"ok"}
        assert all(int(text.split()[-1]) % 5 + 1 == stars for text, stars in texts.items())
        assert all(text.startswith("fine thing") for text in texts)
        fingerprints.add(tables.manifest["fingerprint"])
    assert len(fingerprints) == 1


@pytest.mark.slow
def test_a_folder_of_any_name_is_in_the_yaml_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "größer # 1: my shop"
    yaml = build(ITEMS, EVENTS, folder, name="shop").folder / "data.yaml"
    assert read_document(yaml).data["folder"] == str(folder / "tables")
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[command.index("--data") + 1] == str(folder / "tables")


@pytest.mark.slow
def test_a_data_yaml_that_is_gone_is_written_again(tmp_path: Path) -> None:
    yaml = build(ITEMS, EVENTS, tmp_path).folder / "data.yaml"
    text = yaml.read_text()
    yaml.unlink()
    build(ITEMS, EVENTS, tmp_path)
    assert yaml.read_text() == text
