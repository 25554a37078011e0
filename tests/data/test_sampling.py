"""Negatives: what they may never be, where they come from, and that a draw has a name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from legos.data.batch import TrainingRows
from legos.data.interactions import Interactions
from legos.data.sampling import NegativeSampler, PairSet, _repeats
from tests.bricks import Impression, interactions, lists, needs_gpu, random_interactions

STRATEGIES = ("impression", "user", "uniform", "popularity")
EVERY_STRATEGY = pytest.mark.parametrize("strategy", STRATEGIES)


def sampler(data: Interactions, strategy: Any, *, num_items: int, count: int = 4, seed: int = 0):  # type: ignore[no-untyped-def]
    return NegativeSampler(data, num_items=num_items, strategy=strategy, count=count, seed=seed)


def draw_all(
    data: Interactions, strategy: str, *, num_items: int, passes: int = 3, **settings: int
) -> list[tuple[int, int, list[int]]]:
    """(impression, positive, valid negatives) of every row in a few passes."""
    rows = TrainingRows(data, sampler(data, strategy, num_items=num_items, **settings))
    drawn = []
    for number in range(passes):
        items, mask = rows.sampler.draw(
            rows.impressions, torch.arange(len(rows)), pass_number=number
        )
        for row, impression in enumerate(rows.impressions.tolist()):
            valid = items[row][mask[row]].tolist()
            drawn.append((impression, int(rows.positives[row]), valid))
    return drawn


@EVERY_STRATEGY
@pytest.mark.parametrize("num_items", [10, 14, 44])
def test_a_negative_is_nothing_the_user_chose_and_nothing_twice(
    strategy: str, num_items: int
) -> None:
    data = random_interactions(num_items=num_items, num_impressions=60)
    histories, shown = lists(data.histories), lists(data.candidates)
    labels = [part.tolist() for part in data.labels.split(data.candidates.lengths.tolist())]
    drawn = draw_all(data, strategy, num_items=num_items)
    assert sum(len(negatives) for _, _, negatives in drawn) > len(drawn)
    for impression, positive, negatives in drawn:
        read = histories[int(data.history_rows[impression])]
        pairs = zip(shown[impression], labels[impression], strict=True)
        clicked = [item for item, label in pairs if label == 1]
        assert positive in clicked
        assert not {positive, *read, *clicked} & set(negatives)
        assert len(set(negatives)) == len(negatives)
        assert all(0 <= item < num_items for item in negatives)


@EVERY_STRATEGY
def test_a_draw_is_named_by_seed_pass_and_row(strategy: str) -> None:
    data = random_interactions(num_impressions=60)
    draws = sampler(data, strategy, num_items=44)
    impressions, rows = torch.arange(60), torch.arange(1000, 1060)
    items, mask = draws.draw(impressions, rows, pass_number=1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:25]
    torch.manual_seed(4)
    again, again_mask = sampler(data, strategy, num_items=44).draw(
        impressions[order], rows[order], pass_number=1
    )
    assert torch.equal(again, items[order])
    assert torch.equal(again_mask, mask[order])
    for row in range(60):
        alone, _ = draws.draw(impressions[[row]], rows[[row]], pass_number=1)
        assert torch.equal(alone[0], items[row])


@EVERY_STRATEGY
def test_draws_differ_between_passes_seeds_and_rows(strategy: str) -> None:
    data = interactions([[]], [(0, 0, list(range(40)), [1] + [0] * 39)] * 30)
    impressions, rows = torch.arange(30), torch.arange(30)
    if strategy == "popularity":  # something besides the positive must be popular
        data = interactions([[]], [(0, 0, [n], [1]) for n in range(30)])
    first, _ = sampler(data, strategy, num_items=50).draw(impressions, rows, pass_number=0)
    for seed, number, shift in ((0, 1, 0), (1, 0, 0), (0, 0, 100)):
        other, _ = sampler(data, strategy, num_items=50, seed=seed).draw(
            impressions, rows + shift, pass_number=number
        )
        assert (other != first).float().mean() > 0.8


@needs_gpu
@EVERY_STRATEGY
def test_cpu_and_gpu_draw_the_same(strategy: str) -> None:
    data, rows = random_interactions(), torch.arange(30)
    items, mask = sampler(data, strategy, num_items=44).draw(rows, rows, pass_number=0)
    moved = sampler(data.to("cuda"), strategy, num_items=44)
    on_gpu, gpu_mask = moved.draw(rows.cuda(), rows.cuda(), pass_number=0)
    assert torch.equal(on_gpu.cpu(), items)
    assert torch.equal(gpu_mask.cpu(), mask)


def test_in_impression_negatives_come_from_the_impression_while_they_last() -> None:
    impressions: list[Impression] = [
        (0, 0, [1, 2, 3, 4, 3, 5, 6, 7], [0, 0, 1, 0, 0, 0, 0, 0]),  # enough: 6 beside the 3
        (0, 0, [8, 9, 2], [1, 0, 0]),  # two, then the catalogue
        (0, 1, [10, 11, 12, 13], [0, 1, 0, 0]),  # 12 was read: two
        (1, 0, [14, 14, 15, 15], [0, 0, 1, 0]),  # shown twice counts once; 15 was clicked
        (1, 0, [16], [1]),  # none
        (1, 0, [17, 18, 19], [-1, 1, 0]),  # unlabelled is not unclicked
    ]
    pools = [{1, 2, 4, 5, 6, 7}, {9, 2}, {10, 13}, {14}, set(), {19}]
    data = interactions([[], [12]], impressions)
    seen: list[set[int]] = [set() for _ in pools]
    for impression, _, negatives in draw_all(data, "impression", num_items=200, passes=40):
        pool = pools[impression]
        first = negatives[: min(4, len(pool))]
        assert set(first) <= pool
        assert not set(negatives[len(first) :]) & (pool - set(first)) or len(pool) > 4
        assert len(negatives) == 4
        seen[impression] |= set(first)
    assert seen == pools  # every unclicked item is drawn now and then


def _held_out_clicks() -> tuple[Interactions, list[list[int]]]:
    """40 users with 6 clicks each in train, and the two that each makes later."""
    numbers = torch.Generator().manual_seed(1)
    orders = [torch.randperm(30, generator=numbers).tolist() for _ in range(40)]
    impressions: list[Impression] = []
    histories = []
    for user, order in enumerate(orders):
        histories.append(order[:5])
        impressions.append((user, user, [order[5]], [1]))
    return interactions(histories, impressions), [order[6:8] for order in orders]


@EVERY_STRATEGY
def test_a_held_out_click_is_a_negative_as_often_as_any_other_item(strategy: str) -> None:
    data, later = _held_out_clicks()
    # impression and user have no pools here and fill up from the catalogue
    counts = torch.zeros(40, 30)
    weights = torch.ones(30)
    if strategy == "popularity":
        weights = torch.bincount(data.candidates.values, minlength=30).float()
    for impression, _, negatives in draw_all(data, strategy, num_items=30, passes=100, count=1):
        counts[impression, negatives] += 1
    allowed = torch.ones(40, 30)
    for impression, positive in enumerate(data.candidates.values.tolist()):
        allowed[impression, [positive, *lists(data.histories)[impression]]] = 0
    expected = 100 * allowed * weights / (allowed * weights).sum(1, keepdim=True)
    users = torch.arange(40)[:, None]
    held_out = torch.tensor(later)
    found, wanted = float(counts[users, held_out].sum()), float(expected[users, held_out].sum())
    assert wanted > 300
    assert abs(found - wanted) < 4 * wanted**0.5


@EVERY_STRATEGY
@given(seed=st.integers(0, 10_000), num_items=st.integers(1, 12), count=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_negatives_are_as_many_as_the_catalogue_allows(
    strategy: str, seed: int, num_items: int, count: int
) -> None:
    numbers = torch.Generator().manual_seed(seed)
    draw = lambda limit: int(torch.randint(0, limit, (), generator=numbers))  # noqa: E731
    histories = [torch.randperm(num_items, generator=numbers)[: draw(4)].tolist() for _ in range(4)]
    impressions: list[Impression] = []
    for _ in range(8):  # one item with nearly all the clicks
        shown = torch.randperm(num_items, generator=numbers)[: 1 + draw(3)].tolist()
        shown = [0, *(item for item in shown if item)] if draw(2) else shown
        impressions.append((draw(3), draw(4), shown, [1] + [0] * (len(shown) - 1)))
    data = interactions(histories, impressions)
    for impression, positive, negatives in draw_all(
        data, strategy, num_items=num_items, passes=2, count=count, seed=seed
    ):
        history = histories[impressions[impression][1]]
        free = num_items - len({positive, *history})
        assert len(set(negatives)) == len(negatives) == min(count, free)
        assert not {positive, *history} & set(negatives)


def test_what_the_catalogue_is_left_with_is_drawn_in_proportion_to_its_weight() -> None:
    clicks = {1: 4000, 2: 1, 3: 3}  # redraws alone would nearly always end at item 1
    impressions: list[Impression] = [(0, 0, [0], [1])]
    impressions += [(0, 0, [item], [1]) for item, count in clicks.items() for _ in range(count)]
    data = interactions([[]], impressions)
    chosen = sampler(data, "popularity", num_items=6, count=2)
    nobody = torch.zeros(4000, dtype=torch.int64)
    items, mask = chosen.draw(nobody, torch.arange(4000), pass_number=0)
    assert bool(mask.all())
    assert bool((items[:, 0] != items[:, 1]).all())
    second = torch.bincount(items.flatten(), minlength=6)
    assert second[[0, 4, 5]].tolist() == [0, 0, 0]  # there is no need for what nobody clicked
    assert abs(int(second[3]) - 3000) < 150
    everything, mask = sampler(data, "popularity", num_items=6, count=5).draw(
        nobody, torch.arange(4000), pass_number=0
    )
    assert bool(mask.all())
    assert everything.sort(1).values.unique(dim=0).tolist() == [[1, 2, 3, 4, 5]]


def test_user_level_negatives_are_what_training_showed_and_the_user_never_clicked() -> None:
    impressions: list[Impression] = [
        (0, 0, [1, 2, 3], [1, 0, 0]),
        (0, 0, [2, 4, 5], [1, 0, 0]),  # 2 was clicked here: no negative of user 0 anywhere
        (1, 0, [6, 7], [1, 0]),
        (0, 0, [8, 9], [-1, 0]),  # unlabelled is not unclicked
    ]
    data = interactions([[]], impressions)
    pools = {0: {3, 4, 5, 9}, 1: {7}}
    for impression, _, negatives in draw_all(data, "user", num_items=500, passes=30):
        pool = pools[impressions[impression][0]]
        first = negatives[: min(4, len(pool))]
        assert set(first) <= pool
        assert len(set(first)) == min(4, len(pool))
        assert len(negatives) == 4


def test_user_level_negatives_skip_what_the_history_holds_while_others_last() -> None:
    shown = [1, 2, 3, 4, 5, 6]
    data = interactions([[5, 6]], [(0, 0, shown, [1, 0, 0, 0, 0, 0])])
    drawn = [negatives for _, _, negatives in draw_all(data, "user", num_items=500, count=2)]
    drawn += [negatives for _, _, negatives in draw_all(data, "user", num_items=500, passes=50)]
    assert all(set(negatives[:2]) <= {2, 3, 4} for negatives in drawn)
    assert {item for negatives in drawn for item in negatives[:2]} == {2, 3, 4}
    assert not any({5, 6} & set(negatives) for negatives in drawn)


def _frequencies(data: Interactions, strategy: str, *, num_items: int, draws: int) -> Tensor:
    """How often each item is drawn, one negative a row, all for impression 0."""
    chosen = sampler(data, strategy, num_items=num_items, count=1)
    items, mask = chosen.draw(
        torch.zeros(draws, dtype=torch.int64), torch.arange(draws), pass_number=0
    )
    assert mask.all()
    return torch.bincount(items[:, 0], minlength=num_items)


def test_uniform_draws_each_allowed_item_equally_often() -> None:
    data = interactions([[4, 5]], [(0, 0, [0, 1], [1, 0])])
    counts = _frequencies(data, "uniform", num_items=20, draws=17_000)
    assert counts[[0, 4, 5]].tolist() == [0, 0, 0]
    allowed = counts[[item for item in range(20) if item not in (0, 4, 5)]]
    chi_square = float(((allowed - 1000.0) ** 2 / 1000.0).sum())
    assert chi_square < 39.3  # 0.1 % point of chi-square with 16 degrees of freedom


def test_popularity_draws_in_proportion_to_training_clicks() -> None:
    clicks = {0: 5, 1: 1, 2: 2, 3: 4, 4: 8, 6: 3}  # item 5 is shown but never clicked
    impressions: list[Impression] = [
        (0, 0, [item, 5], [1, 0]) for item, count in clicks.items() for _ in range(count)
    ]
    data = interactions([[6]], impressions)  # 0 is the click of impression 0, 6 was read
    counts = _frequencies(data, "popularity", num_items=9, draws=15_000)
    assert counts[[0, 5, 6, 7, 8]].tolist() == [0] * 5
    expected = 1000.0 * torch.tensor([1.0, 2.0, 4.0, 8.0])
    chi_square = float(((counts[1:5] - expected) ** 2 / expected).sum())
    assert chi_square < 16.3  # 0.1 % point of chi-square with 3 degrees of freedom


@EVERY_STRATEGY
def test_a_catalogue_that_is_too_small_masks_what_it_cannot_give(strategy: str) -> None:
    data = interactions([[1]], [(0, 0, [0, 2], [1, 0]), (0, 0, [2, 0], [1, 0])])
    rows = TrainingRows(data, sampler(data, strategy, num_items=3))
    items, mask = rows.sampler.draw(rows.impressions, torch.arange(2), pass_number=0)
    assert mask.sum(1).tolist() == [1, 1]  # of three items one was read and one clicked
    assert items[mask].tolist() == [2, 0]


@EVERY_STRATEGY
def test_where_nothing_is_allowed_all_is_masked(strategy: str) -> None:
    data = interactions([[1, 2]], [(0, 0, [0, 2], [1, 0])])
    rows = TrainingRows(data, sampler(data, strategy, num_items=3))
    batch = rows.batch(torch.tensor([0]), pass_number=0)
    assert batch.candidate_mask.tolist() == [[True] + [False] * 4]


def test_no_rows_draw_no_negatives() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    for strategy in STRATEGIES:
        items, mask = sampler(random_interactions(), strategy, num_items=44).draw(
            none, none, pass_number=0
        )
        assert items.shape == mask.shape == (0, 4)


def test_a_pair_set_knows_its_pairs() -> None:
    owners, items = torch.tensor([0, 2, 2]), torch.tensor([4, 0, 3])
    pairs = PairSet(owners, items, 5)
    expected = {(0, 4), (2, 0), (2, 3)}
    found = pairs.contains(torch.arange(4)[:, None], torch.arange(5).expand(4, 5))
    assert {tuple(pair) for pair in found.nonzero().tolist()} == expected
    empty = PairSet(owners[:0], items[:0], 5)
    assert not empty.contains(owners, items).any()


@pytest.mark.parametrize("count", [1, 15, 16, 40])
def test_a_repeat_is_what_an_earlier_slot_holds_however_many_there_are(count: int) -> None:
    items = torch.randint(0, 12, (50, count), generator=torch.Generator().manual_seed(count))
    expected = [[item in row[:slot] for slot, item in enumerate(row)] for row in items.tolist()]
    assert _repeats(items).tolist() == expected


def test_many_negatives_are_all_different_and_the_same_in_parts() -> None:
    data = random_interactions(num_items=60)
    draw = sampler(data, "uniform", num_items=60, count=40).draw
    rows = torch.arange(len(data))
    items, mask = draw(rows, rows, pass_number=2)
    assert mask.float().mean() > 0.9
    for own, real in zip(items, mask, strict=True):
        assert own[real].unique().numel() == int(real.sum())
    half = draw(rows[7:], rows[7:], pass_number=2)
    assert torch.equal(half[0], items[7:])
    assert torch.equal(half[1], mask[7:])
