"""Arrays and texts on disk are those in memory, and memory does not hold them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import legos.scratch
from legos.data.tokenizers import WordTokenizer
from legos.scratch import on_disk, pages, release, room, windows
from process.raw import Numbered
from process.spilled_texts import SpilledTexts, TextBlock

TEXTS = st.lists(st.tuples(st.text(max_size=9), st.text(max_size=3)), max_size=20)


@pytest.mark.slow
@given(TEXTS, st.data())
def test_texts_come_back_in_any_order(rows: list[tuple[str, str]], data: st.DataObject) -> None:
    texts, cut = SpilledTexts(("a", "b")), data.draw(st.integers(0, len(rows)))
    for part in (rows[:cut], rows[cut:]):
        texts.add(TextBlock([text.encode() for row in part for text in row]))
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)) if rows else []
    columns = texts.columns(np.array(wanted, dtype=np.int64))
    for number, name in enumerate(("a", "b")):
        expected = [rows[row][number] for row in wanted]
        if not any(expected):
            assert name not in columns
            continue
        column = columns[name]
        assert list(column) == expected
        assert column[1:] == expected[1:]
        assert column[::-2] == expected[::-2]
        assert column[-1] == expected[-1]


def test_parts_become_one_mapped_array() -> None:
    parts = [np.arange(5), np.arange(0), np.arange(7)[::2]]
    found = on_disk(iter(parts), np.int32)
    assert found.dtype == np.int32
    assert isinstance(found, np.memmap)
    assert found.tolist() == [0, 1, 2, 3, 4, 0, 2, 4, 6]
    assert on_disk(iter([]), np.int32).tolist() == []


def test_what_was_filled_stays_when_memory_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legos.scratch, "_WINDOW", 100)
    array = room((60, 3), np.int32)
    assert isinstance(array, np.memmap)
    assert not isinstance(room((10, 3), np.int32), np.memmap)
    array[:] = np.arange(180).reshape(60, 3)
    release(array)
    parts = list(windows(array.ravel()))
    assert [len(part) for part in parts] == [100, 80]
    assert np.concatenate(parts).tolist() == list(range(180))
    release(np.arange(3))


MEMORY = """
import numpy as np
from legos.scratch import on_disk, windows
part = np.arange(1 << 20)
values = on_disk((part for _ in range(24)), np.int64)
total = sum(int(each.sum()) for each in windows(values))
assert total == 24 * int(part.sum())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_a_walk_over_192_mib_takes_a_window_of_memory() -> None:
    ran = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 128 * 1024, "KiB, of which numpy takes some 40,000"


def test_pages_end_with_what_is_left() -> None:
    assert [list(page) for page in pages(range(5), 2)] == [[0, 1], [2, 3], [4]]


def test_numbers_are_names() -> None:
    names: Sequence[str] = Numbered(12)
    assert list(names) == [str(number) for number in range(1, 13)]
    assert (names[0], names[-1], names[9:]) == ("1", "12", ["10", "11", "12"])
    with pytest.raises(IndexError):
        names[12]


def test_tokens_of_pages_are_those_of_all_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{i % 7} and word{i % 5}" for i in range(50)]
    whole = WordTokenizer.of_texts([texts, ["more"]])
    expected = whole.encode(texts, "texts")
    monkeypatch.setattr("legos.data.tokenizers.PAGE", 8)
    monkeypatch.setattr(legos.scratch.pages, "__defaults__", (8,))
    paged = WordTokenizer.of_texts([texts, ["more"]])
    assert paged.vocabulary == whole.vocabulary
    found = paged.encode(texts, "texts")
    assert isinstance(found.values, np.memmap)
    assert found.values.tolist() == expected.values.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
