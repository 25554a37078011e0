"""Metamorphosis: the lines of raw files in another order make the same tables, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from process.amazon.assemble import Options, read_amazon, read_prepared
from process.goodreads.interactions import Filters as BookFilters
from process.goodreads.once import read_once
from process.goodreads.release import read_release
from process.goodreads.ucsd import read_ucsd
from process.interactions.filters import Filters
from process.interactions.impressions import Negatives
from process.mind import read_mind
from process.raw import RawData, TokenizerSpec
from process.tables import write_tables
from tests.process.amazon.amazon_files import (
    review_2014,
    review_2023,
    review_prepared,
    write_json_lines,
    write_lines,
)
from tests.process.test_goodreads_release import write_release
from tests.process.test_goodreads_ucsd import book, interaction

USERS, ITEMS, DAYS = 12, 25, 4
NEGATIVES = Negatives(train=2, candidates=(3, 5))
HEADERS = ("book.csv", "book-desc.csv")
AS_GIVEN = ("tok.bid.dat", "tok.uid.dat", "data.npy")  # a position there is a number elsewhere


def tied_rows() -> list[tuple[str, str, float, int]]:
    """Reviews of few days, so most share their time with others; some pairs twice at one time."""
    generator = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", float(generator.integers(1, 6)), 86400 * int(1 + item % DAYS))
        for user in range(USERS)
        for item in generator.choice(ITEMS, 9, replace=False)
    ]
    again = [(user, item, 6 - rating, time) for user, item, rating, time in rows[::4]]
    return [*rows, *again, *rows[::5]]


def write_amazon(folder: Path) -> None:
    rows = tied_rows()
    reviews = [
        review_2014(*row, reviewText=f"{number % 7} {row[1]}") for number, row in enumerate(rows)
    ]
    write_json_lines(folder / "reviews.json", reviews)
    metadata = [
        {"asin": f"i{item}", "title": f"Item {item}", "brand": f"b{item % 3}", **more}
        for item in range(ITEMS)
        for more in ({}, {"brand": f"other {item % 3}"}, {"description": f"about {item}"})
    ]
    write_json_lines(folder / "meta.json", metadata)


def write_amazon_2023(folder: Path) -> None:
    write_json_lines(folder / "reviews.json", (review_2023(*row) for row in tied_rows()))
    titles = ({"parent_asin": f"i{item}", "title": f"Item {item}"} for item in range(ITEMS))
    write_json_lines(folder / "meta.json", titles)


def amazon(options: Options) -> Callable[[Path], RawData]:
    return lambda folder: read_amazon(
        [folder / "reviews.json"], [folder / "meta.json"], name="x", options=options
    )


def prepared(folder: Path) -> RawData:
    return read_prepared(folder, name="x", options=Options(negatives=NEGATIVES))


def write_reviews(folder: Path) -> None:
    write_json_lines(folder / "reviews.jsonl", (review_prepared(*row) for row in tied_rows()))
    titles = ({"item_id": f"i{item}", "title": f"Item {item}"} for item in range(ITEMS))
    write_json_lines(folder / "items.jsonl", titles)


def write_sequences(folder: Path) -> None:
    generator = np.random.default_rng(0)
    lines = [
        f"u{user}\t" + " ".join(f"i{i}" for i in generator.choice(ITEMS, 5 + user % 3, False))
        for user in range(USERS)
    ]
    write_lines(folder / "sequences.tsv", lines)
    titles = ({"item_id": f"i{item}", "title": f"Item {item}"} for item in range(ITEMS))
    write_json_lines(folder / "items.jsonl", titles)


def write_news(folder: Path) -> list[str]:
    generator = np.random.default_rng(0)
    news = [
        f"N{number}\tc{number % 4}\ts{number % 5}\tTitle {number}\tAbout {number}\tu\t[]\t[]"
        for number in generator.permutation(ITEMS)
    ]
    write_lines(folder / "news.tsv", news)
    return [line.split("\t")[0] for line in news]


def write_mind(folder: Path) -> None:
    ids, generator = write_news(folder), np.random.default_rng(1)
    for split in ("train", "dev"):
        lines = []
        for number in range(1, 31):
            shown = generator.choice(ids, 4, replace=False)
            history = " ".join(generator.choice(ids, number % 3, replace=False))
            candidates = " ".join(f"{item}-{int(i == 0)}" for i, item in enumerate(shown))
            day = 11 + number % 3
            lines.append(
                f"{number}\tU{number % 7}\t11/{day}/2019 9:05:58 AM\t{history}\t{candidates}"
            )
        write_lines(folder / split / "behaviors.tsv", lines)
        write_lines(
            folder / split / "click_probability.tsv",
            (f"{number}\t0.{number} 0.1 0.2 0.3" for number in range(1, 31)),
        )


def write_once(folder: Path) -> None:
    ids, generator = write_news(folder), np.random.default_rng(1)
    for split in ("train", "valid", "test"):
        lines = []
        for number in range(1, 11):
            shown = generator.choice(ids, 3, replace=False)
            lines.append(
                f"{number}\tU{number}\t\t{shown[0]}\t{shown[1]}-1 {shown[2]}-0",
            )
        write_lines(folder / split / "behaviors.tsv", lines)


def write_books(folder: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        interaction(f"u{user}", 100 + int(number), int(rating), minute=int(number) % DAYS)
        for user in range(USERS)
        for number in generator.choice(ITEMS, 14, replace=False)
        for rating in generator.choice([1, 4, 5], 1 + int(number) % 2)
    ]
    write_json_lines(folder / "interactions.json", rows)
    described = [
        book(100 + item, description=text) for item in range(ITEMS) for text in ("", "b", "a")
    ]
    write_json_lines(folder / "books.json", described)


def ucsd(folder: Path) -> RawData:
    filters = BookFilters(fewest_readers=2, fewest_positives=4, users=10)
    files = ([folder / "books.json"], [folder / "interactions.json"])
    return read_ucsd(*files, name="x", filters=filters, seed=3)


def release(folder: Path) -> RawData:
    return read_release(folder, name="x")


CASES: dict[str, tuple[Callable[[Path], object], Callable[[Path], RawData]]] = {
    "amazon, leave-last-out": (
        write_amazon,
        amazon(Options(Filters(user_core=2, item_core=2), negatives=NEGATIVES)),
    ),
    "amazon, last of a pair": (
        write_amazon,
        amazon(Options(Filters(rating_above=2, duplicates="last"), negatives=NEGATIVES)),
    ),
    "amazon 2023, by time": (
        write_amazon_2023,
        amazon(Options(split="by-time", cuts=(0.5, 0.7), negatives=NEGATIVES)),
    ),
    "amazon, random, by appearance": (
        write_amazon,
        amazon(Options(split="random-80-10-10", item_order="appearance", negatives=NEGATIVES)),
    ),
    "prepared reviews": (write_reviews, prepared),
    "prepared sequences": (write_sequences, prepared),
    "mind": (write_mind, lambda folder: read_mind(folder / "train", folder / "dev")),
    "goodreads once": (write_once, lambda folder: read_once(folder, name="x")),
    "goodreads release": (write_release, release),
    "goodreads ucsd": (write_books, ucsd),
}


def permute(source: Path, target: Path, seed: int) -> None:
    """Copy a folder of raw files with the lines of every file in another order."""
    generator = np.random.default_rng(seed)
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        elif path.name in AS_GIVEN:
            copy.write_bytes(path.read_bytes())
        else:
            lines = path.read_bytes().splitlines(keepends=True)
            head = lines[: path.name in HEADERS]
            body: Sequence[bytes] = lines[len(head) :]
            copy.write_bytes(
                b"".join([*head, *(body[i] for i in generator.permutation(len(body)))])
            )


def written(raw: RawData, folder: Path, *, unitok: bool) -> dict[str, bytes]:
    """Every file of the tables; of the manifest all but what names the raw files."""
    write_tables(raw, folder, [TokenizerSpec("words", "words")], unitok=unitok)
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = json.loads(files["manifest.json"])
    del manifest["sources"]
    return files | {"manifest.json": json.dumps(manifest).encode()}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_tables_are_the_same_bytes_whatever_the_order_of_the_lines(
    case: str, tmp_path: Path
) -> None:
    write, read = CASES[case]
    source = tmp_path / "raw"
    source.mkdir()
    write(source)
    unitok = case == "mind"
    expected = written(read(source), tmp_path / "tables", unitok=unitok)
    for seed in (1, 2, 3):
        folder = tmp_path / f"raw{seed}"
        folder.mkdir()
        permute(source, folder, seed)
        found = written(read(folder), tmp_path / f"tables{seed}", unitok=unitok)
        assert found.keys() == expected.keys()
        assert [name for name in found if found[name] != expected[name]] == []
