"""SimpleX's user encoder by hand, and the whole model against the paper's equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from legos.predictor.cosine import CosineConfig
from legos.systems.bricks.losses import LossSettings, batch_loss
from legos.user.simplex import Aggregation, SimpleX, SimpleXConfig
from tests.bricks import HIDDEN_SIZE, random_batch, random_recommender, random_store, user_input
from tests.user.built import built

KNOWN = [True, True, True, False, True, False]  # of users 1, 2, 3, 4, 5 and 9


@pytest.mark.parametrize("aggregation", ["mean", "self_attention", "user_attention"])
def test_it_is_the_papers_equation(aggregation: Aggregation) -> None:
    module, given = built(SimpleXConfig(aggregation=aggregation, id_weight=0.3)), user_input()
    found = given(module).detach().numpy()
    known = {name: value.detach().numpy() for name, value in module.named_parameters()}
    for row, length in enumerate(given.mask.sum(1).tolist()):
        user = int(given.users.ids[row])
        own = known["ids.vectors"][user] if KNOWN[row] else known["ids.unknown"]
        pooled = np.zeros(HIDDEN_SIZE)
        if length:
            items = given.history[row, :length].numpy()
            logits = np.zeros(length)
            if aggregation != "mean":
                keys = np.tanh(items @ known["key.weight"].T + known["key.bias"])
                query = own if aggregation == "user_attention" else known["query.weight"][0]
                logits = keys @ query
            weights = np.exp(logits) / np.exp(logits).sum()
            pooled = weights @ items
        expected = 0.3 * own + 0.7 * known["map.weight"] @ pooled
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-12)


def test_two_items_by_hand() -> None:
    module = SimpleX(
        SimpleXConfig(id_weight=0.25, id_dropout=0.0),
        known_users=torch.ones(1, dtype=torch.bool),
        hidden_size=2,
    )
    with torch.no_grad():
        module.ids.vectors.copy_(torch.tensor([[4.0, 8.0]]))
        module.map.weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    history = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    users = user_input((2,)).users
    object.__setattr__(users, "ids", torch.tensor([0]))
    # the mean (2, 4) is mapped to (4, 4); 1/4 (4, 8) + 3/4 (4, 4)
    assert module(history, mask, users).tolist() == [[4.0, 5.0]]


def test_a_step_of_the_whole_model_is_the_papers_loss() -> None:
    store = random_store()
    model = random_recommender(
        store,
        user=SimpleXConfig(id_dropout=0.0),
        predictor=CosineConfig(temperature=1.0, learn_temperature=False),
    ).eval()
    batch, items = random_batch(store)
    scored = model(batch, items)
    _, losses = batch_loss("cosine_contrastive", scored, batch, len(batch), LossSettings(0.1, 3.0))
    found = losses.tolist()
    vectors = model.encode_items(items).detach().double().numpy()
    for row, loss in enumerate(found):
        # the users come from the encoder, whose equation the test above has
        read = batch.history[row][batch.history_mask[row]]
        pooled = vectors[read.tolist()].mean(0) if len(read) else np.zeros(HIDDEN_SIZE)
        encoder = model.user_encoder
        user = int(batch.users[row])
        own = encoder.ids.vectors[user] if encoder.ids.known[user] else encoder.ids.unknown
        own = own.detach().double().numpy()
        vector = 0.5 * own + 0.5 * encoder.map.weight.detach().double().numpy() @ pooled
        cosines = [
            vectors[item] @ vector / math.sqrt((vectors[item] @ vectors[item]) * (vector @ vector))
            for item in batch.candidates[row][batch.candidate_mask[row]].tolist()
        ]
        above = [max(0.0, cosine - 0.1) for cosine in cosines[1:]]
        expected = 1 - cosines[0] + (3.0 * sum(above) / len(above) if above else 0.0)
        assert loss == pytest.approx(expected, abs=1e-5)
