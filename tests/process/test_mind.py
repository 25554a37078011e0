"""The MIND reader on folders small enough to check by hand."""

from __future__ import annotations

import gzip
import itertools
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.errors import DataError
from process.mind import read_mind
from process.raw import Impressions, RawData
from tests.process.mind_files import DEV, NEWS, TRAIN, write_lines, write_mind


def rows(values: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [values[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def candidates(raw: RawData, split: str) -> list[list[str]]:
    ids = raw.items["item_id"].to_numpy()
    part = raw.splits[split]
    return [list(ids[row]) for row in rows(part.candidate_values, part.candidate_offsets)]


def histories(raw: RawData, split: str) -> list[list[str]]:
    ids = raw.items["item_id"].to_numpy()
    part = raw.splits[split]
    return [list(ids[row]) for row in rows(part.history_values, part.history_offsets)]


def users(raw: RawData, part: Impressions) -> list[str]:
    return [str(raw.users[user]) for user in part.user]


def test_every_column_of_a_tiny_folder_is_read(tmp_path: Path) -> None:
    raw = read_mind(*(write_mind(tmp_path) / part for part in ("train", "dev")), name="tiny")
    assert raw.items["item_id"].tolist() == ["N1", "N2", "N3", "N4", "N5"]
    assert raw.items["title"].tolist()[1] == '"Out" she said', "quotes are data"
    assert raw.items["abstract"].tolist()[1] == ""
    assert raw.items["subcategory"].tolist() == ["soccer", "tennis", "markets", "", "markets"]
    assert list(raw.splits) == ["train", "valid", "test"]
    assert candidates(raw, "train") == [["N2", "N3"], ["N1", "N4", "N3"]]
    assert candidates(raw, "test") == [["N5", "N1"], ["N2", "N5", "N3"]]
    train = raw.splits["train"]
    assert rows(train.labels, train.candidate_offsets) == [[1, 0], [0, 1, 0]]
    assert histories(raw, "train") == [["N1", "N3"], []]
    assert histories(raw, "test") == [["N1", "N3", "N2"], ["N4", "N4"]]
    assert users(raw, train) == ["U1", "U2"]
    assert users(raw, raw.splits["test"]) == ["U1", "U3"]
    assert train.impression_id.tolist() == ["1", "2"]


def test_the_last_day_of_train_is_valid_and_dev_is_test(tmp_path: Path) -> None:
    raw = read_mind(*(write_mind(tmp_path) / part for part in ("train", "dev")))
    assert raw.splits["valid"].impression_id.tolist() == ["3"]
    assert raw.split_rule == "by time: the last day of train is valid"
    stamps = [datetime(2019, 11, 11, 9, 5, 58), datetime(2019, 11, 11)]  # 12:00 AM is midnight
    expected = [int(stamp.replace(tzinfo=UTC).timestamp()) for stamp in stamps]
    assert raw.splits["train"].time.tolist() == expected


def test_without_dev_the_last_two_days_of_train_are_valid_and_test(tmp_path: Path) -> None:
    lines = [f"{day}\tU1\t11/{day}/2019 1:00:00 PM\t\tN1-1 N2-0" for day in (9, 10, 11, 12)]
    write_mind(tmp_path, train=lines)
    raw = read_mind(tmp_path / "train")
    ids = {split: part.impression_id.tolist() for split, part in raw.splits.items()}
    assert ids == {"train": ["9", "10"], "valid": ["11"], "test": ["12"]}


def test_train_without_times_needs_a_valid_folder(tmp_path: Path) -> None:
    lines = [[*line.split("\t")[:2], "", *line.split("\t")[3:]] for line in TRAIN]
    write_mind(tmp_path, train=["\t".join(line) for line in lines])
    with pytest.raises(DataError, match=r"without times, so valid cannot .* --valid FOLDER"):
        read_mind(tmp_path / "train", tmp_path / "dev")
    raw = read_mind(tmp_path / "train", tmp_path / "dev", valid=tmp_path / "dev")
    assert raw.splits["train"].time.tolist() == [-1, -1, -1]
    assert len(raw.splits["valid"]) == 2


def test_impressions_without_time_stay_in_train_and_are_counted(tmp_path: Path) -> None:
    write_mind(tmp_path, train=[*TRAIN, "4\tU1\t\tN1\tN2-1"])
    raw = read_mind(tmp_path / "train", tmp_path / "dev")
    assert raw.splits["train"].impression_id.tolist() == ["1", "2", "4"]
    assert raw.oddities["impressions without time"] == 1


def test_oddities_are_counted_and_not_repaired(tmp_path: Path) -> None:
    train = [*TRAIN, "4\tU4\t11/11/2019 1:00:00 PM\tN9 N1 N1 N8 N1\tN2-1"]
    write_mind(tmp_path, train=train)
    raw = read_mind(tmp_path / "train", tmp_path / "dev")
    assert histories(raw, "train")[-1] == ["N1", "N1", "N1"]
    assert raw.oddities == {
        "news without abstract": 1,
        "news without subcategory": 1,
        "history items absent from news.tsv (left out)": 2,
        "duplicate history items (kept)": 3,  # N1 twice more, N4 once more in dev
        "impressions with an empty history": 1,
    }


def test_unknown_candidates_are_refused_or_dropped_and_counted(tmp_path: Path) -> None:
    lost = [
        "4\tU9\t11/11/2019 1:00:00 PM\t\tN7-1 N8-0",
        "5\tU2\t11/11/2019 2:00:00 PM\t\tN7-0 N1-1",
    ]
    write_mind(tmp_path, train=[*TRAIN, *lost])
    path = tmp_path / "train" / "behaviors.tsv"
    with pytest.raises(DataError, match=rf"{path}:4: candidate 'N7'.*--unknown-candidates drop"):
        read_mind(tmp_path / "train", tmp_path / "dev")
    raw = read_mind(tmp_path / "train", tmp_path / "dev", unknown_candidates="drop")
    assert candidates(raw, "train")[-1] == ["N1"]
    assert raw.splits["train"].impression_id.tolist() == ["1", "2", "5"]
    assert raw.oddities["candidates absent from news.tsv (dropped)"] == 3
    assert raw.oddities["impressions left with no candidate (dropped)"] == 1
    assert "U9" not in raw.users


def test_a_test_folder_without_labels_becomes_its_own_split(tmp_path: Path) -> None:
    write_mind(tmp_path)
    write_lines(tmp_path / "test" / "news.tsv", NEWS)
    write_lines(tmp_path / "test" / "behaviors.tsv", ["7\tU1\t11/16/2019 1:00:00 PM\tN1\tN5 N2"])
    raw = read_mind(tmp_path / "train", tmp_path / "dev", tmp_path / "test")
    assert raw.splits["test_unlabelled"].labels.tolist() == [-1, -1]
    assert candidates(raw, "test_unlabelled") == [["N5", "N2"]]


def test_a_labelled_test_folder_beside_dev_is_refused(tmp_path: Path) -> None:
    write_mind(tmp_path)
    with pytest.raises(DataError, match=r"have labels.*--split NAME=FOLDER"):
        read_mind(tmp_path / "train", tmp_path / "dev", tmp_path / "dev")


def test_unlabelled_training_impressions_are_refused(tmp_path: Path) -> None:
    write_mind(tmp_path, train=["1\tU1\t11/11/2019 1:00:00 PM\tN1\tN5 N2"])
    with pytest.raises(DataError, match=r"behaviors.tsv: the candidates have no labels"):
        read_mind(tmp_path / "train", tmp_path / "dev")


def test_news_of_all_folders_are_merged_and_the_first_content_counts(tmp_path: Path) -> None:
    write_mind(tmp_path)
    changed = [NEWS[0].replace("A cup final", "Another title"), *NEWS[1:], "N6\ta\tb\tc\td\t\t\t"]
    write_lines(tmp_path / "dev" / "news.tsv", changed)
    raw = read_mind(tmp_path / "train", tmp_path / "dev")
    assert raw.items["item_id"].tolist() == ["N1", "N2", "N3", "N4", "N5", "N6"]
    assert raw.items["title"].tolist()[0] == "A cup final"
    assert raw.oddities["news whose content differs between files (the first one counts)"] == 1


def test_one_news_file_beside_the_folders_serves_all(tmp_path: Path) -> None:
    write_mind(tmp_path)
    for split in ("train", "dev"):
        (tmp_path / split / "news.tsv").rename(tmp_path / "news.tsv")
    raw = read_mind(tmp_path / "train", tmp_path / "dev", further={"again": tmp_path / "dev"})
    assert raw.sources.count(tmp_path / "news.tsv") == 1
    assert candidates(raw, "again") == candidates(raw, "test")


def test_compressed_files_are_read(tmp_path: Path) -> None:
    write_mind(tmp_path)
    plain = read_mind(tmp_path / "train", tmp_path / "dev")
    for path in list(tmp_path.rglob("*.tsv")):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = read_mind(tmp_path / "train", tmp_path / "dev")
    assert packed.items.equals(plain.items)
    assert histories(packed, "test") == histories(plain, "test")


def test_windows_line_ends_and_a_byte_order_mark_are_no_content(tmp_path: Path) -> None:
    write_mind(tmp_path)
    plain = read_mind(tmp_path / "train", tmp_path / "dev")
    for path in tmp_path.rglob("*.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    other = read_mind(tmp_path / "train", tmp_path / "dev")
    assert candidates(other, "train") == candidates(plain, "train")
    assert other.items.equals(plain.items)


def test_click_probabilities_become_the_oracle_in_any_order(tmp_path: Path) -> None:
    write_mind(tmp_path)
    lines = ["3\t0.1 0.9", "1\t.5 0.25", "2\t0 1 1e-3"]
    write_lines(tmp_path / "train" / "click_probability.tsv", lines)
    raw = read_mind(tmp_path / "train", tmp_path / "dev")
    train, valid = raw.splits["train"].oracle, raw.splits["valid"].oracle
    assert train is not None
    assert valid is not None
    assert train.tolist() == pytest.approx([0.5, 0.25, 0, 1, 1e-3])
    assert valid.tolist() == pytest.approx([0.1, 0.9])
    assert raw.splits["test"].oracle is None


ITEMS = st.sampled_from([f"N{i}" for i in range(1, 6)])
LINES = st.lists(
    st.tuples(
        st.sampled_from(["U1", "Ü2", "a-very-long-user-id-0123456789abcdef"]),
        st.lists(ITEMS, max_size=6),
        st.lists(st.tuples(ITEMS, st.integers(0, 1)), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(lines=LINES)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str, list[str], list[tuple[str, int]]]],
) -> None:
    folder = tmp_path_factory.mktemp("mind")
    text = [
        f"{i}\t{user}\t\t{' '.join(read)}\t{' '.join(f'{item}-{label}' for item, label in shown)}"
        for i, (user, read, shown) in enumerate(lines)
    ]
    write_mind(folder, train=text, dev=DEV)
    raw = read_mind(folder / "train", folder / "dev", valid=folder / "dev")
    train = raw.splits["train"]
    assert users(raw, train) == [user for user, _, _ in lines]
    assert histories(raw, "train") == [read for _, read, _ in lines]
    assert candidates(raw, "train") == [[item for item, _ in shown] for _, _, shown in lines]
    assert train.labels.tolist() == [label for _, _, shown in lines for _, label in shown]
