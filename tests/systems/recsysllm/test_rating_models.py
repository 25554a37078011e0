"""Ratings from ids: the equation by hand, what is learned, seeds, early stopping, unknown ids."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from legos.errors import DataError
from legos.systems.recsysllm.baselines import (
    Kind,
    RatingModel,
    RatingModelSettings,
    Ratings,
    train_rating_model,
)

KINDS: tuple[Kind, ...] = ("mf", "mlp")
NOTHING = Ratings(*(torch.zeros(0, dtype=torch.int64) for _ in range(2)), torch.zeros(0))


def table(users: int = 60, items: int = 40, *, seed: int = 0) -> tuple[Ratings, Ratings]:
    """Stars made of a mean, biases and a product of two numbers; one pair in five is held out."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.cartesian_prod(torch.arange(users), torch.arange(items)).unbind(1)
    ours, theirs = (torch.randn(n, 2, generator=generator) * 0.5 for n in (users, items))
    stars = 3 + ours[rows, 0] + theirs[columns, 0] + ours[rows, 1] * theirs[columns, 1] * 2
    stars = stars.clamp(1, 5)
    held = torch.rand(len(rows), generator=generator) < 0.2
    return tuple(Ratings(rows[at], columns[at], stars[at]) for at in (~held, held))  # type: ignore[return-value]


def error(model: RatingModel, asked: Ratings) -> float:
    found: Tensor = model.predict(asked.users, asked.items) - asked.stars
    return float(found.square().mean().sqrt())


def test_a_rating_by_hand() -> None:
    known = torch.tensor([True, False])
    own = RatingModelSettings(size=2)
    model = RatingModel("mf", mean=3.0, known_users=known, known_items=known, settings=own)
    with torch.no_grad():
        model.tables[0].weight[0] = torch.tensor([1.0, -2.0, 0.5])
        model.tables[1].weight[0] = torch.tensor([0.5, 0.5, -0.25])
    users, items = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    # 3 + 0.5 - 0.25 + (0.5 - 1); unknown ones are zeros
    assert model.predict(users, items).tolist() == [2.75, 3.5, 2.75, 3.0]
    assert model(users, items)[1].tolist() == [(5.25 + 0.5625) / 2, 5.25 / 2, 0.5625 / 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_beats_the_mean_on_what_it_has_not_seen(kind: Kind) -> None:
    train, held = table()
    own = RatingModelSettings(size=8, lr=0.02, weight_decay=0.002, batch_size=64)
    model = train_rating_model(kind, train, held, num_users=60, num_items=40, seed=1, settings=own)
    off = math.sqrt(float((held.stars - train.stars.mean()).square().mean()))
    assert error(model, held) < 0.6 * off


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_and_leaves_the_global_generator_alone(kind: Kind) -> None:
    train, held = table()
    before = torch.random.get_rng_state()
    one, same, other = (
        train_rating_model(kind, train, held, num_users=61, num_items=40, seed=seed)
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    asked = held.users, held.items
    assert torch.equal(one.predict(*asked), same.predict(*asked))
    assert not torch.equal(one.predict(*asked), other.predict(*asked))
    stranger = one.predict(torch.tensor([60]), torch.tensor([0]))
    assert 1 <= float(stranger) <= 5


@pytest.mark.slow
def test_the_best_epoch_is_kept() -> None:
    train, held = table()
    shuffled = held._replace(stars=held.stars.flip(0))  # what is learned makes it worse soon
    own = RatingModelSettings(lr=0.1, weight_decay=0.0, patience=2)
    stopped = train_rating_model(
        "mf", train, shuffled, num_users=60, num_items=40, seed=1, settings=own
    )
    on = train_rating_model("mf", train, NOTHING, num_users=60, num_items=40, seed=1, settings=own)
    assert error(stopped, shuffled) < error(on, shuffled)
    assert error(on, train) < error(stopped, train)


def test_unknown_ratings_are_refused() -> None:
    one = torch.tensor([0])
    for wrong in (NOTHING, Ratings(one, one, torch.tensor([math.nan]))):
        with pytest.raises(DataError, match="expected known ones"):
            train_rating_model("mf", wrong, NOTHING, num_users=1, num_items=1, seed=0)
