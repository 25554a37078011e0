"""Lists end to end behave as python lists."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.data.ragged import (
    Ragged,
    aranges,
    from_lengths,
    from_owners,
    from_rows,
    join_rows,
    offsets_of,
    padded_aranges,
    stack,
)
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


BOTH = pytest.mark.parametrize("library", ["torch", "numpy"])


def array(values: list[Any], library: str, dtype: str = "int64") -> Any:
    found = np.array(values, dtype=dtype)
    return torch.from_numpy(found) if library == "torch" else found


def flat(rows: Iterable[list[int]]) -> list[int]:
    return [value for row in rows for value in row]


def column(rows: list[list[int]], library: str) -> Ragged[Any]:
    values = array([value for row in rows for value in row], library, "int32")
    return from_lengths(values, array([len(row) for row in rows], library))


def plain(rows: Ragged[Any]) -> list[list[int]]:
    assert isinstance(rows.values, np.ndarray) == isinstance(rows.offsets, np.ndarray)
    assert str(rows.offsets.dtype).endswith("int64")
    return [rows.row(number).tolist() for number in range(len(rows))]


@BOTH
@quick
@given(rows=ROWS)
def test_what_is_said_of_each_element(library: str, rows: list[list[int]]) -> None:
    given = column(rows, library)
    assert plain(given) == rows
    assert given.lengths.tolist() == [len(row) for row in rows]
    assert given.rows.tolist() == [number for number, row in enumerate(rows) for _ in row]
    assert given.positions.tolist() == [place for row in rows for place in range(len(row))]
    assert given.to_end.tolist() == [len(row) - place for row in rows for place in range(len(row))]
    names = array([10 * number for number in range(len(rows))], library)
    assert given.spread(names).tolist() == [10 * n for n, row in enumerate(rows) for _ in row]
    assert given.sums(given.values).tolist() == [sum(row) for row in rows]


@BOTH
@quick
@given(rows=ROWS, data=st.data())
def test_parts_of_rows_are_slices(library: str, rows: list[list[int]], data: st.DataObject) -> None:
    given, sizes = column(rows, library), data.draw(st.lists(st.integers(0, 7), min_size=8))
    own = array(sizes[: len(rows)], library)
    for length in (sizes[0], own):
        each = sizes if length is own else [sizes[0]] * len(rows)
        heads = [row[:size] for row, size in zip(rows, each, strict=False)]
        assert plain(given.head(length)) == heads
        tails = [
            row[len(row) - min(size, len(row)) :] for row, size in zip(rows, each, strict=False)
        ]
        assert plain(given.tail(length)) == tails
    odd = [[value for value in row if value % 2] for row in rows]
    assert plain(given.keep(given.values % 2 == 1)) == odd
    assert (
        given.head(1).values.dtype
        == given.keep(given.values > 0).values.dtype
        == given.values.dtype
    )


@BOTH
@quick
@given(rows=ROWS, data=st.data())
def test_rows_are_chosen_and_laid_together(
    library: str, rows: list[list[int]], data: st.DataObject
) -> None:
    given = column(rows, library)
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    assert plain(given.select(array(index, library))) == [rows[number] for number in index]
    mask = [number % 2 == 0 for number in range(len(rows))]
    assert plain(given.select(array(mask, library, "bool"))) == rows[::2]
    edges = sorted({0, len(rows), *index})
    together = [flat(rows[a:b]) for a, b in pairwise(edges)]
    assert plain(given.grouped(array(edges, library))) == together


@BOTH
@quick
@given(rows=ROWS, more=ROWS)
def test_columns_are_stacked_and_joined(
    library: str, rows: list[list[int]], more: list[list[int]]
) -> None:
    assert plain(stack([column(rows, library), column(more, library)])) == rows + more
    count = min(len(rows), len(more))
    parts = [rows[:count], more[:count], rows[:count]]
    wide = [*(column(part, library) for part in parts[:2]), column(parts[2], library)]
    wide[1] = Ragged(array(wide[1].values.tolist(), library, "int64"), wide[1].offsets)
    joined = join_rows(wide)
    assert plain(joined) == [flat(each) for each in zip(*parts, strict=True)]
    assert joined.values.dtype == wide[0].values.dtype


@BOTH
@quick
@given(lengths=st.lists(st.integers(0, 6), max_size=8), data=st.data())
def test_counting_rows(library: str, lengths: list[int], data: st.DataObject) -> None:
    starts = data.draw(st.lists(st.integers(-9, 9), min_size=len(lengths), max_size=len(lengths)))
    expected = [list(range(a, a + n)) for a, n in zip(starts, lengths, strict=True)]
    sizes, begins = array(lengths, library), array(starts, library)
    assert offsets_of(sizes).tolist() == [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    assert plain(aranges(begins, sizes)) == expected
    numbers, mask = padded_aranges(begins, sizes, 6)
    assert tuple(numbers.shape) == (len(lengths), 6)
    assert numbers[mask].tolist() == flat(expected)
    assert mask.tolist() == [[slot < n for slot in range(6)] for n in lengths]
    owners = [number for number, length in enumerate(lengths) for _ in range(length)]
    values = array(list(range(len(owners))), library)
    grouped = from_owners(values, array(owners, library), len(lengths))
    assert grouped.lengths.tolist() == lengths


@quick
@given(ROWS)
def test_rows_of_numpy_and_torch_share_their_memory(rows: list[list[int]]) -> None:
    arrays = from_rows([np.array(row, dtype=np.int32) for row in rows], "int32")
    assert arrays.values.dtype == np.int32
    tensors = arrays.tensors()
    assert plain(tensors) == plain(tensors.numpy()) == rows
    if tensors.values.numel():
        tensors.values[0] = -5
        assert arrays.values[0] == -5


def test_vectors_are_elements_too() -> None:
    vectors = from_lengths(torch.arange(12.0).view(6, 2), torch.tensor([1, 0, 3, 2]))
    tails = vectors.tail(1)
    assert tails.values.tolist() == [[0.0, 1.0], [6.0, 7.0], [10.0, 11.0]]
    joined = join_rows([tails, vectors])
    assert joined.row(2).tolist() == [[6.0, 7.0], *vectors.row(2).tolist()]


def test_readers_import_it_without_torch() -> None:
    code = "import sys, legos.data.ragged, process.ties; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
