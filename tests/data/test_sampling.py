from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from legos.data.batch import TrainingRows, distinct_items
from legos.data.interactions import Interactions
from legos.data.sampling import NegativeSampler, Strategy
from legos.errors import DataError
from tests.bricks import ITEMS, ragged
from tests.interactions import make_interactions

STRATEGIES: tuple[Strategy, ...] = ("impression", "user", "uniform", "popularity")
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def rows_of(
    data: Interactions, strategy: Strategy, *, count: int = 4, seed: int = 1, items: int = ITEMS
) -> TrainingRows:
    sampler = NegativeSampler(data, num_items=items, strategy=strategy, count=count, seed=seed)
    return TrainingRows(data, sampler)


def draw(rows: TrainingRows, which: Tensor | None = None, pass_number: int = 0) -> tuple:
    which = torch.arange(len(rows)) if which is None else which
    return rows.sampler.draw(rows.impressions[which], which, pass_number=pass_number)


def content(data: Interactions, impression: int) -> tuple[set[int], set[int], set[int]]:
    """Clicked, not clicked and read items of an impression."""
    span = slice(data.candidates.offsets[impression], data.candidates.offsets[impression + 1])
    shown, labels = data.candidates.values[span], data.labels[span]
    state = data.histories.select(data.history_rows[impression : impression + 1]).values
    return set(shown[labels == 1].tolist()), set(shown[labels == 0].tolist()), set(state.tolist())


@every_strategy
@pytest.mark.parametrize("count", [1, 4, 9])
def test_negatives_are_never_clicked_read_or_repeated(strategy: Strategy, count: int) -> None:
    data = make_interactions(seed=3)
    rows = rows_of(data, strategy, count=count)
    negatives, mask = draw(rows)
    assert mask.any()
    for row, impression in enumerate(rows.impressions.tolist()):
        clicked, _, read = content(data, impression)
        drawn = negatives[row][mask[row]].tolist()
        assert len(set(drawn)) == len(drawn)
        assert not set(drawn) & (clicked | read)


def test_in_impression_negatives_come_from_the_impression_while_they_last() -> None:
    data = make_interactions(seed=4)
    rows = rows_of(data, "impression", count=6)
    negatives, mask = draw(rows)
    assert mask.all()
    for row, impression in enumerate(rows.impressions.tolist()):
        clicked, others, read = content(data, impression)
        pool = others - read - clicked
        inside = [item for item in negatives[row].tolist() if item in pool]
        assert len(inside) >= min(6, len(pool))


def test_user_level_negatives_are_what_the_user_was_shown_and_never_clicked() -> None:
    data = make_interactions(seed=5)
    rows = rows_of(data, "user", count=3)
    negatives, _ = draw(rows)
    for row, impression in enumerate(rows.impressions.tolist()):
        own = [i for i in range(len(data)) if data.users[i] == data.users[impression]]
        clicked = set().union(*(content(data, i)[0] for i in own))
        shown = set().union(*(content(data, i)[1] for i in own))
        pool = shown - clicked - content(data, impression)[2]
        assert len(pool) < 3 or set(negatives[row].tolist()) <= shown - clicked


@every_strategy
def test_draws_are_named_by_seed_pass_and_row_not_by_the_batch(strategy: Strategy) -> None:
    data = make_interactions(seed=6)
    rows = rows_of(data, strategy)
    whole, _ = draw(rows)
    which = torch.tensor([17, 3, 3, 30])
    assert torch.equal(draw(rows, which)[0], whole[which])
    assert torch.equal(draw(rows_of(data, strategy))[0], whole)
    assert not torch.equal(draw(rows, pass_number=1)[0], whole)
    assert not torch.equal(draw(rows_of(data, strategy, seed=2))[0], whole)


def one_click_each(clicks: list[int], items: int) -> Interactions:
    """Impressions with a click and no history, so that nothing else is forbidden."""
    count = len(clicks)
    data = make_interactions(count)
    return replace(
        data,
        users=torch.arange(count),
        history_rows=torch.zeros(count, dtype=torch.int64),
        histories=ragged([[]]),
        history_users=torch.zeros(1, dtype=torch.int64),
        candidates=ragged([[item] for item in clicks]),
        labels=torch.ones(count, dtype=torch.int8),
    )


def test_uniform_negatives_are_uniform_and_popular_ones_follow_clicks() -> None:
    clicks = [0] * 6000 + [1] * 3000 + [2] * 1000
    data = one_click_each(clicks, 10)
    first = torch.arange(6000, 10_000)  # rows whose click is not item 0
    uniform, _ = draw(rows_of(data, "uniform", count=1, items=10), first)
    share = torch.bincount(uniform[:3000, 0], minlength=10) / 3000  # click: item 1
    assert share[1] == 0
    assert ((share[share > 0] - 1 / 9).abs() < 0.03).all()
    popular, _ = draw(rows_of(data, "popularity", count=1, items=10), first)
    share = torch.bincount(popular[:3000, 0], minlength=10) / 3000
    assert abs(float(share[0]) - 6 / 7) < 0.03
    assert abs(float(share[2]) - 1 / 7) < 0.03


def test_a_catalogue_too_small_masks_what_it_cannot_give() -> None:
    data = one_click_each([0, 1, 2], 3)
    negatives, mask = draw(rows_of(data, "uniform", count=4, items=3))
    assert mask.sum(1).tolist() == [2, 2, 2]
    for row, kept in enumerate(mask):
        assert set(negatives[row][kept].tolist()) == {0, 1, 2} - {row}


def test_a_batch_holds_each_distinct_item_once_and_positions_into_them() -> None:
    data = make_interactions(seed=8)
    rows = rows_of(data, "impression")
    which = torch.tensor([0, 5, 9])
    batch = rows.batch(which, pass_number=0)
    assert batch.items.tolist() == sorted(set(batch.items.tolist()))
    assert torch.equal(batch.items[batch.candidates[:, 0]], rows.positives[which])
    negatives, _ = draw(rows, which)
    assert torch.equal(batch.items[batch.candidates[:, 1:]], negatives)
    assert batch.labels[:, 0].eq(1).all()
    assert not batch.labels[:, 1:].any()
    used = set()
    for place, row in enumerate(which.tolist()):
        state = data.histories.select(data.history_rows[rows.impressions[row : row + 1]])
        read = batch.items[batch.history[place]][batch.history_mask[place]].tolist()
        assert read == state.values.tolist()
        used |= set(read) | set(batch.items[batch.candidates[place]].tolist())
    assert used == set(batch.items.tolist())
    assert torch.equal(batch.users, data.users[rows.impressions[which]])


def test_distinct_items_ignores_what_is_under_the_mask() -> None:
    history = torch.tensor([[7, 99], [7, 3]])
    mask = torch.tensor([[True, False], [True, True]])
    items, placed, candidates = distinct_items(history, mask, torch.tensor([[3], [5]]))
    assert items.tolist() == [3, 5, 7]
    assert placed.tolist() == [[2, 0], [2, 0]]
    assert candidates.tolist() == [[0], [1]]


def test_a_split_without_clicks_is_refused() -> None:
    data = make_interactions()
    silent = replace(data, labels=torch.zeros_like(data.labels))
    with pytest.raises(DataError, match="split 'train' has no click to train on"):
        rows_of(silent, "uniform")
