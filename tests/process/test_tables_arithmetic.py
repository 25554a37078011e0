"""The bulk operations under the tables, against one-row-at-a-time Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.data.ragged import Ragged, RaggedArray, offsets_of, stack
from legos.data.spans import first_rows, split_at_spaces
from process import ties as lists_module
from process.ties import distinct

TEXT = st.text(st.characters(exclude_characters="\n\0", exclude_categories=("Cs",)), max_size=30)
ROWS = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=12)


def ragged(rows: list[list[int]]) -> RaggedArray:
    values = np.array([value for row in rows for value in row], dtype=np.int32)
    return Ragged(values, offsets_of(np.array([len(row) for row in rows], dtype=np.int64)))


def unpacked(lists: RaggedArray) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.values, lists.offsets[1:-1])][
        : len(lists.lengths)
    ]


@settings(max_examples=100, deadline=None)
@given(strings=st.lists(TEXT, max_size=12))
def test_cutting_at_spaces_equals_str_split(strings: list[str]) -> None:
    spans = split_at_spaces(np.array(strings, dtype=object))
    codes, names = spans.factorize()
    found = [
        [names[code] for code in codes[a:b]]
        for a, b in zip(spans.offsets[:-1], spans.offsets[1:], strict=True)
    ]
    assert found == [[word for word in text.split(" ") if word] for text in strings]
    words = [word for row in found for word in row]
    assert names == list(dict.fromkeys(words)), "numbered in order of first appearance"


def test_ids_that_share_their_first_bytes_are_told_apart() -> None:
    words = ["abcdefgh", "abcdefghi", "abcdefghij", "abcdefg", "abcdefghijklmnopq", "abcdefghi"]
    codes, names = split_at_spaces(np.array([" ".join(words)], dtype=object)).factorize()
    assert codes.tolist() == [0, 1, 2, 3, 4, 1]
    assert names == words[:5]


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 9))
def test_distinct_finds_the_equal_rows_of_a_group(rows: list[list[int]], seed: int) -> None:
    group = np.random.default_rng(seed).integers(0, 2, len(rows)).astype(np.int32)
    codes, first = distinct(ragged(rows), group)
    keys = [(g, tuple(row)) for g, row in zip(group.tolist(), rows, strict=True)]
    order = list(dict.fromkeys(keys))
    assert codes.tolist() == [order.index(key) for key in keys]
    assert first.tolist() == [keys.index(key) for key in order]


def test_a_hash_that_collides_is_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, seeds = lists_module._row_hashes, []

    def poor(lists: RaggedArray, group: np.ndarray, seed: int) -> np.ndarray:
        seeds.append(seed)
        hashes = honest(lists, group, seed)
        return np.zeros_like(hashes) if seed < 3 else hashes

    monkeypatch.setattr(lists_module, "_row_hashes", poor)
    codes, _ = distinct(ragged([[1, 2], [2, 1], [1, 2], []]), np.zeros(4, dtype=np.int32))
    assert codes.tolist() == [0, 1, 0, 2]
    assert seeds == [1, 2, 3]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS.filter(bool), data=st.data())
def test_take_keep_and_stack_equal_list_operations(
    rows: list[list[int]], data: st.DataObject
) -> None:
    lists = ragged(rows)
    order = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    assert unpacked(lists.select(np.array(order, dtype=np.int64))) == [rows[i] for i in order]
    mask = lists.values > 1
    assert unpacked(lists.keep(mask)) == [[v for v in row if v > 1] for row in rows]
    assert unpacked(stack([lists, lists])) == rows + rows


def test_first_rows_are_the_first_of_each_code() -> None:
    assert first_rows(np.array([0, 1, 0, 2, 1])).tolist() == [0, 1, 3]
    assert first_rows(np.zeros(0, dtype=np.int64)).tolist() == []
