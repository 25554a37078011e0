"""Lists end to end behave as python lists."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.data.ragged import Ragged
from tests.bricks import lists, quick, ragged

ROWS = st.lists(st.lists(st.integers(1, 99), max_size=6), max_size=8)


@quick
@given(ROWS)
def test_rows_and_lengths_are_those_of_the_lists(rows: list[list[int]]) -> None:
    column = ragged(rows)
    assert len(column) == len(rows)
    assert column.lengths.tolist() == [len(row) for row in rows]
    assert column.rows.tolist() == [number for number, row in enumerate(rows) for _ in row]
    assert lists(column) == rows


@quick
@given(ROWS, st.integers(0, 7))
def test_head_and_tail_are_slices(rows: list[list[int]], length: int) -> None:
    column = ragged(rows)
    assert lists(column.head(length)) == [row[:length] for row in rows]
    assert lists(column.tail(length)) == [row[max(0, len(row) - length) :] for row in rows]


@quick
@given(ROWS.filter(len), st.data())
def test_select_takes_rows_in_the_order_asked(rows: list[list[int]], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    chosen = ragged(rows).select(torch.tensor(index, dtype=torch.int64))
    assert lists(chosen) == [rows[number] for number in index]


@quick
@given(ROWS.filter(len), st.integers(1, 7), st.data())
def test_padded_tail_keeps_the_newest_and_masks_the_rest(
    rows: list[list[int]], length: int, data: st.DataObject
) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    values, mask = ragged(rows).padded_tail(torch.tensor(index, dtype=torch.int64), length)
    kept = [rows[number][-length:] for number in index]
    width = max([1, *(len(row) for row in kept)])
    assert values.shape == mask.shape == (len(index), width)
    assert values.tolist() == [row + [0] * (width - len(row)) for row in kept]
    assert mask.tolist() == [[slot < len(row) for slot in range(width)] for row in kept]


def test_slices_leave_the_column_as_it_was() -> None:
    column = ragged([[1, 2, 3], [], [4, 5]])
    values, _ = column.padded_tail(torch.tensor([0, 2]), 2)
    values.fill_(-1)
    column.tail(1).values.fill_(-1)
    column.select(torch.tensor([0, 1, 2])).values.fill_(-1)
    assert lists(column) == [[1, 2, 3], [], [4, 5]]


def test_a_column_of_nothing_but_empty_lists_pads_to_one_masked_slot() -> None:
    values, mask = ragged([[], []]).padded_tail(torch.tensor([1, 0, 1]), 4)
    assert values.tolist() == [[0], [0], [0]]
    assert not mask.any()


def test_dtype_of_the_values_is_kept() -> None:
    column = Ragged(torch.tensor([1, 2, 3], dtype=torch.int32), torch.tensor([0, 1, 3]))
    assert column.select(torch.tensor([1])).values.dtype == torch.int32
    assert column.tail(1).values.dtype == torch.int32
    assert column.to("cpu").padded_tail(torch.tensor([0]), 1)[0].dtype == torch.int32
