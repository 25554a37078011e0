"""A batch holds every distinct item once and everything else as positions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.data.batch import Batch, TrainingRows, distinct_items
from legos.data.sampling import NegativeSampler
from legos.errors import DataError
from tests.bricks import Impression, interactions, quick, random_interactions

HISTORIES = [[], [3, 8, 5], [9]]
IMPRESSIONS: list[Impression] = [
    (7, 1, [1, 2, 4], [0, 1, 0]),
    (2, 0, [6, 0], [0, 0]),  # no click: no training row
    (4, 2, [2, 0, 6], [1, 0, 1]),  # two clicks: two rows
    (2, 0, [11, 10], [0, 1]),
]


def training_rows(*, strategy: str = "impression", count: int = 2, seed: int = 0) -> TrainingRows:
    data = interactions(HISTORIES, IMPRESSIONS)
    sampler = NegativeSampler(data, num_items=12, strategy=strategy, count=count, seed=seed)
    return TrainingRows(data, sampler)


def ids(batch: Batch, positions: torch.Tensor) -> list[list[int]]:
    return batch.items[positions].tolist()


def test_there_is_one_row_a_click() -> None:
    rows = training_rows()
    assert len(rows) == 4
    assert rows.positives.tolist() == [2, 2, 6, 10]
    assert rows.impressions.tolist() == [0, 2, 2, 3]


def test_a_batch_holds_what_the_impressions_say() -> None:
    batch = training_rows().batch(torch.tensor([0, 3, 1]), pass_number=0)
    assert len(batch) == 3
    assert batch.rows.tolist() == [0, 3, 1]
    assert batch.users.tolist() == [7, 2, 4]
    candidates = ids(batch, batch.candidates)
    assert [row[0] for row in candidates] == [2, 10, 2]
    assert set(candidates[0][1:]) == {1, 4}
    assert candidates[1][1] == 11
    assert candidates[2][1] == 0
    assert batch.candidate_mask.all()
    assert batch.labels.tolist() == [[1.0, 0.0, 0.0]] * 3
    assert batch.history_mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert ids(batch, batch.history)[0] == [3, 8, 5]
    assert ids(batch, batch.history)[2][0] == 9
    assert batch.history[~batch.history_mask].eq(0).all()
    read, shown = batch.items[batch.history[batch.history_mask]], torch.tensor(candidates)
    assert batch.items.tolist() == sorted({*read.tolist(), *shown.flatten().tolist()})


def test_padded_history_slots_bring_no_item_into_the_batch() -> None:
    batch = training_rows(count=1).batch(torch.tensor([3]), pass_number=0)  # nothing read
    assert batch.items.tolist() == [10, 11]
    assert not batch.history_mask.any()


def test_a_row_is_the_same_in_any_batch() -> None:
    data = random_interactions()
    sampler = NegativeSampler(data, num_items=44, strategy="user", count=3, seed=1)
    rows = TrainingRows(data, sampler)
    together = rows.batch(torch.arange(len(rows)), pass_number=2)
    for row in range(len(rows)):
        alone = rows.batch(torch.tensor([row]), pass_number=2)
        assert ids(alone, alone.candidates)[0] == ids(together, together.candidates)[row]
        read = alone.items[alone.history[alone.history_mask]]
        assert torch.equal(read, together.items[together.history[row][together.history_mask[row]]])


def test_a_split_without_clicks_cannot_train() -> None:
    data = interactions([[]], [(0, 0, [1, 2], [0, 0])], split="train")
    sampler = NegativeSampler(data, num_items=3, strategy="uniform", count=1, seed=0)
    with pytest.raises(DataError, match="split 'train' has no click to train on"):
        TrainingRows(data, sampler)


ITEMS = st.integers(0, 6)


@quick
@given(st.lists(st.tuples(st.lists(ITEMS, max_size=3), ITEMS, ITEMS), min_size=1, max_size=5))
def test_distinct_items_are_the_set_of_what_occurs(
    rows: list[tuple[list[int], int, int]],
) -> None:
    width = max(1, *(len(read) for read, _, _ in rows)) if len(rows) > 1 else len(rows[0][0]) or 1
    history = torch.tensor([read + [99] * (width - len(read)) for read, _, _ in rows])
    mask = torch.tensor([[slot < len(read) for slot in range(width)] for read, _, _ in rows])
    candidates = torch.tensor([[first, second] for _, first, second in rows])
    items, placed, shown = distinct_items(history, mask, candidates)
    occurring = {item for read, first, second in rows for item in [*read, first, second]}
    assert items.tolist() == sorted(occurring)
    assert torch.equal(items[placed][mask], history[mask])
    assert torch.equal(items[shown], candidates)
    assert not placed[~mask].any()


def test_negatives_drawn_at_once_are_those_drawn_batch_by_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = torch.tensor([3, 0, 2])
    at_once = [training_rows().batch(order, pass_number=number) for number in (0, 1)]
    monkeypatch.setattr("legos.data.batch._MOST_DRAWN_AT_ONCE", 0)
    for number, batch in enumerate(at_once):
        each = training_rows().batch(order, pass_number=number)
        assert torch.equal(batch.items[batch.candidates], each.items[each.candidates])
        assert torch.equal(batch.candidate_mask, each.candidate_mask)
    first, second = (batch.items[batch.candidates] for batch in at_once)
    assert not torch.equal(first, second)
