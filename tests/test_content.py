"""Hashes of files: remembered, and never of what a file held before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import legos.content
from legos.content import content_of, content_of_all
from legos.files import sha256_of_file

LARGE = b"x" * 2**20


def old(path: Path, content: bytes) -> Path:
    """A file that was last changed an hour ago, as far as its own times say."""
    path.write_bytes(content)
    os.utime(path, ns=(1, path.stat().st_mtime_ns - 3_600_000_000_000))
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose bytes are read."""
    found: list[Path] = []

    def counted(path: Path) -> str:
        found.append(path)
        return sha256_of_file(path)

    monkeypatch.setattr(legos.content, "sha256_of_file", counted)
    monkeypatch.setattr(legos.content, "_SETTLED", -1.0)
    return found


def test_a_large_file_is_read_once(tmp_path: Path, read: list[Path]) -> None:
    path = old(tmp_path / "weights", LARGE)
    for _ in range(3):
        assert content_of(path, store=tmp_path / "store") == sha256_of_file(path)
    assert read == [path]


def test_other_bytes_of_the_same_length_and_time_are_another_content(
    tmp_path: Path, read: list[Path]
) -> None:
    path = old(tmp_path / "weights", LARGE)
    time = path.stat().st_mtime_ns
    before = content_of(path, store=tmp_path / "store")
    path.write_bytes(b"y" + LARGE[1:])
    os.utime(path, ns=(1, time))
    assert path.stat().st_mtime_ns == time
    assert content_of(path, store=tmp_path / "store") == sha256_of_file(path) != before


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(LARGE)
    content_of(tmp_path / "weights", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_what_lies_in_the_store_and_is_no_hash_is_not_believed(
    tmp_path: Path, read: list[Path]
) -> None:
    path, store = old(tmp_path / "weights", LARGE), tmp_path / "store"
    expected = content_of(path, store=store)
    (kept,) = store.iterdir()
    for damage in (b"", expected[:-1].encode(), b"\xff" * 64):
        kept.write_bytes(damage)
        assert content_of(path, store=store) == expected


def test_a_store_that_cannot_be_written_is_done_without(tmp_path: Path, read: list[Path]) -> None:
    path = old(tmp_path / "weights", LARGE)
    (tmp_path / "file").write_text("")
    assert content_of(path, store=tmp_path / "file") == sha256_of_file(path)


def test_the_content_of_files_has_their_names_and_not_their_folder(tmp_path: Path) -> None:
    for folder, names in (("a", "xy"), ("b", "xy"), ("c", "xz")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text("text")
    one, same, other = (content_of_all((tmp_path / name).iterdir()) for name in "abc")
    assert one == same != other
