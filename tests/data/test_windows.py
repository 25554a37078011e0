"""A user's sequence read once gives what every row of it gives alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from legos.data.batch import SequenceRows, SingleRows, TrainingRows
from legos.data.catalogue_rows import CatalogueRows
from legos.data.interactions import Interactions
from legos.data.sampling import NegativeSampler
from legos.data.windows import Windows
from legos.item.id import IDConfig
from legos.registry import UserEncoderConfig
from legos.systems.bricks.losses import batch_loss
from legos.user.gru import GRUConfig
from legos.user.hstu import HSTUConfig
from legos.user.sasrec import SASRecConfig
from legos.user.transformer import TransformerConfig
from tests.bricks import interactions, lists, quick, random_recommender, random_store

ITEMS = 30
ENCODERS: list[UserEncoderConfig] = [
    SASRecConfig(positions="oldest", dropout=0.0),
    SASRecConfig(positions="oldest", dropout=0.0, variant="released"),
    GRUConfig(num_layers=2, output_projection=True),
    HSTUConfig(num_heads=2, dropout=0.0),
    TransformerConfig(causal=True, positions="oldest", dropout=0.0, pooling="last", num_heads=2),
    TransformerConfig(causal=True, positions="oldest", dropout=0.0, pooling="mean", num_heads=2),
]


def growing(lengths: list[int], most: int, seed: int = 0) -> Interactions:
    """A user for each length; every click is an impression beside two others, in random order."""
    torch.manual_seed(seed)
    histories, impressions = [], []
    for user, length in enumerate(lengths):
        clicks = torch.randint(0, ITEMS, (length,)).tolist()
        for count in range(length):
            others = [(clicks[count] + 1) % ITEMS, (clicks[count] + 2) % ITEMS]
            impressions.append((user, len(histories), [*others, clicks[count]], [0, 0, 1]))
            histories.append(clicks[:count])
    impressions = [impressions[place] for place in torch.randperm(len(impressions)).tolist()]
    data = interactions(histories, impressions)
    return replace(data, histories=data.histories.tail(most))


@quick
@given(st.lists(st.integers(0, 23), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 9))
def test_every_row_is_in_one_window_and_reads_its_newest_items(
    lengths: list[int], most: int, seed: int
) -> None:
    data = growing([*lengths, 1], most, seed)
    windows = Windows.of(data, torch.arange(len(data)))
    assert sorted(windows.rows.values.tolist()) == list(range(len(data)))
    alone = lists(data.histories.select(data.history_rows))
    for window, rows in enumerate(lists(windows.rows)):
        items = windows.items.row(window).tolist()
        assert 0 <= len(items) <= most
        assert len({int(data.users[row]) for row in rows}) == 1
        for row in rows:
            reads = int(windows.lengths[row])
            assert items[:reads] == alone[row][len(alone[row]) - reads :]
            assert reads == len(alone[row]) or reads > most - max(1, most // 2)


def test_a_history_that_is_not_the_beginning_of_the_next_has_a_window_of_its_own() -> None:
    histories = [[1, 2], [1, 3, 4], [1, 3], [5]]
    data = interactions(histories, [(0, row, [6], [1]) for row in range(4)])
    windows = Windows.of(data, torch.arange(4))
    assert lists(windows.items) == [[5], [1, 2], [1, 3, 4]]
    assert lists(windows.rows) == [[3], [0], [2, 1]]
    assert windows.lengths.tolist() == [2, 3, 2, 1]


def rows_of(data: Interactions, loss: str) -> SingleRows:
    if loss == "full_softmax":
        everything = torch.ones(ITEMS, dtype=torch.bool)
        return CatalogueRows(data, offered=everything, row="click", history="given")
    sampler = NegativeSampler(data, num_items=ITEMS, strategy="uniform", count=4, seed=1)
    return TrainingRows(data, sampler)


@pytest.mark.parametrize("loss", ["full_softmax", "softmax"])
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda each: f"{each.name}")
def test_loss_and_gradients_are_those_of_a_row_a_click(
    encoder: UserEncoderConfig, loss: str
) -> None:
    data = growing([7, 1, 4, 9, 0, 2], most=20)
    rows = rows_of(data, loss)
    together = SequenceRows(rows, data)
    store = random_store(num_items=ITEMS)
    model = random_recommender(store, item=IDConfig(id_dropout=0.0), user=encoder).double()
    assert encoder.reads_prefixes
    assert together.units == 5
    assert [together.units_of(count) for count in (1, 9, 23)] == [1, 2, 5]
    assert together.count(torch.arange(5), pass_number=0) == len(rows) == len(together) == 23

    def measured(source: SingleRows | SequenceRows, units: Tensor) -> tuple[Tensor, list[Tensor]]:
        model.zero_grad()
        batch = source.batch(units, pass_number=3)
        scored = model(batch, store.batch(batch.items))
        total, losses = batch_loss(loss, scored, batch, len(batch))
        total.backward()
        order = batch.rows.argsort()
        return losses[order], [gradient_of(each) for each in model.parameters()]

    alone, its_gradients = measured(rows, torch.arange(23))
    once, gradients = measured(together, torch.tensor([3, 0, 4, 1, 2]))
    torch.testing.assert_close(once, alone, rtol=0, atol=1e-9)
    for one, other in zip(gradients, its_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    assert len(together.batch(torch.arange(5), pass_number=0).history) == 5


def gradient_of(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()


def test_settings_say_whether_what_follows_is_seen() -> None:
    assert not SASRecConfig().reads_prefixes
    assert not TransformerConfig(causal=True, positions="oldest").reads_prefixes
    assert not TransformerConfig(causal=True, pooling="last").reads_prefixes
