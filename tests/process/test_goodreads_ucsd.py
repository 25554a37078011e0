"""The UCSD dump becomes impressions by ONCE's rules, line by line and with every draw seeded."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.errors import DataError
from process.bad_lines import BadLines
from process.goodreads.interactions import Filters, read_ratings
from process.goodreads.ucsd import read_ucsd
from process.json_blocks import read_blocks
from process.json_lines import Row, read_json_lines
from process.moments import read_moment
from process.raw import RawData

NUM_BOOKS, NUM_USERS = 80, 60
DATE = "Tue Nov 17 11:37:35 -0800 2015"


def book(number: int, **changes: Any) -> dict[str, Any]:
    """A line of goodreads_books.json.gz, with the fields of the dump."""
    row = {
        "isbn": "", "text_reviews_count": "7", "series": [], "country_code": "US",
        "language_code": "eng", "popular_shelves": [{"count": "3", "name": "to-read"}],
        "asin": "", "is_ebook": "false", "average_rating": "4.00", "kindle_asin": "",
        "similar_books": [], "description": f"About book\n {number}.", "format": "Paperback",
        "link": "", "authors": [{"author_id": "604031", "role": ""}], "publisher": "",
        "num_pages": "256", "publication_day": "1", "isbn13": "", "publication_month": "10",
        "edition_information": "", "publication_year": "1984", "url": "", "image_url": "",
        "book_id": str(number), "ratings_count": "3", "work_id": "5400751",
        "title": f"Book {number}", "title_without_series": f"Book {number}",
    }  # fmt: skip
    return row | changes


def interaction(user: str, number: int, rating: int, minute: int = 0) -> dict[str, Any]:
    """A line of goodreads_interactions.json.gz, with the fields of the dump."""
    return {
        "user_id": user, "book_id": str(number), "review_id": "a" * 32, "is_read": True,
        "rating": rating, "review_text_incomplete": "",
        "date_added": f"Tue Nov 17 {11 + minute // 60}:{minute % 60:02d}:00 -0800 2015",
        "date_updated": DATE, "read_at": "", "started_at": "",
    }  # fmt: skip


def write_gz(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    return path


def dump_rows() -> list[dict[str, Any]]:
    """60 users of 14 to 33 positives, 6 dislikes, 3 neutral and 2 unrated books, newest first."""
    generator = np.random.default_rng(0)
    rows = []
    for user in range(NUM_USERS):
        numbers = generator.permutation(NUM_BOOKS)
        ratings = [4 + user % 2] * (14 + user % 20) + [1] * 6 + [3] * 3 + [0] * 2
        rows += [
            interaction(f"{user:032x}", 100 + int(numbers[i]), rating, minute=100 - i)
            for i, rating in enumerate(ratings)
        ]
    return rows


@pytest.fixture
def dump(tmp_path: Path) -> tuple[Path, Path]:
    books = write_gz(tmp_path / "goodreads_books.json.gz", map(book, range(100, 100 + NUM_BOOKS)))
    return books, write_gz(tmp_path / "goodreads_interactions.json.gz", dump_rows())


def read(dump: tuple[Path, Path], seed: int = 1, **filters: Any) -> RawData:
    return read_ucsd([dump[0]], [dump[1]], name="books", filters=Filters(**filters), seed=seed)


def rated(sign: str) -> dict[str, list[str]]:
    """Book ids by user, in order of time."""
    found: dict[str, list[str]] = {}
    for row in reversed(dump_rows()):
        rating = row["rating"]
        if {"+": rating > 3, "-": 0 < rating < 3, "any": rating not in (0, 3)}[sign]:
            found.setdefault(row["user_id"], []).append(row["book_id"])
    return found


def by_user(raw: RawData, split: str) -> dict[str, tuple[list[str], set[str], set[str]]]:
    """History, positives and negatives of every user of a split, as ids."""
    rows, ids = raw.splits[split], raw.items["item_id"].to_numpy()
    found = {}
    for i, user in enumerate(rows.user):
        history = ids[rows.history_values[rows.history_offsets[i] : rows.history_offsets[i + 1]]]
        part = slice(rows.candidate_offsets[i], rows.candidate_offsets[i + 1])
        shown, labels = ids[rows.candidate_values[part]], rows.labels[part]
        assert len(set(shown)) == len(shown)
        found[raw.users[user]] = (list(history), set(shown[labels == 1]), set(shown[labels == 0]))
    return found


def test_positives_are_cut_by_time_into_history_train_valid_and_test(
    dump: tuple[Path, Path],
) -> None:
    raw = read(dump)
    raw.check()
    positives = rated("+")
    splits = [by_user(raw, name) for name in ("train", "valid", "test")]
    assert set(splits[2]) == set(positives)
    for user, liked in positives.items():
        history = splits[2][user][0]
        assert liked[: len(history)] == history
        later = liked[len(history) :]
        share = max(len(later) // 10, 1)
        assert splits[0][user][1] == set(later[: -2 * share])
        assert splits[1][user][1] == set(later[-2 * share : -share])
        assert splits[2][user][1] == set(later[-share:])
        assert splits[0][user][0] == splits[1][user][0] == history


def test_negatives_are_the_dislikes_and_ten_unread_books_split_alike(
    dump: tuple[Path, Path],
) -> None:
    raw = read(dump)
    splits = [by_user(raw, name) for name in ("train", "valid", "test")]
    disliked, read_at_all = rated("-"), rated("any")
    for user in disliked:
        parts = [split[user][2] for split in splits]
        assert [len(part) for part in parts] == [14, 1, 1]
        assert set(disliked[user]) <= set().union(*parts)
        drawn = [part - set(disliked[user]) for part in parts]
        assert sum(map(len, drawn)) == 10
        assert not (drawn[1] | drawn[2]) & set(read_at_all[user])
        held_out = splits[1][user][1] | splits[2][user][1]  # in train they are unread books, too
        assert not drawn[0] & (set(read_at_all[user]) - held_out)


@pytest.mark.slow
def test_held_out_books_are_negatives_in_train_as_often_as_unread_ones(
    dump: tuple[Path, Path],
) -> None:
    found, expected = 0, 0.0
    disliked, read_at_all = rated("-"), rated("any")
    for seed in range(15):
        raw = read(dump, seed=seed)
        splits = [by_user(raw, name) for name in ("train", "valid", "test")]
        for user in disliked:
            drawn = splits[0][user][2] - set(disliked[user])
            held_out = splits[1][user][1] | splits[2][user][1]
            unread = set(raw.items["item_id"]) - set(read_at_all[user])
            found += len(drawn & held_out)
            expected += len(drawn) * len(held_out) / len(unread | held_out)
    assert expected > 20
    assert abs(found - expected) < 4 * expected**0.5


@pytest.mark.slow
def test_neutral_and_unrated_books_are_dropped_and_counted(dump: tuple[Path, Path]) -> None:
    oddities = read(dump).oddities
    assert oddities["interactions of 3 stars, dropped"] == 3 * NUM_USERS
    assert oddities["unrated interactions, dropped"] == 2 * NUM_USERS
    as_once = read(dump, unrated_is_negative=True)
    assert as_once.oddities["unrated interactions, taken as negative"] == 2 * NUM_USERS
    shown = len(as_once.splits["train"].labels) + len(as_once.splits["test"].labels)
    raw = read(dump)
    assert shown > len(raw.splits["train"].labels) + len(raw.splits["test"].labels)


@pytest.mark.slow
def test_a_tenth_of_the_users_is_cold_and_most_have_nine_books(tmp_path: Path) -> None:
    books = write_gz(tmp_path / "goodreads_books.json.gz", map(book, range(40)))
    rows = (interaction(f"u{u}", n, 5, minute=n) for u in range(1500) for n in range(12))
    interactions = write_gz(tmp_path / "goodreads_interactions.json.gz", rows)
    far = (interaction(f"u{5 * n + k}", n, 1) for n in range(12, 40) for k in range(5))
    further = write_gz(tmp_path / "goodreads_interactions_more.json.gz", far)
    raw = read_ucsd([books], [interactions, further], name="books", filters=Filters())
    lengths = raw.splits["test"].history_lengths
    shares = np.bincount(lengths, minlength=10) / 1500
    assert shares[1:6].sum() == pytest.approx(0.1, abs=0.03)
    np.testing.assert_allclose(shares[6:9], 0.1, atol=0.03)
    assert shares[9] == pytest.approx(0.6, abs=0.05)


@pytest.mark.slow
def test_the_seed_decides_everything_drawn(dump: tuple[Path, Path]) -> None:
    first, again, other = read(dump, seed=1), read(dump, seed=1), read(dump, seed=2)
    for name, rows in first.splits.items():
        for field in ("history_values", "candidate_values", "labels", "time"):
            ours, same = getattr(rows, field), getattr(again.splits[name], field)
            np.testing.assert_array_equal(ours, same)
    assert by_user(first, "test") != by_user(other, "test")


@pytest.mark.slow
def test_rare_and_too_popular_books_and_short_users_are_left_out(tmp_path: Path) -> None:
    rows = dump_rows()
    everyone = sorted({row["user_id"] for row in rows})
    rows += [interaction(user, 900, 5) for user in everyone]  # read by all 60
    rows += [interaction(user, 901, 5) for user in everyone[:4]]  # read by 4
    rows += [interaction("short", 100 + n, 5) for n in range(9)]
    interactions = write_gz(tmp_path / "goodreads_interactions.json.gz", rows)
    numbers = [*range(100, 100 + NUM_BOOKS), 900, 901]
    books = write_gz(tmp_path / "goodreads_books.json.gz", map(book, numbers))
    raw = read((books, interactions), most_readers=59)
    assert not {"900", "901"} & set(raw.items["item_id"])
    assert "short" not in raw.users
    readers = dict.fromkeys(raw.items["item_id"], 0)
    for user in raw.users:
        for number in rated("any")[user]:
            readers[number] += number in readers
    assert min(readers.values()) >= 5


@pytest.mark.slow
def test_a_chosen_number_of_users_is_drawn_by_seed(dump: tuple[Path, Path]) -> None:
    kept = [set(read(dump, seed=seed, users=40).users) for seed in (1, 1, 2)]
    assert [len(users) for users in kept] == [40, 40, 40]
    assert kept[0] == kept[1] != kept[2]


def test_long_sequences_are_cut_to_their_first_books(dump: tuple[Path, Path]) -> None:
    raw = read(dump, longest=12)
    liked = rated("+")
    for user, (history, positives, _) in by_user(raw, "test").items():
        assert {*history, *positives} <= set(liked[user][:12])


def test_books_without_a_title_or_a_line_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [
        book(n, title=" ", title_without_series="") if n == 103 else book(n)
        for n in range(100, 179)
    ]
    books = write_gz(tmp_path / "goodreads_books.json.gz", rows)
    interactions = write_gz(tmp_path / "goodreads_interactions.json.gz", dump_rows())
    raw = read((books, interactions))
    assert raw.oddities["books without a title, dropped"] == 2
    assert not {"103", "179"} & set(raw.items["item_id"])
    assert raw.texts["description"][0].startswith("About book ")
    assert "\n" not in "".join(raw.texts["description"])


def test_a_repeated_rating_is_counted_once(tmp_path: Path, dump: tuple[Path, Path]) -> None:
    again = write_gz(tmp_path / "goodreads_interactions_again.json.gz", dump_rows()[:7])
    both = read_ucsd([dump[0]], [dump[1], again], name="books", filters=Filters())
    assert both.oddities["ratings of the same user and book again"] == 7
    assert by_user(both, "test") == by_user(read(dump), "test")


def test_time_zones_count() -> None:
    def when(text: str) -> int:
        return read_moment(Row(Path("x"), 1, {"date_added": text}), "date_added", Counter())

    assert when(DATE) == 1_447_789_055
    assert when("Tue Nov 17 20:37:35 +0100 2015") == when(DATE)
    assert when("Tue Nov 17 11:37:35 +0000 2015") == when(DATE) - 8 * 3600


def test_a_cut_gzip_names_file_and_line(dump: tuple[Path, Path]) -> None:
    data = dump[1].read_bytes()
    dump[1].write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"goodreads_interactions\.json\.gz:\d+: .*cut short after"):
        read(dump)


def test_damaged_bytes_in_a_gzip_name_the_file(dump: tuple[Path, Path]) -> None:
    data = bytearray(dump[0].read_bytes())
    data[len(data) // 2] ^= 0xFF
    dump[0].write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"goodreads_books\.json\.gz:\d+: "):
        read(dump)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": "u", "book_id": ', "not JSON"),
        ("[1, 2]", "a JSON list, expected an object"),
        ('{"user_id": "u", "book_id": "1"}', "no 'rating' here; found: book_id, user_id"),
        ('{"user_id": "u", "book_id": "x1", "rating": 5}', "'book_id' is 'x1', expected a number"),
        (
            '{"user_id": "u", "book_id": "1", "rating": 9}',
            "'rating' is 9, expected a rating",
        ),
        ('{"user_id": "u", "book_id": "1", "rating": true}', "'rating' is True, expected a number"),
        ('{"user_id": null, "book_id": "1", "rating": 5}', "'user_id' is None, expected an id"),
        ("\udce9", "not UTF-8|not JSON"),
    ],
)
def test_a_bad_line_is_named_with_file_number_and_value(
    tmp_path: Path, dump: tuple[Path, Path], line: str, message: str
) -> None:
    path = tmp_path / "goodreads_interactions_bad.json"
    good = json.dumps(interaction("u", 1, 5))
    path.write_bytes(f"{good}\n{good}\n{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"goodreads_interactions_bad\.json:3: ({message})"):
        read((dump[0], path))


def test_a_bad_date_is_left_out_and_too_many_are_named(
    dump: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = dump_rows()
    rows[0]["date_added"] = "Tue Nov 17 11:37:35 -0800 2099"
    write_gz(dump[1], rows)
    kind = "lines left out: 'date_added' is not a time between 1970 and now"
    assert read(dump).oddities[kind] == 1
    assert "json.gz:1: 'date_added' is 'Tue Nov 17" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"json\.gz:1: 'date_added' is .*, expected a time between"):
        read_ucsd([dump[0]], [dump[1]], name="books", filters=Filters(), max_bad=0)


def test_missing_and_empty_files_are_named(tmp_path: Path, dump: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json\.gz: no such file"):
        read((dump[0], tmp_path / "nowhere.json.gz"))
    with pytest.raises(DataError, match=r"empty\.json\.gz: the file is empty"):
        read((dump[0], write_gz(tmp_path / "empty.json.gz", [])))


def test_filters_that_leave_nothing_say_what_there_was(dump: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="of 60 users and 80 books, 0 users have 50 positive"):
        read(dump, fewest_positives=50)
    with pytest.raises(DataError, match="loosen --fewest-positives"):
        read(dump, users=1)


@pytest.mark.slow
def test_memory_follows_what_is_kept_and_not_the_size_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = {**(read_blocks.__kwdefaults__ or {}), "processes": 1, "block": 1 << 16}
    monkeypatch.setattr(read_blocks, "__kwdefaults__", defaults)

    def peak(lines: int) -> int:
        rows = (interaction(f"u{i % 50}", i % 70, 3 + 2 * (i < 1000), i % 60) for i in range(lines))
        path = write_gz(tmp_path / f"goodreads_interactions_{lines}.json.gz", rows)
        tracemalloc.start()
        read_ratings([path], Filters(), np.random.default_rng(0), 0, BadLines())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1_000)  # what is imported on first use does not count
    assert peak(8_000) < 1.3 * peak(2_000)


def test_lines_are_read_one_at_a_time(tmp_path: Path) -> None:
    """The first row is there before a broken later one is looked at."""
    path = tmp_path / "rows.json"
    path.write_text('{"a": 1}\n\n{"a": 2}\nbroken\n')
    rows = read_json_lines([path], "reading")
    assert [(row.line, row.values) for row in (next(rows), next(rows))] == [
        (1, {"a": 1}),
        (3, {"a": 2}),
    ]
    with pytest.raises(DataError, match=r"rows\.json:4: not JSON"):
        next(rows)


@pytest.mark.slow
def test_the_command_builds_tables_and_a_mistake_exits_with_2(
    tmp_path: Path, dump: tuple[Path, Path]
) -> None:
    def run(*further: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "process.goodreads", "ucsd", "--books", str(dump[0])]
        command += ["--interactions", str(dump[1]), "--output", str(tmp_path / "tables")]
        command += ["--tokenizer", "words=words", "--no-unitok", *further]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    wrong = run("--fewest-positives", "1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: --fewest-positives 1: expected 3 or more\n"
    assert not (tmp_path / "tables").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "tables" / "manifest.json").read_text())
    assert manifest["layout"] == "goodreads-ucsd"
    assert set(manifest["tables"]) >= {"items", "users", "histories", "train", "valid", "test"}
