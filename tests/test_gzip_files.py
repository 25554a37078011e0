"""Gzip files that are damaged, or stand for far more than they hold, are refused."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import legos.files
from legos.errors import DataError
from legos.files import BoundedGzip, BoundedZlib
from legos.lm.token_vectors import text_file_token_vectors
from process.bad_lines import BadLines
from process.json_blocks import Lines
from process.json_blocks import read_blocks as read_json_blocks
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


def counted(lines: Lines, _: Any) -> tuple[int, bool]:
    return len(list(lines)), True


def by_lines(path: Path) -> object:
    return list(read_json_lines([path], "reading", bad=BadLines(1)))


def by_blocks(path: Path) -> object:
    return list(read_json_blocks([path], "reading", counted, BadLines(1)))


UNPACKERS = pytest.mark.parametrize("unpacker", sorted({BoundedZlib, BoundedGzip}, key=repr))
TEXT = b"".join(b'{"a": %d}\n' % (number * 7919 % 10_007) for number in range(3000))
WHOLE = gzip.compress(TEXT, mtime=0)
DAMAGED = {
    "cut short": WHOLE[: len(WHOLE) // 2],
    "without an end": WHOLE[:-8],
    "other bytes": WHOLE[:5000] + bytes(100) + WHOLE[5100:],
    "no such block": WHOLE[:10] + b"\xff" * 50 + WHOLE[10:],
    "another checksum": WHOLE[:-8] + bytes(4) + WHOLE[-4:],
    "another length": WHOLE[:-4] + bytes(4),
    "no gzip behind it": WHOLE + b"further",
    "another method": WHOLE[:2] + b"\x09" + WHOLE[3:],
}


@UNPACKERS
@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("read", [by_lines, by_blocks])
def test_damage_is_told_with_file_and_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unpacker: type[BoundedZlib],
    damage: str,
    read: Callable[[Path], object],
) -> None:
    monkeypatch.setattr("process.opening.BoundedGzip", unpacker)
    path = tmp_path / "a.json.gz"
    path.write_bytes(DAMAGED[damage])
    expected = (
        r"a\.json\.gz:\d+: the gzip file is damaged or cut short after line \d+ \(.+\); fetch"
    )
    with pytest.raises(DataError, match=expected):
        read(path)


@UNPACKERS
def test_several_members_and_empty_ones_are_one_text(
    tmp_path: Path, unpacker: type[BoundedZlib]
) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(WHOLE + gzip.compress(b"") + WHOLE + bytes(20))  # zeros may follow
    with path.open("rb") as raw:
        assert unpacker(path, raw).read() == TEXT * 2
    with path.open("rb") as raw:
        assert list(unpacker(path, raw)) == TEXT.splitlines(keepends=True) * 2


WITHOUT = """
import sys
sys.modules["isal"] = None
from legos.files import BoundedGzip, BoundedZlib
assert BoundedGzip is BoundedZlib
"""


def test_without_isal_zlib_unpacks() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)


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
