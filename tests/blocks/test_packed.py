"""Segment operations against loops, joined fields against python lists."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from legos.blocks.packed import (
    concatenate,
    gather,
    last_of_each,
    one_token_each,
    pack,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    without_padding,
)
from tests.bricks import quick, ragged

LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=7)


def segments(lengths: list[int], *, size: int = 3) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Values ``(P, D)`` float64, rows, offsets, and the values of each item."""
    values = torch.randn(sum(lengths), size, dtype=torch.float64)
    column = ragged([[0] * length for length in lengths])
    return values, column.rows, column.offsets, list(values.split(lengths))


def test_gather_is_indexing_with_the_same_gradient() -> None:
    values = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([3, 0, 3, 3])
    weights = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(gather(values, index), values[index])
    (found,) = torch.autograd.grad((gather(values, index) * weights).sum(), values)
    (expected,) = torch.autograd.grad((values[index] * weights).sum(), values)
    torch.testing.assert_close(found, expected)


@quick
@given(LENGTHS)
def test_segment_operations_equal_loops(lengths: list[int]) -> None:
    values, rows, offsets, parts = segments(lengths)
    zero = torch.zeros(3, dtype=torch.float64)
    total = torch.stack([part.sum(0) for part in parts])
    mean = torch.stack([part.mean(0) if len(part) else zero for part in parts])
    highest = torch.stack([part.amax(0) if len(part) else zero for part in parts])
    torch.testing.assert_close(segment_sum(values, rows, len(lengths)), total)
    torch.testing.assert_close(segment_mean(values, rows, offsets), mean)
    torch.testing.assert_close(segment_max(values, rows, offsets), highest)
    weights = torch.cat([part[:, 0].softmax(0) for part in parts])
    torch.testing.assert_close(segment_softmax(values[:, 0], rows, len(lengths)), weights)


def test_segment_softmax_survives_huge_scores_and_has_the_gradient_of_softmax() -> None:
    scores = torch.tensor([1e4, 1e4 - 1, -1e4, 3.0], dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([0, 0, 0, 2])
    weights = segment_softmax(scores, rows, 3)
    expected = torch.cat([scores[:3].softmax(0), scores[3:].softmax(0)])
    torch.testing.assert_close(weights, expected)
    factor = torch.tensor([1.0, -2.0, 3.0, 4.0], dtype=torch.float64)
    (found,) = torch.autograd.grad((weights * factor).sum(), scores, retain_graph=True)
    (wanted,) = torch.autograd.grad((expected * factor).sum(), scores)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("operation", [segment_mean, segment_max])
def test_gradients_of_pooled_segments_equal_loops(operation) -> None:  # type: ignore[no-untyped-def]
    values, rows, offsets, _ = segments([2, 0, 4, 1])
    values.requires_grad_()
    reduce = {segment_mean: torch.mean, segment_max: torch.amax}[operation]
    looped = [reduce(part, 0) for part in values.split([2, 4, 1])]
    weights = torch.randn(4, 3, dtype=torch.float64)
    (found,) = torch.autograd.grad((operation(values, rows, offsets) * weights).sum(), values)
    (wanted,) = torch.autograd.grad((torch.stack(looped) * weights[[0, 2, 3]]).sum(), values)
    torch.testing.assert_close(found, wanted)


FIELD = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=3, max_size=3)


@quick
@given(st.lists(FIELD, min_size=1, max_size=4))
def test_concatenate_joins_the_lists_of_each_item(fields: list[list[list[int]]]) -> None:
    tables = [torch.randn(5, 2, dtype=torch.float64) for _ in fields]
    parts = []
    for rows, table in zip(fields, tables, strict=True):
        column = ragged(rows)
        parts.append(pack(column, table, column.values))
    joined = concatenate(parts)
    expected = [
        [table[token] for rows, table in zip(fields, tables, strict=True) for token in rows[item]]
        for item in range(3)
    ]
    assert joined.num_items == 3
    assert joined.offsets.diff().tolist() == [len(row) for row in expected]
    assert joined.rows.tolist() == [item for item, row in enumerate(expected) for _ in row]
    flat = [vector for row in expected for vector in row]
    assert torch.equal(joined.vectors, torch.stack(flat) if flat else joined.vectors[:0])
    assert joined.vectors.shape[0] == len(flat)


def test_one_token_each_joins_behind_a_text() -> None:
    text = ragged([[0, 1], [], [1]])
    words, categories = torch.randn(2, 4), torch.randn(3, 4)
    joined = concatenate([pack(text, words, text.values), one_token_each(categories)])
    expected = torch.stack([words[0], words[1], categories[0], categories[1], words[1]])
    assert torch.equal(joined.vectors, torch.cat([expected, categories[2:]]))
    assert joined.rows.tolist() == [0, 0, 0, 1, 2, 2]


def test_map_runs_once_per_distinct_token() -> None:
    text, seen = ragged([[0, 1, 1], [1, 0]]), []

    def double(vectors: Tensor) -> Tensor:
        seen.append(vectors.shape[0])
        return 2 * vectors

    tokens = pack(text, torch.randn(2, 4), text.values)
    assert torch.equal(tokens.map(double).vectors, 2 * tokens.vectors)
    assert seen == [2]


def test_padded_vectors_as_packed_tokens_and_the_last_of_each() -> None:
    values = torch.arange(12.0).view(3, 2, 2)
    mask = torch.tensor([[False, True], [False, False], [True, True]])
    tokens = without_padding(values, mask)
    assert tokens.vectors.tolist() == [[2, 3], [8, 9], [10, 11]]
    assert tokens.offsets.tolist() == [0, 1, 1, 3]
    assert tokens.rows.tolist() == [0, 2, 2]
    assert last_of_each(tokens.vectors, tokens.offsets).tolist() == [[2, 3], [0, 0], [10, 11]]
