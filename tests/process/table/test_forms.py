"""Every form of file gives the same tables; what cannot be read is one message with its line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from legos.errors import DataError
from process.columns import ColumnReader
from tests.process.table.own import build, fields, records, small_shop, written
from tests.shop import Shop

SHOP = small_shop()
ITEMS, EVENTS = SHOP.items, SHOP.events


def as_csv(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


def as_tsv(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False, sep="\t", encoding="utf-8-sig")
    return path


def as_lines(frame: pd.DataFrame, path: Path) -> Path:
    return written(path, *records(frame))


def as_parquet(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path)
    return path


def as_utf16(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False, sep=";", encoding="utf-16", lineterminator="\r\n")
    return path


def as_gzip(frame: pd.DataFrame, path: Path) -> Path:
    path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    return path


def as_zstd(frame: pd.DataFrame, path: Path) -> Path:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write("".join(f"{row}\n" for row in records(frame)).encode())
    return path


def as_zstd_parquet(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path)
    content = path.read_bytes()
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(content)
    return path


def as_frame(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    return frame


def as_indexed(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    return frame.set_index(frame.columns[0])


@pytest.fixture
def fingerprint(shop_tables: ColumnReader) -> str:
    """Of the tables of the shop's DataFrames."""
    return str(shop_tables.manifest["fingerprint"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        as_csv, as_tsv, as_lines, as_parquet, as_utf16, as_gzip, as_zstd, as_zstd_parquet, as_frame,
        as_indexed,
    ],
)  # fmt: skip
def test_every_form_gives_the_same_tables_whatever_its_name(
    form: Callable[[pd.DataFrame, Path], Path | pd.DataFrame], fingerprint: str, tmp_path: Path
) -> None:
    items, events = form(ITEMS, tmp_path / "items.data"), form(EVENTS, tmp_path / "events.data")
    assert build(items, events, tmp_path).manifest["fingerprint"] == fingerprint


@pytest.mark.slow
def test_several_files_are_read_as_one(fingerprint: str, tmp_path: Path) -> None:
    items = [as_csv(ITEMS[:50], tmp_path / "a.csv"), as_lines(ITEMS[50:], tmp_path / "b.jsonl")]
    events = [as_parquet(EVENTS[400:], tmp_path / "c"), as_tsv(EVENTS[:400], tmp_path / "d")]
    assert build(items, events, tmp_path).manifest["fingerprint"] == fingerprint


@pytest.mark.slow
def test_german_excel_is_read_as_its_writer_meant_it(tmp_path: Path) -> None:
    shop = small_shop("de")
    items = shop.items.rename(
        columns={
            "sku": "Artikelnummer", "title": "Bezeichnung", "description": "Beschreibung",
            "brand": "Marke", "price": "Preis",
        }
    )  # fmt: skip
    items["Preis"] = [f"{p:,.2f} €".translate(str.maketrans(",.", ".,")) for p in items["Preis"]]
    items["Preis"] = items["Preis"].replace("nan €", "")
    days = pd.to_datetime(shop.events["ts"], unit="ms").dt.strftime("%d.%m.%Y %H:%M:%S")
    events = shop.events.assign(ts=days).rename(
        columns={"customer_id": "Kundennummer", "sku": "Artikelnummer", "ts": "Zeitpunkt"}
    )
    for frame, name in ((items, "items.csv"), (events, "events.csv")):
        text = "sep=;\r\n" + frame.to_csv(index=False, sep=";", lineterminator="\r\n")
        (tmp_path / name).write_bytes(text.encode("cp1252"))
    paths = tmp_path / "items.csv", tmp_path / "events.csv"
    with pytest.raises(DataError, match=r"items.csv:3: not UTF-8 \(byte 0xfc.*--encoding.*cp1252"):
        build(*paths, tmp_path)
    tables = build(*paths, tmp_path, encoding="cp1252")
    assert fields(tables) == {
        "title": "text", "description": "text", "brand": "category", "price": "number",
    }  # fmt: skip
    rows = dict(zip(tables.vocabulary("item_id"), tables.scalar("items", "price"), strict=True))
    for sku, price in zip(shop.items["sku"], shop.items["price"], strict=True):
        assert rows[sku] == pytest.approx(price, nan_ok=True)
    words = " ".join(tables.texts("title"))
    assert "Gießkanne" in words or "größer" in words or "ß" in words


def shop_files(folder: Path, shop: Shop = SHOP) -> tuple[Path, Path]:
    return as_csv(shop.items, folder / "items.csv"), as_csv(shop.events, folder / "events.csv")


