"""Negatives from one distribution: names of draws, expected counts, what a row does not count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from legos.data.batch import Batch, SequenceRows
from legos.data.interactions import Interactions
from legos.data.proposed_rows import Proposal, ProposedRows
from legos.item.id import IDConfig
from legos.systems.bricks.losses import batch_loss, row_losses
from legos.user.sasrec import SASRecConfig
from tests.bricks import interactions, lists, random_interactions, random_recommender, random_store

ITEMS = 44
SHARED = pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])


def rows_of(data: Interactions, proposal: Proposal | None = None, **more: Any) -> ProposedRows:
    settings = {"count": 6, "seed": 3, "shared": True, "spared": "click", **more}
    return ProposedRows(data, proposal or Proposal(torch.arange(ITEMS)), **settings)


def negatives_of(batch: Batch) -> Tensor:
    """Item ids ``(B, K)``."""
    if batch.drawn.shared is None:
        return batch.items[batch.candidates[:, 1:]]
    return batch.items[batch.drawn.shared].expand(len(batch), -1)


@SHARED
def test_a_draw_is_named_by_seed_and_by_pass_and_row_or_step(shared: bool) -> None:
    data = random_interactions(num_impressions=40)
    rows = rows_of(data, shared=shared)
    place = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:15]
    whole = negatives_of(rows.batch(torch.arange(40), pass_number=2, step=5))
    torch.manual_seed(9)
    again = rows_of(data, shared=shared).batch(place, pass_number=2, step=5)
    assert torch.equal(negatives_of(again), whole[place])
    assert torch.equal(again.items[again.candidates[:, 0]], rows.positives[place])
    others = (
        rows.batch(torch.arange(40), pass_number=3, step=6),
        rows_of(data, shared=shared, seed=4).batch(torch.arange(40), pass_number=2, step=5),
    )
    assert all((negatives_of(other) != whole).float().mean() > 0.6 for other in others)
    assert bool((whole == whole[0]).all()) == shared


@pytest.mark.slow
def test_expected_counts_are_those_of_the_draws() -> None:
    clicks = [7, 7, 7, 7, 2, 2, 2, 2, 2, 2, 2, 2, 2, 5]
    data = interactions([[]], [(0, 0, [item], [1]) for item in clicks])
    catalogue = torch.tensor([2, 5, 7, 9])  # 9 clicks, 1, 4, and none, which counts as 1
    proposal = Proposal.by_clicks(catalogue, data, power=0.5)
    weights = torch.tensor([3.0, 1.0, 2.0, 1.0])
    expected = 10 * weights / weights.sum()
    found = proposal.log_expected(torch.arange(4), 10)
    torch.testing.assert_close(found, expected.log())
    counts = torch.zeros(ITEMS)
    rows = rows_of(data, proposal, count=10)
    for step in range(600):
        batch = rows.batch(torch.tensor([0]), pass_number=0, step=step)
        counts += torch.bincount(negatives_of(batch)[0], minlength=ITEMS)
    torch.testing.assert_close(counts[catalogue] / 600, expected, rtol=0.08, atol=0)
    assert counts.sum() == counts[catalogue].sum()
    uniform = Proposal(catalogue).log_expected(torch.arange(4), 10)
    assert uniform.tolist() == pytest.approx([math.log(2.5)] * 4)


@SHARED
def test_a_rows_own_click_is_no_negative_of_it(shared: bool) -> None:
    data = random_interactions(num_impressions=60)
    rows = rows_of(data, shared=shared, count=90)
    batch = rows.batch(torch.arange(60), pass_number=0)
    own = negatives_of(batch) == rows.positives[:, None]
    assert own.any()
    assert torch.equal(batch.candidate_mask[:, 1:], ~own)
    assert batch.candidate_mask[:, 0].all()
    assert batch.labels.sum(1).tolist() == [1.0] * 60


def test_shared_draws_spare_the_history_and_all_clicks_of_the_impression() -> None:
    shown = [(0, 0, [1, 2, 3], [1, 0, 1]), (0, 1, [4], [1]), (1, 2, [5, 1], [0, 1])]
    rows = rows_of(interactions([[6, 7], [6], []], shown), count=300, spared="history")
    batch = rows.batch(torch.arange(4), pass_number=0)
    drawn = negatives_of(batch)
    assert drawn.unique().numel() == ITEMS
    never = [{1, 3, 6, 7}, {1, 3, 6, 7}, {4, 6}, {1}]
    for row, own in enumerate(never):
        assert set(drawn[row][~batch.candidate_mask[row, 1:]].tolist()) == own
    with pytest.raises(ValueError, match="spare its click alone"):
        rows_of(random_interactions(), shared=False, spared="history")


def losses_of() -> Any:
    """A function of rows, units, loss and step: losses by row, gradient of the item ids."""
    store = random_store(num_items=ITEMS)
    user = SASRecConfig(positions="oldest", dropout=0.0, num_layers=1)
    model = random_recommender(store, item=IDConfig(id_dropout=0.0), user=user).double()
    vectors = next(each for name, each in model.item_encoder.named_parameters() if each.dim() == 2)

    def losses(rows: Any, units: Tensor, loss: str, step: int = 0) -> tuple[Tensor, Tensor]:
        model.zero_grad()
        batch = rows.batch(units, pass_number=0, step=step)
        scored = model(batch, store.batch(batch.items))
        total, found = batch_loss(loss, scored, batch, len(batch))
        total.backward()
        assert vectors.grad is not None
        return found[batch.rows.argsort()], vectors.grad.clone()

    return losses


@SHARED
def test_only_what_is_read_clicked_or_drawn_is_encoded(shared: bool) -> None:
    data = random_interactions(num_impressions=20)
    rows = rows_of(data, shared=shared, count=3)
    batch = rows.batch(torch.arange(4), pass_number=0)
    read = [item for row in data.history_rows[:4].tolist() for item in lists(data.histories)[row]]
    drawn = negatives_of(batch).reshape(-1).tolist()
    assert batch.items.tolist() == sorted({*read, *rows.positives[:4].tolist(), *drawn})


LOSSES = ["softmax", "bce", "bpr", "gbce", "sampled_softmax"]


@pytest.mark.parametrize("loss", LOSSES)
def test_shared_negatives_are_candidates_like_any_other(loss: str) -> None:
    """The same items as every row's own candidates give the same losses and gradients."""
    data = random_interactions(num_impressions=12)
    store = random_store(num_items=ITEMS)
    model = random_recommender(store, item=IDConfig(id_dropout=0.0)).double().eval()
    batch = rows_of(data).batch(torch.arange(12), pass_number=0)
    shared = batch.drawn.shared
    assert shared is not None
    own = torch.cat([batch.candidates, shared.expand(12, -1)], 1)
    drawn = batch.drawn._replace(shared=None)
    as_own = Batch(**{**vars(batch), "candidates": own, "drawn": drawn})
    found = []
    for each in (batch, as_own):
        model.zero_grad()
        total, losses = batch_loss(loss, model(each, store.batch(each.items)), each, 12)
        total.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([losses, *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batches_and_sequences_have_the_losses_of_single_rows(loss: str) -> None:
    impressions = [(user, 4 * user + n, [3 * n + user], [1]) for user in range(3) for n in range(4)]
    histories = [[3 * m + user for m in range(n)] for user in range(3) for n in range(4)]
    data = interactions(histories, impressions)
    rows = rows_of(data, spared="click" if loss == "sampled_softmax" else "history")
    losses = losses_of()
    whole, gradient = losses(rows, torch.arange(12), loss, step=7)
    first, its_gradient = losses(rows, torch.arange(5), loss, step=7)
    second, other_gradient = losses(rows, torch.arange(5, 12), loss, step=7)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(its_gradient + other_gradient, gradient, rtol=0, atol=1e-9)
    once, gradient_once = losses(SequenceRows(rows, data), torch.tensor([2, 0, 1]), loss, step=7)
    torch.testing.assert_close(once, whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient_once, gradient, rtol=0, atol=1e-9)


@pytest.mark.slow
@SHARED
@pytest.mark.parametrize("popularity", [False, True])
def test_the_mean_gradient_of_many_draws_is_that_of_the_full_softmax(
    shared: bool, popularity: bool
) -> None:
    """To the bias of a ratio of means, which falls as 1/K: ten times less with ten times more."""
    torch.manual_seed(0)
    data = random_interactions(num_impressions=30)
    catalogue = torch.arange(ITEMS)
    proposal = Proposal.by_clicks(catalogue, data, 1.0) if popularity else Proposal(catalogue)
    scores = 1.5 * torch.randn(ITEMS, dtype=torch.float64)
    click = int(rows_of(data).positives[0])
    exact = scores.softmax(0)
    exact[click] -= 1
    errors = []
    for count in (20, 200):
        rows = rows_of(data, proposal, count=count, shared=shared)
        mean = torch.zeros(ITEMS, dtype=torch.float64)
        draws = 12_000 // count
        for draw in range(draws):
            batch = rows.batch(torch.tensor([0]), pass_number=draw, step=draw)
            shown = torch.cat([torch.tensor([click]), negatives_of(batch)[0]])
            own = scores[shown][None].requires_grad_()
            mask, labels = batch.candidate_mask, batch.labels
            loss = row_losses("sampled_softmax", own, labels, mask, drawn=batch.drawn)
            (gradient,) = torch.autograd.grad(loss.sum(), own)
            mean.index_add_(0, shown, gradient[0] / draws)
        errors.append(float((mean - exact).abs().max()))
    assert errors[1] < 0.04
    assert errors[1] < errors[0]
