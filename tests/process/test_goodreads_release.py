"""ONCE's released files become the leave-last-out benchmark; its logs are counted, not trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from legos.data.ragged import Ragged, RaggedArray, offsets_of
from legos.errors import DataError
from process.goodreads.leave_last_out import UNREAD, compare, leave_last_out
from process.goodreads.release import read_release
from process.negatives import draw_negatives
from process.raw import Impressions, RawData

NUM_BOOKS, NUM_USERS = 60, 12


def book_id(row: int) -> str:
    return str(1000 + row)


def write_release(folder: Path) -> list[list[int]]:
    """A release of 60 books and 12 users of 3 to 9 books; returns their sequences of book rows."""
    generator = np.random.default_rng(0)
    sequences = [generator.choice(50, 3 + user % 7, replace=False).tolist() for user in range(12)]
    titles = [f"{book_id(row)}\tTitle  {row}" for row in range(NUM_BOOKS)]
    titles[7] = f'{book_id(7)}\t"A ""quoted"" title"'
    (folder / "user").mkdir(parents=True)
    (folder / "book.csv").write_text("\n".join(["bid\ttitle", *titles]) + "\n")
    descriptions = [f'{book_id(row)},"About {row}, in short."' for row in range(NUM_BOOKS)]
    (folder / "book-desc.csv").write_text("\n".join(["bid,desc", *descriptions]) + "\n")
    log = [f"{book_id(row)}\t[description] Log {row}" for row in range(NUM_BOOKS)]
    log += [
        f"{book_id(3)}\t[description] Asked again",
        "no tab here",
        f"{book_id(4)}\t[description]",
    ]
    (folder / "book_summarizer.log").write_text("\n".join(log) + "\n")
    # The vocabulary's order is not that of book.csv, and it has users without a row.
    vocabulary = [book_id(row) for row in reversed(range(NUM_BOOKS))]
    (folder / "user" / "tok.bid.dat").write_text("\n".join(vocabulary) + "\n")
    users = [f"user{i}" for i in range(2 * NUM_USERS)]
    (folder / "user" / "tok.uid.dat").write_text("\n".join(users) + "\n")
    histories = np.empty(NUM_USERS, dtype=object)
    histories[:] = [[NUM_BOOKS - 1 - row for row in sequence] for sequence in sequences]
    table = {"uid": np.arange(0, 2 * NUM_USERS, 2), "history": histories}
    np.save(folder / "user" / "data.npy", np.array(table, dtype=object), allow_pickle=True)
    return sequences


def lists(rows: list[list[int]]) -> RaggedArray:
    values = np.array([value for row in rows for value in row], dtype=np.int64)
    return Ragged(values, offsets_of(np.array([len(row) for row in rows])))


def questions(rows: Impressions) -> list[tuple[int, list[int], list[int]]]:
    """(user, history, positives) of every impression."""
    found = []
    for i in range(len(rows)):
        part = slice(rows.candidate_offsets[i], rows.candidate_offsets[i + 1])
        positives = rows.candidate_values[part][rows.labels[part] == 1]
        history = rows.history_values[rows.history_offsets[i] : rows.history_offsets[i + 1]]
        found.append((int(rows.user[i]), history.tolist(), positives.tolist()))
    return found


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, list[list[int]]]:
    folder = tmp_path / "raw"
    return folder, write_release(folder)


def test_last_is_test_second_last_valid_and_prefixes_train(
    release: tuple[Path, list[list[int]]],
) -> None:
    folder, sequences = release
    raw = read_release(folder, name="books")
    raw.check()
    assert list(raw.users) == [f"user{2 * i}" for i in range(NUM_USERS)]
    for names, expected in (
        (("test", "test_uniform"), [(u, s[:-1], s[-1:]) for u, s in enumerate(sequences)]),
        (("valid", "valid_uniform"), [(u, s[:-2], [s[-2]]) for u, s in enumerate(sequences)]),
        (
            ("train",),
            [(u, s[:i], [s[i]]) for u, s in enumerate(sequences) for i in range(1, len(s) - 2)],
        ),
    ):
        for name in names:
            assert questions(raw.splits[name]) == expected


def test_negatives_are_counted_distinct_and_unread(release: tuple[Path, list[list[int]]]) -> None:
    folder, sequences = release
    for name, rows in read_release(folder, name="books").splits.items():
        count = 4 if name == "train" else 20
        shown = rows.candidate_values.reshape(len(rows), count + 1)
        labels = rows.labels.reshape(len(rows), count + 1)
        assert (labels.sum(axis=1) == 1).all()
        for user, candidates, label in zip(rows.user, shown, labels, strict=True):
            assert len(set(candidates)) == count + 1
            known = sequences[user][:-2] if name == "train" else sequences[user]
            assert not set(candidates[label == 0]) & set(known)


@pytest.mark.slow
def test_held_out_books_are_negatives_in_train_as_often_as_others_of_their_weight() -> None:
    rows = [[book, 20 + book, 40 + book] for book in range(10)] * 2  # 40 + n: nobody reads in train
    rows = [[u % 10, 10 + u % 10, *row[1:]] for u, row in enumerate(rows)]
    found, expected = 0, 0.0
    for seed in range(50):
        train = leave_last_out(lists(rows), 60, seed)["train"]
        shown = train.candidate_values.reshape(len(train), -1)
        for user, candidates in zip(train.user, shown, strict=True):
            found += sum(book in candidates for book in rows[user][2:])
        expected += len(train) * 4 * 2 * UNREAD / (18 * 2 + 40 * UNREAD)
    assert expected > 30
    assert abs(found - expected) < 4 * expected**0.5 + 0.05 * expected


def test_the_positive_stands_anywhere(release: tuple[Path, list[list[int]]]) -> None:
    rows = read_release(release[0], name="books").splits["test"]
    places = rows.labels.reshape(len(rows), 21).argmax(axis=1)
    assert len(set(places.tolist())) > 5


def test_the_seed_decides_the_negatives_and_nothing_else(
    release: tuple[Path, list[list[int]]],
) -> None:
    first, again, other = (read_release(release[0], name="books", seed=s) for s in (1, 1, 2))
    for name, rows in first.splits.items():
        np.testing.assert_array_equal(rows.candidate_values, again.splits[name].candidate_values)
        assert (rows.candidate_values != other.splits[name].candidate_values).any()
        assert questions(rows) == questions(other.splits[name])


def test_texts_are_unquoted_and_on_one_line(release: tuple[Path, list[list[int]]]) -> None:
    items = read_release(release[0], name="books").items
    assert items["title"][0] == "Title 0"
    assert items["title"][7] == 'A "quoted" title'
    assert items["description"][2] == "About 2, in short."


def test_without_the_table_descriptions_come_from_the_log_s_last_answers(
    release: tuple[Path, list[list[int]]],
) -> None:
    (release[0] / "book-desc.csv").unlink()
    items = read_release(release[0], name="books").items
    assert items["description"][2] == "Log 2"
    assert items["description"][3] == "Asked again"


def test_duplicate_and_bad_log_rows_are_counted_as_oddities(
    release: tuple[Path, list[list[int]]],
) -> None:
    oddities = read_release(release[0], name="books").oddities
    assert oddities["book_summarizer.log: duplicate ids"] == 1
    assert oddities["book_summarizer.log: bad rows"] == 2


def test_two_readings_agree_and_a_changed_history_is_found(
    release: tuple[Path, list[list[int]]],
) -> None:
    ours, given = (read_release(release[0], name="books", seed=s) for s in (1, 2))
    agreement = compare(ours, given)
    assert agreement.impressions == {name: len(rows) for name, rows in ours.splits.items()}
    assert agreement.texts == {"title": 0, "description": 0}
    rows = given.splits["valid"]
    changed = rows.history_values.copy()
    changed[0] += 1
    splits = given.splits | {"valid": replace(rows, history_values=changed)}
    with pytest.raises(DataError, match="'valid': user 'user0'"):
        compare(ours, _with_splits(given, splits))


def _with_splits(raw: RawData, splits: dict[str, Impressions]) -> RawData:
    return replace(raw, splits=splits)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("book.csv", "bid,title\n", r"book\.csv:1: header"),
        ("book.csv", "bid\ttitle\n1000\tA\n1000\tB\n", r"book\.csv:3: bid '1000' occurs twice"),
        ("book.csv", "bid\ttitle\n1000\tA\tB\n", r"book\.csv:2: 3 columns"),
        ("book.csv", "bid\ttitle\n1000\tA\n", r"tok\.bid\.dat: book '1059' is not in book\.csv"),
        ("book-desc.csv", "bid,desc\n1000,\xe9\n", r"book-desc\.csv:2: not UTF-8"),
        ("user/tok.uid.dat", "u1\n\xff\n", r"tok\.uid\.dat:2: not UTF-8"),
        ("user/tok.bid.dat", "1000\n", r"data\.npy: history holds an index outside 0 to 0"),
        ("user/tok.uid.dat", "u\n", r"data\.npy: uid holds an index outside 0 to 0"),
        ("user/data.npy", "", r"data\.npy: not a \.npy file"),
    ],
)
def test_bad_files_are_named_with_line_and_value(
    release: tuple[Path, list[list[int]]], file: str, content: str, message: str
) -> None:
    (release[0] / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_release(release[0], name="books")


@pytest.mark.parametrize("file", ["book.csv", "user/data.npy", "user/tok.bid.dat"])
def test_missing_files_are_named(release: tuple[Path, list[list[int]]], file: str) -> None:
    (release[0] / file).unlink()
    with pytest.raises(DataError, match=file.replace(".", r"\.")):
        read_release(release[0], name="books")


def test_a_user_of_two_books_cannot_be_split() -> None:
    with pytest.raises(DataError, match="fewer than 3 books"):
        leave_last_out(lists([[1, 2, 3], [4, 5]]), 30, seed=1)


def test_negatives_follow_their_weights() -> None:
    generator = np.random.default_rng(0)
    weights = np.array([0.0, 1.0, 2.0, 3.0])
    users = np.zeros(30_000, dtype=np.int64)
    drawn = draw_negatives(generator, lists([[], [1]]), users, 1, weights)
    shares = np.bincount(drawn.ravel(), minlength=4) / len(users)
    np.testing.assert_allclose(shares, weights / 6, atol=0.01)
    drawn = draw_negatives(generator, lists([[], [1]]), users + 1, 1, weights)
    shares = np.bincount(drawn.ravel(), minlength=4) / len(users)
    np.testing.assert_allclose(shares, [0, 0, 0.4, 0.6], atol=0.01)


def test_exactly_enough_books_give_all_of_them_and_one_fewer_is_an_error() -> None:
    read = lists([[0, 1], [2]])
    drawn = draw_negatives(np.random.default_rng(0), read, np.array([0, 1]), 3, np.ones(5))
    assert sorted(drawn[0].tolist()) == [2, 3, 4]
    assert not set(drawn[1].tolist()) & {2}
    with pytest.raises(DataError, match="4 negatives a row are requested"):
        draw_negatives(np.random.default_rng(0), read, np.array([0]), 4, np.ones(5))