HEADER = "sku,title,description,brand,price"
EVENT = "customer_id,sku,ts,event"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "items.csv: the file is empty"),
        (b"\n \n", "items.csv: the file is empty"),
        (b"PK\x03\x04 and so on", "items.csv: an Excel workbook"),
        (b"<!DOCTYPE html><p>", "items.csv: a web page"),
        (b"sku\0title\n", "items.csv: holds NUL bytes"),
        (b'[{"sku": "a"}]', "items.csv: a JSON array; expected one JSON object a line"),
        (b"sku,title,title\na,b,c\n", "items.csv:1: column 'title' is there 2 times .columns 2, 3"),
        (b'sku,title\nS1,"one\ntwo\nS3,c\n', r"items.csv:2: the row that begins here cannot be"),
        (b"sku,title\nS1,caf\xe9\n", r"items.csv:2: not UTF-8 \(byte 0xe9\); --encoding"),
        (b"title,text\nS1,two\n", "items.csv: which column is the item .*there are: title, "),
        (b"sku\nS1\n1.2E+12\n", r"items.csv:3: id '1.2E\+12' is in scientific notation"),
        (b"\x1f\x8b\x08 no gzip", "items.csv: the gzip file is damaged"),
        (b"\x28\xb5\x2f\xfd no zstd", "items.csv: the Zstandard file is damaged"),
        (b"PAR1 no parquet", "items.csv: a damaged Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message(
    content: bytes, message: str, tmp_path: Path
) -> None:
    items, events = shop_files(tmp_path)
    items.write_bytes(content)
    with pytest.raises(DataError, match=message):
        build(items, events, tmp_path)
    assert not (tmp_path / "tables").exists()


@pytest.mark.slow
def test_ragged_lines_are_counted_and_refused_by_their_line(tmp_path: Path) -> None:
    items, events = shop_files(tmp_path)
    lines = events.read_text().splitlines()
    written(events, *lines[:10], "c1,S1", *lines[10:], "")
    message = r"901 lines cannot be read .*\n.*1 x another number.*events.csv:11: 2 columns, the "
    with pytest.raises(DataError, match=message):
        build(items, events, tmp_path, max_bad=0)
    tables = build(items, events, tmp_path)
    odd = "lines left out: another number of columns than the header (events)"
    assert tables.manifest["oddities"][odd] == 1


@pytest.mark.slow
def test_a_quoted_line_feed_is_no_line_of_its_own_but_lines_are_counted(tmp_path: Path) -> None:
    items, events = shop_files(tmp_path)
    lines = items.read_text().splitlines()
    lines[1] = f'{lines[1].split(",")[0]},"two\nlines\nof title",d,b,1.5'
    written(items, *lines, "S1,too,few")
    with pytest.raises(DataError, match=rf"items.csv:{len(lines) + 3}: 3 columns"):
        build(items, events, tmp_path, max_bad=0)
    assert "two lines of title" in build(items, events, tmp_path).texts("title")


@pytest.mark.slow
def test_quotes_may_be_characters(tmp_path: Path) -> None:
    items, events = shop_files(tmp_path)
    lines = [line.replace(",", "\t") for line in items.read_text().splitlines()[1:]]
    rows = [f'{line.split(chr(9))[0]}\t"12" pan' for line in lines]
    written(items, "sku\ttitle", *rows)
    with pytest.raises(DataError, match=r"items.csv:2: .*--no-quotes"):
        build(items, events, tmp_path)
    assert set(build(items, events, tmp_path, quotes=False).texts("title")) == {'"12" pan'}


def test_a_file_in_place_of_another_is_told(tmp_path: Path) -> None:
    items, events = shop_files(tmp_path)
    with pytest.raises(DataError, match=r"events.csv names users: are the files of items and "):
        build(events, items, tmp_path)
    with pytest.raises(DataError, match=r"have an id .'sku'. that another line has; is this the"):
        build(EVENTS, EVENTS, tmp_path)
    with pytest.raises(DataError, match=r"items.csv: which column is the user"):
        build(items, items, tmp_path)
    with pytest.raises(DataError, match=r"a folder, expected a file; .* holds: events.csv, items"):
        build(tmp_path, events, tmp_path)
    with pytest.raises(DataError, match=r"no such file; .* holds: events.csv, items.csv"):
        build(tmp_path / "item.csv", events, tmp_path)


def test_a_missing_column_lists_what_is_there_and_the_nearest(tmp_path: Path) -> None:
    items, events = shop_files(tmp_path)
    written(events, "customers,sku,ts", "c1,S1,1")
    message = r"events.csv: which column is the user .*did you mean --user customers\?"
    with pytest.raises(DataError, match=f"{message}.* there are: customers, sku, ts"):
        build(items, events, tmp_path)
    with pytest.raises(
        DataError, match=r"--user customer: no such column; did you mean 'customers'"
    ):
        build(items, events, tmp_path, user="customer")
