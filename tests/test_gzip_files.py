"""Gzip files that stand for far more than they hold are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import legos.files
from legos.errors import DataError
from legos.files import BoundedGzip
from legos.lm.token_vectors import text_file_token_vectors
from process.json_lines import read_json_lines
from process.tsv import read_blocks


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legos.files, "HARMLESS", 100_000)


def bomb(path: Path, line: bytes) -> Path:
    path.write_bytes(gzip.compress(line * (4_000_000 // len(line))))
    return path


def test_a_gzip_file_of_texts_is_read_as_gzip_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    lines = [f"{number * 7919 % 10_007} words\n".encode() for number in range(20_000)]
    path.write_bytes(gzip.compress(b"".join(lines)))
    with path.open("rb") as raw:
        assert list(BoundedGzip(path, raw)) == lines
    with path.open("rb") as raw:
        assert BoundedGzip(path, raw).read() == b"".join(lines)


@pytest.mark.slow
def test_json_lines_that_explode_are_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.json.gz", b"{}\n")
    with pytest.raises(DataError, match=r"a\.json\.gz: .* bytes of this gzip file stand for"):
        for _ in read_json_lines([path], "reading"):
            pass


def test_tab_separated_lines_that_explode_are_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.tsv.gz", b"a\tb\n")
    with pytest.raises(DataError, match="bytes of this gzip file stand for"):
        for _ in read_blocks(path, ["x", "y"]):
            pass


@pytest.mark.slow
def test_word_vectors_that_explode_are_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.txt.gz", b"a 1 2 3\n")
    with pytest.raises(DataError, match="bytes of this gzip file stand for"):
        text_file_token_vectors(path)


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legos.files, "LONGEST_LINE", 1_000)
    monkeypatch.setattr(legos.files, "HARMLESS", 10**9)
    path = bomb(tmp_path / "a.json.gz", b" ")
    with pytest.raises(DataError, match="a line of more than 1,000 bytes"):
        for _ in read_json_lines([path], "reading"):
            pass
