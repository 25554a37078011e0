"""What bad MIND folders get: one message with file, line, what was found and what was expected."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from legos.errors import DataError
from process.mind import read_mind
from tests.process.mind_files import NEWS, TRAIN, write_lines, write_mind

LINE = "4\tU1\t11/11/2019 1:00:00 PM\tN1\t"

BEHAVIOUR_FAULTS = {
    "too few columns": ("4\tU1\tN1", ":4: found 3 TAB-separated columns, expected 5"),
    "an empty line": ("", ":4: found 1 TAB-separated columns, expected 5"),
    "too many columns": (LINE + "N1-0\tN2-1", ":4: found 6 TAB-separated columns, expected 5"),
    "a label of 2": (LINE + "N1-0 N1-2", ":4: candidate 'N1-2', expected an id, '-' and the label"),
    "a missing label": (LINE + "N1-0 N2", ":4: candidate 'N2', expected an id, '-' and the label"),
    "a label without id": (LINE + "-1 N2-0", ":4: candidate '-1', expected an id"),
    "no candidates": (LINE, ":4: the impression has no candidates"),
    "a bad time": (
        "4\tU1\t2019-11-11 13:00\tN1\tN1-0",
        ":4: time '2019-11-11 13:00', expected MIND",
    ),
    "an impossible time": ("4\tU1\t13/45/2019 1:00:00 PM\t\tN1-0", ":4: time '13/45/2019"),
    "an empty impression": ("\tU1\t\tN1\tN1-0", ":4: the impression id is empty"),
    "a repeated impression": (
        "2\tU1\t\tN1\tN1-0",
        ":4: impression id '2' occurs twice, first in line 2",
    ),
    "an unknown candidate": (LINE + "N1-0 N77-1", ":4: candidate 'N77' is not in news.tsv"),
    "a NUL byte": (LINE + "N1-0 N\x002-1", ":4: a NUL byte"),
}


@pytest.mark.parametrize("fault", BEHAVIOUR_FAULTS)
def test_a_bad_line_of_behaviors_is_named(tmp_path: Path, fault: str) -> None:
    line, message = BEHAVIOUR_FAULTS[fault]
    write_mind(tmp_path, train=[*TRAIN, line])
    with pytest.raises(DataError, match=re.escape(f"train/behaviors.tsv{message}")):
        read_mind(tmp_path / "train", tmp_path / "dev")


NEWS_FAULTS = {
    "seven columns": ("N6\ta\tb\tc\td\te\tf", ":6: found 7 TAB-separated columns, expected 8"),
    "an id twice": (NEWS[1], ":6: news id 'N2' occurs twice, first in line 2"),
    "an empty id": ("\ta\tb\tc\td\te\tf\tg", ":6: news id '' is empty"),
}


@pytest.mark.parametrize("fault", NEWS_FAULTS)
def test_a_bad_line_of_news_is_named(tmp_path: Path, fault: str) -> None:
    line, message = NEWS_FAULTS[fault]
    write_mind(tmp_path, news=[*NEWS, line])
    with pytest.raises(DataError, match=re.escape(f"train/news.tsv{message}")):
        read_mind(tmp_path / "train", tmp_path / "dev")


@pytest.mark.parametrize("name", ["news.tsv", "behaviors.tsv"])
def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    path = write_mind(tmp_path) / "train" / name
    path.write_bytes(path.read_bytes().replace(b"N3", b"N\xe9", 1))
    line = 1 + path.read_bytes()[: path.read_bytes().index(b"\xe9")].count(b"\n")
    with pytest.raises(DataError, match=rf"{path}:{line}: not UTF-8 \(byte 0xe9\)"):
        read_mind(tmp_path / "train", tmp_path / "dev")


@pytest.mark.parametrize("name", ["news.tsv", "behaviors.tsv"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    path = write_mind(tmp_path) / "train" / name
    path.write_bytes(b"")
    with pytest.raises(DataError, match=f"{path}: the file is empty"):
        read_mind(tmp_path / "train", tmp_path / "dev")


@pytest.mark.parametrize("name", ["news.tsv", "behaviors.tsv"])
def test_a_gz_cut_short_is_named(tmp_path: Path, name: str) -> None:
    path = write_mind(tmp_path) / "train" / name
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(f"{name}.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=rf"{path}.gz: incomplete gzip file .*cut short"):
        read_mind(tmp_path / "train", tmp_path / "dev")


def test_a_file_called_gz_that_is_none_is_named(tmp_path: Path) -> None:
    path = write_mind(tmp_path) / "train" / "news.tsv"
    path.rename(f"{path}.gz")
    with pytest.raises(DataError, match=f"{path}.gz: incomplete gzip file"):
        read_mind(tmp_path / "train", tmp_path / "dev")


def test_a_missing_folder_and_a_missing_file_say_what_is_there(tmp_path: Path) -> None:
    write_mind(tmp_path)
    with pytest.raises(DataError, match=r"no such file \(there is no folder .*traim\)"):
        read_mind(tmp_path / "traim", tmp_path / "dev")
    (tmp_path / "dev" / "behaviors.tsv").rename(tmp_path / "dev" / "behaviours.tsv")
    with pytest.raises(
        DataError, match=r"behaviors.tsv: no such file; .*dev holds: behaviours.tsv"
    ):
        read_mind(tmp_path / "train", tmp_path / "dev")


def test_a_missing_news_file_says_what_is_there(tmp_path: Path) -> None:
    (write_mind(tmp_path) / "train" / "news.tsv").unlink()
    with pytest.raises(DataError, match=r"train/news.tsv: no such file.*holds: behaviors.tsv"):
        read_mind(tmp_path / "train", tmp_path / "dev")


def test_behaviors_of_another_news_file_are_refused_even_when_dropping(tmp_path: Path) -> None:
    write_mind(tmp_path, dev=["1\tU1\t\t\tM1-1 M2-0"])
    with pytest.raises(DataError, match=r"dev/behaviors.tsv: none of the candidates is in news"):
        read_mind(tmp_path / "train", tmp_path / "dev", unknown_candidates="drop")


PROBABILITY_FAULTS = {
    "another number": (
        ["1\t.5", "2\t0 1 1", "3\t1 1"],
        ":1: 1 probabilities, the impression has 2",
    ),
    "no probability": (["1\t.5 x", "2\t0 1 1", "3\t1 1"], ":1: 'x' is no click probability"),
    "above one": (["1\t.5 .5", "2\t0 1.5 1", "3\t1 1"], ":2: '1.5' is no click probability"),
    "not a number": (["1\t.5 .5", "2\t0 nan 1", "3\t1 1"], ":2: 'nan' is no click probability"),
    "unknown": (["1\t.5 .5", "9\t0 1 1", "3\t1 1"], ":2: impression '9' is not in"),
    "one missing": (["1\t.5 .5", "2\t0 1 1"], ": lacks impression '3'"),
    "one twice": (["1\t.5 .5", "2\t0 1 1", "3\t1 1", "3\t1 1"], ": repeats impressions"),
}


@pytest.mark.parametrize("fault", PROBABILITY_FAULTS)
def test_bad_click_probabilities_are_named(tmp_path: Path, fault: str) -> None:
    lines, message = PROBABILITY_FAULTS[fault]
    write_mind(tmp_path)
    write_lines(tmp_path / "train" / "click_probability.tsv", lines)
    with pytest.raises(DataError, match=re.escape(f"click_probability.tsv{message}")):
        read_mind(tmp_path / "train", tmp_path / "dev")


def test_errors_name_the_right_line_in_later_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{i}\tU{i}\t11/1{i % 3}/2019 1:00:00 PM\tN1 N2\tN1-0 N2-1" for i in range(50)]
    write_mind(tmp_path, train=lines)
    monkeypatch.setattr("process.tsv.read_blocks.__kwdefaults__", {"block_bytes": 100})
    raw = read_mind(tmp_path / "train", tmp_path / "dev")
    assert sum(len(raw.splits[split]) for split in ("train", "valid")) == 50
    write_mind(tmp_path, train=[*lines, "50\tU1\t\t\tN1-0 N2"])
    with pytest.raises(DataError, match=r"behaviors.tsv:51: candidate 'N2'"):
        read_mind(tmp_path / "train", tmp_path / "dev")
