"""The reader of blocks sees what the reader of lines sees, and stops where it stops."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.errors import DataError
from process.amazon.reviews import read_reviews
from process.bad_lines import BadLine, BadLines
from process.json_blocks import Lines, lines_with_long_numbers, read_blocks
from process.json_lines import read_json_lines
from tests.process.amazon.amazon_files import review_2014, review_2023, write_json_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5)
    | st.integers() | st.integers(-(10**25), 10**25),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)
ODD = (
    b'{"a": 1e400}', b'{"a": -0}', b'{"a": 123456789012345678901234567890}', b'{"a": "\\ud83d"}',
    b'{"a": "\\ud83d\\ude00"}', b'{"a": 1, "a": 2}', b"\xef\xbb\xbf{}", b"{'a': None, 'b': (1,)}",
    b"[1]", b"7", b"null", b"{broken", b"", b"  \t", b'{"a": "\xff"}', b'{"a": 1}\r', b"\x0b{}",
    b'{"a": 18446744073709551616, "b": -9223372036854775809}', b'{"a":"\x00"}', b"'a'", b"[" * 2000,
    b'{"a": 0.1e-400, "b": 1E2, "c": 12345678901234567.0}', b'{"a": 1234567890123456789012.5}',
)  # fmt: skip
LINES = (
    OBJECTS.map(lambda row: json.dumps(row).encode())
    | OBJECTS.map(lambda row: json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | OBJECTS.map(lambda row: repr(row).encode("utf-8", "surrogatepass"))
    | st.sampled_from(ODD)
    | st.binary(max_size=8).map(lambda text: text.replace(b"\n", b""))
)


def objects(lines: Lines, kind: Any) -> tuple[list[str], bool]:
    """Every object with its place and hash; those that say so are bad."""
    found = []
    for row in lines:
        if "bad" in row.values:
            lines.refuse(BadLine(row.at, "said so", "it says so"))
        else:
            found.append(repr((row.at, row.values, row.content)))
    return found, True


def lengths(lines: Lines, kind: Any) -> tuple[list[tuple[int, bytes]], bool]:
    """Of every text, with ten times as many bytes."""
    return [(len(row.values["a"]), bytes(10 * len(row.values["a"]))) for row in lines], True


def by_lines(path: Path, bad: BadLines, python_too: bool) -> list[str]:
    found = []
    for row in read_json_lines([path], "x", python_too=python_too, bad=bad):
        if "bad" in row.values:
            bad.add(BadLine(row.at, "said so", "it says so"))
        else:
            found.append(repr((row.at, row.values, row.content)))
    return found


def outcome(read: Any, path: Path, python_too: bool) -> tuple[Any, ...]:
    """All that a reader gives, counts and says."""
    bad = BadLines(0.5)
    try:
        found = read(path, bad, python_too)
    except DataError as error:
        found = str(error)
    return found, bad.lines, bad.kinds, bad.notes, {k: str(e) for k, e in bad.first.items()}


def agree(content: bytes, block: int, processes: int, python_too: bool) -> None:
    def by_blocks(path: Path, bad: BadLines, python_too: bool) -> list[str]:
        parts = read_blocks(
            [path], "x", objects, bad, python_too=python_too, processes=processes, block=block
        )
        return [row for part in parts for row in part]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.json"
        path.write_bytes(content)
        expected = outcome(by_lines, path, python_too)
        assert outcome(by_blocks, path, python_too) == expected


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(LINES, max_size=30), st.integers(1, 200), st.booleans(), st.booleans())
def test_blocks_of_any_size_give_what_lines_give(
    lines: list[bytes], block: int, python_too: bool, ended: bool
) -> None:
    agree(b"\n".join(lines) + b"\n" * ended, block, 1, python_too)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(LINES, min_size=4, max_size=30), st.integers(1, 100), st.booleans())
def test_two_processes_give_what_one_gives(
    lines: list[bytes], block: int, python_too: bool
) -> None:
    agree(b"{}\n" + b"\n".join(lines), block, 2, python_too)


DIGITS = st.sampled_from(["1", "0123456789", "1" * 17, "1" * 20, ":", "x", "\n"])


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(DIGITS, max_size=30))
def test_numbers_that_a_parser_may_round_are_found_wherever_they_are(parts: list[str]) -> None:
    lines = "".join(parts).split("\n")
    expected = {number for number, line in enumerate(lines) if re.search("[0-9]{19}", line)}
    assert lines_with_long_numbers("\n".join(lines).encode()) == expected


def test_blocks_and_results_larger_than_the_shared_memory_arrive(tmp_path: Path) -> None:
    rows = [{"a": "x" * size} for size in (1, 10, 2_000_000, 10, 20)]
    path = write_json_lines(tmp_path / "lines.json", rows)
    parts = list(read_blocks([path], "x", lengths, BadLines(), processes=2, block=100_000))
    assert [length for part in parts for length, _ in part] == [1, 10, 2_000_000, 10, 20]


@pytest.mark.parametrize("processes", [1, 2])
def test_too_many_bad_lines_stop_both_readers_at_the_same_line(processes: int) -> None:
    agree(b'{"bad": 1}\n' * 40, 50, processes, False)
    agree(b"{}\n" * 5 + b"[1]\n" * 20_001, 1000, processes, False)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_cut_file_is_told_after_what_stands_before_the_cut(
    tmp_path: Path, processes: int
) -> None:
    rows = (json.dumps(review_2014(f"u{i}", "a", 5, i * i)) for i in range(5000))
    whole = gzip.compress("\n".join(rows).encode())
    path = tmp_path / "lines.json.gz"
    path.write_bytes(whole[: len(whole) // 2])
    bad = BadLines()
    parts = read_blocks([path], "x", objects, bad, processes=processes, block=10_000)
    with pytest.raises(DataError, match=r"lines\.json\.gz:\d+: .*cut short after line") as told:
        list(parts)
    last = int(str(told.value).split("after line ")[1].split()[0])
    assert bad.lines == last > 1000


def test_reviews_do_not_depend_on_blocks_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [review_2014(f"u{i % 7}", f"i{i % 11}", 1 + i % 5, i, reviewText=f"é {i}" * i)
            for i in range(50)]  # fmt: skip
    others = [review_2023(f"u{i % 9}", f"j{i % 5}", 4.0, i) for i in range(20)]
    paths = [write_json_lines(tmp_path / "a.json", rows), write_json_lines(tmp_path / "b", others)]
    whole = read_reviews(paths, BadLines())
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    defaults = {**(read_blocks.__kwdefaults__ or {}), "block": 300}
    monkeypatch.setattr(read_blocks, "__kwdefaults__", defaults)
    parts = read_reviews(paths, BadLines())
    assert whole.oddities == parts.oddities
    assert whole.texts is not None
    assert parts.texts is not None
    for name in ("user_ids", "item_ids"):
        assert getattr(whole.interactions, name) == getattr(parts.interactions, name)
    for name in ("user", "item", "rating", "time", "place", "content"):
        assert (getattr(whole.interactions, name) == getattr(parts.interactions, name)).all()
    columns = [found.texts.columns(found.interactions.place) for found in (whole, parts)]
    assert [list(column) for column in columns[0].values()] == [
        list(column) for column in columns[1].values()
    ]
    assert columns[0]["review"][49] == f"é {49}" * 49
    assert columns[0]["review"][-1] == "u1 on j4."
    assert columns[0]["headline"][1:4] == ["about i1", "about i2", "about i3"]


KILLED = """
import os, signal, sys
from pathlib import Path
from process.bad_lines import BadLines
from process.json_blocks import read_blocks

def parse(lines, kind):
    list(lines)
    return os.getpid(), True

parts = read_blocks([Path(sys.argv[1])], "x", parse, BadLines(), processes=2, block=1000)
print(*{next(parts) for _ in range(20)} - {os.getpid()}, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_no_process_outlives_a_killed_reader(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_bytes(b'{"a": 1}\n' * 50_000)
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    workers = [int(number) for number in ran.stdout.split()]
    assert workers
    until = time.monotonic() + 60
    while any(psutil.pid_exists(worker) for worker in workers):
        assert time.monotonic() < until, "a worker is still there"
        time.sleep(0.1)
