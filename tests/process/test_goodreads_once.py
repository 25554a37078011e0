"""The Goodreads benchmark in MIND's layout, small and invented, and the real one where it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from legos.errors import DataError
from process.goodreads.leave_last_out import compare
from process.goodreads.once import read_once
from process.goodreads.release import read_release
from process.raw import Impressions, RawData

SPLITS = ("train", "valid", "test", "valid_uniform", "test_uniform")


def write_benchmark(folder: Path, splits: tuple[str, ...] = SPLITS) -> Path:
    folder.mkdir(parents=True)
    (folder / "news.tsv").write_text(
        "".join(f"{n}\tbook\tbook\tBook {n}\tAbout {n}.\t\t[]\t[]\n" for n in range(10, 16))
    )
    for split in splits:
        (folder / split).mkdir()
        (folder / split / "behaviors.tsv").write_text(
            "1\tu1\t\t10 11\t12-1 13-0\n2\tu2\t\t14\t15-0 10-1\n"
        )
    return folder


@pytest.fixture(scope="module")
def real_folder() -> Path:
    beside = Path(__file__).parents[2].parent / "shared"
    folder = Path(os.environ.get("LEGOS_SHARED", beside)) / "data" / "goodreads-once"
    if not folder.is_dir():
        pytest.skip(f"real Goodreads not found in {folder}; set LEGOS_SHARED to where it is")
    return folder


@pytest.fixture(scope="module")
def real(real_folder: Path) -> RawData:
    return read_once(real_folder, name="goodreads")


def test_titles_and_descriptions_are_the_fields_and_times_are_unknown(tmp_path: Path) -> None:
    raw = read_once(write_benchmark(tmp_path / "raw"), name="books")
    raw.check()
    assert raw.layout == "goodreads-once"
    assert tuple(raw.splits) == SPLITS
    assert (raw.text_fields, raw.category_fields) == (("title", "description"), ())
    assert list(raw.items.columns) == ["item_id", "title", "description"]
    assert raw.items["description"][2] == "About 12."
    assert all((rows.time == -1).all() for rows in raw.splits.values())


def test_uniform_splits_may_be_absent_and_others_may_not(tmp_path: Path) -> None:
    raw = read_once(write_benchmark(tmp_path / "raw", SPLITS[:3]), name="books")
    assert tuple(raw.splits) == SPLITS[:3]
    with pytest.raises(DataError, match=r"valid.behaviors\.tsv"):
        read_once(write_benchmark(tmp_path / "other", ("train", "test")), name="books")


def test_a_missing_news_file_and_an_unknown_book_are_named(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path / "raw")
    with (folder / "test" / "behaviors.tsv").open("a") as file:
        file.write("3\tu3\t\t10\t99-1 11-0\n")
    with pytest.raises(DataError, match=r"test.behaviors\.tsv:3: candidate '99'"):
        read_once(folder, name="books")
    (folder / "news.tsv").unlink()
    with pytest.raises(DataError, match=r"news\.tsv: no such file"):
        read_once(folder, name="books")


@pytest.mark.parametrize("origin", ["once", "release", "ucsd"])
def test_the_help_of_every_origin_shows_its_files_and_an_example(
    help_of: Callable[[str], str], origin: str
) -> None:
    shown = help_of(f"process.goodreads {origin}")
    for expected in ("example:", "expected", f"process.goodreads {origin}"):
        assert expected in shown


def positives(rows: Impressions) -> np.ndarray:
    return rows.candidate_values[rows.labels == 1]


@pytest.mark.slow
def test_real_benchmark_has_its_published_size(real: RawData) -> None:
    real.check()
    assert (len(real.users), len(real.items)) == (18_863, 16_833)
    sizes = {name: len(rows) for name, rows in real.splits.items()}
    assert sizes == {"train": 95_417} | dict.fromkeys(SPLITS[1:], 18_863)
    for name, rows in real.splits.items():
        assert (rows.candidate_counts == (5 if name == "train" else 21)).all()
        assert len(positives(rows)) == len(rows)


@pytest.mark.slow
def test_real_train_sequences_hold_14037_books_in_114280_interactions(real: RawData) -> None:
    """The history of a user's valid impression is the user's whole train sequence."""
    read = real.splits["valid"].history_values
    assert (len(read), len(np.unique(read))) == (114_280, 14_037)


@pytest.mark.slow
def test_real_books_never_read_in_train_have_their_published_shares(real: RawData) -> None:
    warm = np.isin(np.arange(len(real.items)), real.splits["valid"].history_values)
    test = real.splits["test"]
    assert (~warm)[positives(test)].mean() == pytest.approx(0.041, abs=5e-4)
    assert (~warm)[test.candidate_values[test.labels == 0]].mean() == pytest.approx(0.012, abs=5e-4)


@pytest.mark.slow
def test_real_splits_share_users_histories_and_positives(real: RawData) -> None:
    for name in ("valid", "test"):
        given, uniform = real.splits[name], real.splits[f"{name}_uniform"]
        np.testing.assert_array_equal(given.user, uniform.user)
        np.testing.assert_array_equal(given.history_values, uniform.history_values)
        np.testing.assert_array_equal(positives(given), positives(uniform))


@pytest.mark.slow
def test_the_real_release_rebuilds_the_real_benchmark(real_folder: Path, real: RawData) -> None:
    """Every user, history and positive; texts but for two with a control character."""
    release = read_release(real_folder / "raw", name="goodreads")
    agreement = compare(release, real)
    assert agreement.impressions == {name: len(rows) for name, rows in real.splits.items()}
    assert agreement.texts == {"title": 1, "description": 1}
    assert release.oddities["book_summarizer.log: duplicate ids"] == 17_925 - 16_833
    assert sum(count for name, count in release.oddities.items() if "bad rows" in name) == 0


@pytest.mark.slow
def test_real_negatives_rebuilt_from_the_release_are_as_popular_as_the_given(
    real_folder: Path, real: RawData
) -> None:
    release = read_release(real_folder / "raw", name="goodreads")
    row_of = {book: row for row, book in enumerate(real.items["item_id"])}
    rows = np.array([row_of[book] for book in release.items["item_id"]])
    count = np.bincount(real.splits["valid"].history_values, minlength=len(row_of))
    for name in ("test", "test_uniform"):
        given, ours = real.splits[name], release.splits[name]
        expected = count[given.candidate_values[given.labels == 0]].mean()
        found = count[rows[ours.candidate_values[ours.labels == 0]]].mean()
        assert found == pytest.approx(expected, rel=0.05)
