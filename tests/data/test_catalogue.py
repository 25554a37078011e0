"""Training rows against all items, and histories made of an impression's other clicks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from legos.data.batch import TrainingHistories, TrainingRows, clicks_of
from legos.data.catalogue_rows import CatalogueRows
from legos.data.interactions import Interactions
from legos.data.sampling import NegativeSampler
from legos.errors import DataError
from tests.bricks import NUM_ITEMS, interactions, lists


def two_users() -> Interactions:
    """User 0: no history, clicks 5, 6, 7. User 1: history 1, 2; clicks 3. User 2: no click."""
    return interactions(
        [[], [1, 2]],
        [(0, 0, [5, 9, 6, 7], [1, 0, 1, 1]), (1, 1, [3, 4], [1, 0]), (2, 0, [8], [0])],
    )


def histories(rows: TrainingRows | CatalogueRows) -> list[list[int]]:
    """Of every row, as item ids."""
    batch = rows.batch(torch.arange(len(rows)), pass_number=0)
    ids = batch.items[batch.history]
    return [row[mask].tolist() for row, mask in zip(ids, batch.history_mask, strict=True)]


def offered(*without: int) -> torch.Tensor:
    mask = torch.ones(NUM_ITEMS, dtype=torch.bool)
    mask[list(without)] = False
    return mask


def test_clicks_of_every_impression() -> None:
    assert lists(clicks_of(two_users())) == [[5, 6, 7], [3], []]


def test_a_row_a_click_against_all_that_is_offered() -> None:
    rows = CatalogueRows(two_users(), offered=offered(0, 4), row="click", history="given")
    assert histories(rows) == [[], [], [], [1, 2]]
    batch = rows.batch(torch.tensor([3, 1]), pass_number=5)
    assert batch.targets is not None
    assert batch.candidates.shape == (1, NUM_ITEMS - 2)
    assert batch.items[batch.candidates[0, batch.targets.values]].tolist() == [3, 6]
    assert 0 not in batch.candidates
    assert 4 not in batch.candidates
    assert batch.users.tolist() == [1, 0]
    assert rows.impressions.tolist() == [0, 0, 0, 1]


def test_a_row_an_impression_is_asked_for_what_it_has_read() -> None:
    rows = CatalogueRows(two_users(), offered=offered(0), row="impression", history="clicks")
    assert rows.impressions.tolist() == [0, 1]  # user 2 has no click
    batch = rows.batch(torch.arange(2), pass_number=0)
    assert batch.targets is not None
    assert [[i + 1 for i in row] for row in lists(batch.targets)] == [[5, 6, 7], [3]]
    # as long as the longest history of the data, two items
    assert histories(rows) == [[6, 7], [2, 3]]


@pytest.mark.parametrize("catalogue", [False, True])
def test_the_other_clicks_are_the_history_of_a_click(catalogue: bool) -> None:
    data = two_users()
    data = replace(data, histories=interactions([[], [1, 2], [0] * 4], []).histories)
    sampler = NegativeSampler(data, num_items=NUM_ITEMS, strategy="uniform", count=2, seed=1)
    rows: TrainingRows | CatalogueRows = TrainingRows(data, sampler, history="clicks")
    if catalogue:
        rows = CatalogueRows(data, offered=offered(), row="click", history="clicks")
    assert histories(rows) == [[6, 7], [5, 7], [5, 6], [1, 2]]
    mask = rows.batch(torch.arange(4), pass_number=0).history_mask
    assert bool((mask[:, :1] >= mask[:, 1:2]).all())  # padding on the right


def test_without_a_second_click_there_is_no_history_to_make() -> None:
    data = interactions([[1]], [(0, 0, [5, 6], [1, 0])])
    assert not TrainingHistories(data, "given").all_empty
    assert TrainingHistories(interactions([[]], [(0, 0, [5], [1])]), "given").all_empty
    with pytest.raises(DataError, match="no impression has two clicks"):
        TrainingHistories(data, "clicks")
    with pytest.raises(DataError, match="no click to train on"):
        CatalogueRows(
            interactions([[1]], [(0, 0, [5], [0])]), offered=offered(), row="click", history="given"
        )
