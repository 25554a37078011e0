"""GLORY: the gated graph network and what stands around it, against plain loops in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError
from legos.item.cnn import CNNConfig
from legos.item.glory import Glory, GloryConfig
from legos.item.id import IDConfig
from legos.predictor.dot import DotConfig
from legos.recommender import Recommender
from legos.systems.bricks.score import cache_items, score_split, score_split_directly
from legos.user.glory import GloryConfig as GloryUserConfig
from tests.bricks import (
    HIDDEN_SIZE,
    NUM_ITEMS,
    lists,
    ragged,
    random_click_graph,
    random_interactions,
    random_recommender,
    random_store,
)


def glory(**settings: Any) -> Recommender:
    return random_recommender(
        random_store(),
        item=GloryConfig(encoder=CNNConfig(attention_size=8), attention_size=8, **settings),
        user=GloryUserConfig(attention_size=8, num_heads=4),
        predictor=DotConfig(),
    ).double()


def sigmoid(values: Tensor) -> Tensor:
    return 1 / (1 + (-values).exp())


def gru(message: Tensor, state: Tensor, cell: torch.nn.GRUCell) -> Tensor:
    """Cho et al., 2014, as Li et al. use it, gate by gate."""
    reset_x, update_x, new_x = (cell.weight_ih @ message + cell.bias_ih).chunk(3)
    reset_h, update_h, new_h = (cell.weight_hh @ state + cell.bias_hh).chunk(3)
    reset, update = sigmoid(reset_x + reset_h), sigmoid(update_x + update_h)
    new = torch.tanh(new_x + reset * new_h)
    return (1 - update) * new + update * state


def written_out(encoder: Glory, text: Tensor, graph: Ragged, neighbours: int) -> Tensor:
    """``(items, 2 D)`` by loops over items and layers."""
    states = list(text)
    before = [row[:neighbours] for row in lists(graph)]
    for weight in encoder.graph.weight:
        nothing = torch.zeros(text.shape[1], dtype=text.dtype)
        messages = [sum((states[j] @ weight for j in row), nothing) for row in before]
        states = [gru(m, h, encoder.graph.gate) for m, h in zip(messages, states, strict=True)]
    vectors = []
    for own, state in zip(text, states, strict=True):
        logits = [
            float(encoder.attention.query(torch.tanh(encoder.attention.project(view))))
            for view in (own, state)
        ]
        total = sum(map(math.exp, logits))
        click = sum(
            math.exp(logit) / total * view for logit, view in zip(logits, (own, state), strict=True)
        )
        read = own if encoder.candidates == "text" else click
        linear = encoder.candidate.weight @ read + encoder.candidate.bias
        vectors.append(torch.cat([click, torch.where(linear > 0, linear, 0.2 * linear)]))
    return torch.stack(vectors)


@pytest.mark.parametrize("candidates", ["text", "graph"])
@pytest.mark.parametrize(("layers", "neighbours"), [(1, 8), (2, 2), (3, 1)])
@torch.no_grad()
def test_items_are_the_equations_item_by_item(
    candidates: str, layers: int, neighbours: int
) -> None:
    model = glory(num_layers=layers, num_neighbors=neighbours, candidates=candidates).eval()
    store, encoder = random_store(), model.item_encoder
    assert isinstance(encoder, Glory)
    text = encoder.encoder(store.whole())
    expected = written_out(encoder, text, random_click_graph(), neighbours)
    torch.testing.assert_close(encoder(store.whole()), expected, rtol=1e-10, atol=1e-12)
    few = torch.tensor([30, 3, 7, 3])
    torch.testing.assert_close(encoder(store.batch(few)), expected[few], rtol=1e-10, atol=1e-12)
    cached = cache_items(model, store, page_size=9).double()
    torch.testing.assert_close(cached, expected, rtol=1e-5, atol=1e-5)


def test_a_gated_layer_by_hand() -> None:
    model = random_recommender(
        random_store(), item=GloryConfig(encoder=IDConfig(), num_layers=1), hidden_size=1
    )
    graph = model.item_encoder.graph
    with torch.no_grad():
        for each in graph.parameters():
            each.fill_(0.0)
        graph.weight.fill_(2.0)
        graph.gate.weight_ih[2] = 1.0  # of the new state alone: gates are a half
    state = torch.arange(NUM_ITEMS, dtype=torch.float32)[:, None] / 10
    found = graph.over_all(state)[:, 0].tolist()
    for item, row in enumerate(lists(random_click_graph())):
        message = 2 * sum(each / 10 for each in row)
        assert found[item] == pytest.approx((math.tanh(message) + item / 10) / 2, abs=1e-6)


def test_a_batch_reads_every_item_around_it_once() -> None:
    encoder = glory().item_encoder
    read: list[int] = []

    class Counted(torch.nn.Module):
        def forward(self, items: Any) -> Tensor:
            read.extend(items.ids.tolist())
            return torch.zeros(len(items), HIDDEN_SIZE, dtype=torch.float64)

    encoder.encoder = Counted()
    encoder(random_store().batch(torch.tensor([5, 5, 12])))
    before, around = lists(random_click_graph()), {5, 12}
    for _ in range(2):
        around |= {other for item in around for other in before[item]}
    assert read == sorted(around)


def test_what_is_further_away_than_the_layers_is_not_heard() -> None:
    store, changed = random_store(), random_store()
    encoder = glory(num_layers=1).item_encoder.eval()
    encoder.graph._values, encoder.graph._offsets = (
        (chain := ragged([[], [0], [1], [2]])).values,
        chain.offsets,
    )
    changed.categories["category"][1] += 1
    ids = torch.arange(4)
    same = (encoder(store.batch(ids)) == encoder(changed.batch(ids))).all(1)
    assert same.tolist() == [True, False, False, True]


def test_an_item_that_the_graph_does_not_have_is_read_by_itself() -> None:
    encoder, store = glory().item_encoder.eval(), random_store()
    encoder.graph._values, encoder.graph._offsets = (
        (short := ragged([[], [0], [1]])).values,
        short.offsets,
    )
    new = encoder(store.batch(torch.tensor([NUM_ITEMS - 1])))
    alone = encoder.joined(encoder.alone(store.batch(torch.tensor([NUM_ITEMS - 1]))))
    torch.testing.assert_close(new, alone)  # row 0 of that graph has no neighbours either


@torch.no_grad()
def test_scores_are_users_of_clicks_with_candidates() -> None:
    model, store, data = glory().float().eval(), random_store(), random_interactions()
    vectors = model.item_encoder(store.whole())
    cached = score_split(model, store, data, page_size=7).scores
    histories, places = lists(data.histories), iter(range(len(cached)))
    for impression, shown in enumerate(lists(data.candidates)):
        history = histories[int(data.history_rows[impression])]
        clicks = vectors[history, :HIDDEN_SIZE][None]
        mask = torch.ones(1, len(history), dtype=torch.bool)
        user = model.user_encoder.clicks(clicks, mask)[0]
        for item in shown:
            score = user @ vectors[item, HIDDEN_SIZE:]
            assert float(cached[next(places)]) == pytest.approx(float(score), abs=1e-5)
    direct = score_split_directly(model, store, data)
    torch.testing.assert_close(cached, direct, rtol=1e-5, atol=1e-5)


def test_the_graph_is_in_no_checkpoint() -> None:
    assert not [name for name in glory().state_dict() if "_values" in name or "_offsets" in name]


def test_item_vectors_without_halves_are_refused() -> None:
    with pytest.raises(ConfigError, match="item vectors of 15 numbers have no halves"):
        random_recommender(random_store(), user=GloryUserConfig(), hidden_size=15)
