"""Items drawn by their labels: of what training showed, a function of seed and step."""

from __future__ import annotations

import torch

from legos.data.batch import TrainingRows
from legos.data.labelled_rows import LabelDraws, LabelledRows
from legos.data.sampling import NegativeSampler
from tests.bricks import NUM_ITEMS, random_interactions

LABELS = torch.tensor([0, 1, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4])
KNOWN = torch.tensor([True] * 11 + [False])


def draws(*, classes: int = 2, samples: int = 3, seed: int = 1) -> LabelDraws:
    return LabelDraws(LABELS, KNOWN, classes=classes, samples=samples, seed=seed)


def test_a_draw_has_known_items_of_labels_with_several_each_item_once() -> None:
    seen = set()
    for step in range(200):
        drawn = draws().draw(step)
        assert torch.equal(drawn, drawn.unique())
        counts = torch.bincount(LABELS[drawn], minlength=5)
        assert int((counts > 0).sum()) <= 2
        assert int(counts.max()) <= 3
        seen |= set(drawn.tolist())
    assert seen == {1, 2, 3, 4, 5, 7, 8, 9, 10}  # not 0: unknown; 6: alone; 11: not in training


def test_a_draw_follows_from_seed_and_step() -> None:
    first = [draws().draw(step).tolist() for step in range(20)]
    assert first == [draws().draw(step).tolist() for step in range(20)]
    assert first != [draws(seed=2).draw(step).tolist() for step in range(20)]
    assert len({tuple(each) for each in first}) > 5


def test_where_no_label_has_two_nothing_is_drawn() -> None:
    labels = torch.arange(5)
    none = LabelDraws(labels, torch.ones(5, dtype=torch.bool), classes=3, samples=2, seed=0)
    assert none.draw(0).tolist() == []


def test_rows_are_as_without_draws_and_all_parts_of_a_step_see_the_same() -> None:
    data = random_interactions()
    sampler = NegativeSampler(data, num_items=NUM_ITEMS, strategy="impression", count=3, seed=0)
    plain = TrainingRows(data, sampler)
    rows = LabelledRows(plain, [draws(), draws(seed=5)])
    assert (len(rows), rows.units, rows.units_of(7)) == (len(plain), plain.units, 7)
    units = torch.arange(6)
    assert rows.count(units, pass_number=0) == 6
    one, other = (rows.batch(part, pass_number=0, step=4) for part in units.split(3))
    assert torch.equal(one.candidates, plain.batch(units[:3], pass_number=0).candidates)
    for mine, yours, seed in zip(one.labelled, other.labelled, (1, 5), strict=True):
        assert torch.equal(mine, yours)
        assert torch.equal(mine, draws(seed=seed).draw(4))
