from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.bricks import ragged

lists = st.lists(st.lists(st.integers(1, 99), max_size=6), min_size=1, max_size=8)


def python(column: object) -> list[list[int]]:
    return [
        column.values[column.offsets[row] : column.offsets[row + 1]].tolist()
        for row in range(len(column))
    ]


@given(lists, st.integers(1, 7), st.data())
def test_slices_and_selections_equal_those_of_python_lists(
    rows: list[list[int]], length: int, data: st.DataObject
) -> None:
    column = ragged(rows)
    assert python(column) == rows
    assert column.lengths.tolist() == [len(row) for row in rows]
    assert column.rows.tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert python(column.head(length)) == [row[:length] for row in rows]
    assert python(column.tail(length)) == [row[-length:] for row in rows]
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9))
    chosen = torch.tensor(index, dtype=torch.int64)
    assert python(column.select(chosen)) == [rows[i] for i in index]


@given(lists, st.integers(1, 7))
def test_padded_tail_holds_the_newest_elements_and_a_mask(
    rows: list[list[int]], length: int
) -> None:
    values, mask = ragged(rows).padded_tail(torch.arange(len(rows)), length)
    assert values.shape == mask.shape
    assert values.shape[1] == max(1, *(min(len(row), length) for row in rows), 1)
    assert [v[m].tolist() for v, m in zip(values, mask, strict=True)] == [
        row[-length:] for row in rows
    ]
    assert not values[~mask].any()
