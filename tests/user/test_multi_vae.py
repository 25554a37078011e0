"""Multi-VAE against its paper, written out with dense matrices, item by item."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from legos.data.batch import Batch
from legos.data.catalogue_rows import CatalogueRows
from legos.errors import ConfigError
from legos.item.id import IDConfig
from legos.recommender import Recommender, Scored
from legos.systems.bricks.losses import CATALOGUE_LOSSES, batch_loss
from legos.user.multi_vae import MultiVAE, MultiVAEConfig
from tests.bricks import (
    NUM_ITEMS,
    random_interactions,
    random_recommender,
    random_store,
    user_input,
)
from tests.user.built import built

Array = NDArray[np.float64]


def model_of(**settings: float) -> Recommender:
    """Without dropout and noise in the item vectors, in double precision."""
    user = MultiVAEConfig.model_validate({"latent_size": 5, "dropout": 0.0, **settings})
    model = random_recommender(random_store(), item=IDConfig(id_dropout=0.0), user=user)
    return model.double().train()


def batch_of() -> Batch:
    """Three impressions; what they clicked is read and asked for."""
    data = random_interactions(num_impressions=3)
    labels = data.labels.clone()
    labels[: int(data.candidates.offsets[1])] = 1  # the first one clicked everything
    object.__setattr__(data, "labels", labels)
    offered = torch.ones(NUM_ITEMS, dtype=torch.bool)
    rows = CatalogueRows(data, offered=offered, row="impression", history="clicks")
    return rows.batch(torch.arange(3), pass_number=0)


def reference(model: Recommender, batch: Batch, beta: float, noise: Array) -> list[float]:
    """The negative of the paper's equation 7, with beta, for the given noise."""
    encoder = cast(MultiVAE, model.user_encoder)
    weights = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    first = np.where(encoder.known[:, None], encoder.items.detach().numpy(), 0.0)
    vectors = model.encode_items(random_store().whole()).detach().numpy()
    assert batch.targets is not None
    losses = []
    for row in range(len(batch)):
        read = set(batch.history[row][batch.history_mask[row]].tolist())
        known = [i for i in read if bool(encoder.known[i])]
        x = np.zeros(NUM_ITEMS)
        x[known] = 1 / math.sqrt(max(1, len(known)))
        h = np.tanh(x @ first + encoder.bias.detach().numpy())
        both = weights["user_encoder.latent.weight"] @ h + weights["user_encoder.latent.bias"]
        mean, log_variance = both[:5], both[5:]
        z = mean + noise[row] * np.exp(log_variance / 2)
        decoder = weights["user_encoder.decode.weight"], weights["user_encoder.decode.bias"]
        hidden = np.tanh(decoder[0] @ z + decoder[1])
        logits = vectors[:, :-1] @ hidden + vectors[:, -1]  # the last number is the item's bias
        log_pi = logits - np.log(np.exp(logits).sum())
        begin, end = batch.targets.offsets[row : row + 2].tolist()
        likelihood = sum(log_pi[i] for i in batch.targets.values[begin:end].tolist())
        kl = 0.5 * sum(np.exp(log_variance) + mean**2 - 1 - log_variance)
        losses.append(float(beta * kl - likelihood))
    return losses


@pytest.mark.parametrize(("steps", "before", "beta"), [(0, 0, 0.4), (10, 3, 0.16), (10, 30, 0.4)])
def test_the_loss_is_that_of_the_paper(steps: int, before: int, beta: float) -> None:
    """Annealing: batch 4 of 10 has 0.4 of the largest weight, 0.4."""
    model, batch = model_of(largest_weight=0.4, annealing_steps=steps), batch_of()
    cast(MultiVAE, model.user_encoder).batches.fill_(before)
    torch.manual_seed(3)
    scored = model(batch, random_store().batch(batch.items))
    assert scored.penalty is not None
    torch.manual_seed(3)
    noise = torch.randn(3, 5, dtype=torch.float64).numpy()
    total, found = batch_loss("multinomial", scored, batch, 3)
    assert float(total.detach()) == pytest.approx(float(found.sum()))
    assert found.tolist() == pytest.approx(reference(model, batch, beta, noise), rel=1e-9)


def test_outside_training_the_mean_is_decoded() -> None:
    model, batch = model_of().eval(), batch_of()
    first = model(batch, random_store().batch(batch.items))
    second = model(batch, random_store().batch(batch.items))
    assert all(map(torch.equal, first.scores, second.scores))
    assert first.penalty is None
    expected = reference(model, batch, 0.0, np.zeros((3, 5)))
    _, found = batch_loss("multinomial", first, batch, 3)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_dropout_drops_whole_items_and_keeps_the_sum() -> None:
    encoder = cast(MultiVAE, built(MultiVAEConfig(dropout=0.5))).double().train()
    given = user_input((7,) * 400)
    encoder.items.data.fill_(1.0)
    torch.manual_seed(0)
    found = encoder._bags(given.mask, given.users)[:, 0]
    eval_sum = encoder.eval()._bags(given.mask, given.users)[:, 0]
    assert len(found.unique()) > 5
    assert found.mean().item() == pytest.approx(eval_sum.mean().item(), rel=0.1)


def test_the_divergence_is_asked_for_once() -> None:
    encoder = cast(MultiVAE, built(MultiVAEConfig())).double().train()
    user = user_input()(encoder)
    assert encoder.penalty(user).shape == (6,)
    with pytest.raises(ValueError, match="one divergence"):
        encoder.penalty(user)


def test_a_width_without_room_for_the_bias_is_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_size 1"):
        built(MultiVAEConfig(), hidden_size=1)


def test_a_loss_over_the_catalogue_needs_its_rows() -> None:
    batch = batch_of()
    object.__setattr__(batch, "targets", None)
    for name in CATALOGUE_LOSSES:
        with pytest.raises(ValueError, match="no loss over the catalogue"):
            batch_loss(name, Scored(torch.zeros(3, NUM_ITEMS), None), batch, 3)
