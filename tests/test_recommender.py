"""The assembled model: every item encoder × user encoder × predictor."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from legos.data.batch import TrainingRows
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.sampling import NegativeSampler
from legos.recommender import Recommender, TokenTable, build_recommender
from legos.registry import item_encoders, predictors, user_encoders
from legos.run.losses import row_losses
from legos.run.score import score_split, score_split_directly
from tests.bricks import HIDDEN, ITEM_ENCODERS, ITEMS, PREDICTORS, USER_ENCODERS, WORDS, make_store
from tests.interactions import make_interactions

MATRIX = {
    f"{item}-{user}-{predictor}": (ITEM_ENCODERS[item], USER_ENCODERS[user], PREDICTORS[predictor])
    for item, user, predictor in itertools.product(ITEM_ENCODERS, USER_ENCODERS, PREDICTORS)
}
combinations = pytest.mark.parametrize("bricks", MATRIX.values(), ids=MATRIX)


def assemble(
    bricks: tuple[dict, dict, dict], seed: int = 0, store: ItemStore | None = None
) -> Recommender:
    item, user, predictor = bricks
    choice = SimpleNamespace(
        hidden_size=HIDDEN,
        item=item_encoders.validate(item),
        user=user_encoders.validate(user),
        predictor=predictors.validate(predictor),
    )
    words = torch.randn(WORDS, 12, generator=torch.Generator().manual_seed(5))
    return build_recommender(
        choice,
        store or make_store(),
        known_items=torch.arange(ITEMS) % 4 > 0,
        seed=seed,
        tables={"words": TokenTable(words, frozen=True, fingerprint="test")},
    )


def training_rows(data: Interactions) -> TrainingRows:
    sampler = NegativeSampler(data, num_items=ITEMS, strategy="impression", count=4, seed=1)
    return TrainingRows(data, sampler)


@combinations
def test_combination_trains_and_evaluates_alike_with_and_without_caches(
    bricks: tuple[dict, dict, dict],
) -> None:
    model, store, data = assemble(bricks), make_store(), make_interactions()
    rows = training_rows(data)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(3):
        batch = rows.batch(torch.arange(16), pass_number=0)
        scores = model(batch, store.batch(batch.items))
        assert scores.shape == (16, 5)
        loss = row_losses("softmax", scores, batch.labels, batch.candidate_mask).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert torch.tensor(losses).isfinite().all()
    cached = score_split(model, store, data, page_size=7).scores
    assert torch.allclose(cached, score_split_directly(model, store, data), atol=1e-5)
    assert torch.equal(score_split(model, store, data, page_size=7).scores, cached)


def test_some_combination_learns_the_training_rows() -> None:
    model, store, data = (
        assemble((ITEM_ENCODERS["cnn"], USER_ENCODERS["additive_attention"], PREDICTORS["dot"])),
        make_store(),
        make_interactions(),
    )
    rows = training_rows(data)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        batch = rows.batch(torch.arange(len(rows)), pass_number=0)
        scores = model(batch, store.batch(batch.items))
        loss = row_losses("softmax", scores, batch.labels, batch.candidate_mask).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    bricks = next(iter(MATRIX.values()))
    first, second, third = (assemble(bricks, seed) for seed in (1, 1, 2))
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True)
    )


def test_building_leaves_the_global_random_state_alone() -> None:
    store = make_store()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    assemble(next(iter(MATRIX.values())), store=store)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kept", [list(range(0, 40, 2)), [39], [5, 4, 3, 3]])
def test_user_cache_is_aligned_by_state_when_impressions_are_left_out(kept: list[int]) -> None:
    """The predecessor wrote its user cache by running number and read it by user id."""
    model, store, data = assemble(next(iter(MATRIX.values()))), make_store(), make_interactions()
    every = score_split(model, store, data).scores.view(len(data), -1)
    rows = torch.tensor(kept)
    labels = data.labels.view(len(data), -1)[rows].reshape(-1)
    part = Interactions(
        split="test",
        users=data.users[rows],
        history_rows=data.history_rows[rows],
        histories=data.histories,
        history_users=data.history_users,
        candidates=data.candidates.select(rows),
        labels=labels,
        impression_vocabulary="impression_id@test",
        impression_ids=rows,
    )
    scores = score_split(model, store, part).scores.view(len(rows), -1)
    assert torch.allclose(scores, every[rows], atol=1e-6)


def test_evaluation_does_not_change_the_items() -> None:
    """The predecessor's evaluation multiplied cached ids by their mask in place."""
    model, store, data = assemble(next(iter(MATRIX.values()))), make_store(), make_interactions()
    before = {name: tokens.values.clone() for name, tokens in store.texts.items()}
    score_split(model, store, data)
    assert all(torch.equal(store.texts[name].values, values) for name, values in before.items())


def test_scoring_restores_the_training_mode() -> None:
    model, store, data = assemble(next(iter(MATRIX.values()))), make_store(), make_interactions()
    model.train()
    score_split(model, store, data)
    assert model.training
