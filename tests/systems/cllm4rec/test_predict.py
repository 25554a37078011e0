"""Ranking all items, serving with a kept prefix, and what a trained model can do.

| invariant | test |
|---|---|
| evaluation | test_top_items_equals_brute_force, test_no_train_item_is_recommended, |
|   | test_users_without_targets_are_left_out |
| relabelling permutes scores | test_relabelling_permutes_scores |
| overfit, content reaches new items | test_overfit_on_planted_clusters, |
|   | test_content_reaches_items_without_interactions |
| bf16 | test_16_bits_rank_nearly_as_32 |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.evaluation.rank import NO_ITEM, top_items
from legos.metrics.full_ranking import full_ranking_metrics
from legos.systems.cllm4rec.batches import (
    ContentLM,
    InteractionLM,
    RecommendationPrompts,
    content_kind,
)
from legos.systems.cllm4rec.evaluate import UserSession
from legos.systems.cllm4rec.losses import LossParts, combine
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.settings import Cllm4RecConfig
from tests.systems.cllm4rec.small import (
    CAUSAL,
    FAMILIES,
    lists,
    ragged,
    small_cllm4rec,
    small_templates,
)

USERS, ITEMS = 8, 16
# two clusters of users and items: users 0-3 like items 0-7, users 4-7 items 8-15
TRAIN = [[(u * 2 + n) % 8 + 8 * (u // 4) for n in range(6)] for u in range(USERS)]
TEST = [sorted(set(range(8 * (u // 4), 8 * (u // 4) + 8)) - set(TRAIN[u])) for u in range(USERS)]
OWNED = ragged([sorted(row) for row in TRAIN])
TEMPLATES = small_templates(USERS, ITEMS)
EVERYONE = torch.arange(USERS)


def settings(**given: Any) -> Cllm4RecConfig:
    return Cllm4RecConfig.model_validate(given)


@torch.no_grad()
def recommend(
    model: Cllm4Rec, prompts: RecommendationPrompts, users: Tensor, excluded: Ragged, *, count: int
) -> Tensor:
    return top_items(model.scores(prompts.prompts(users)), excluded, count).items


def brute_force(scores: Tensor, excluded: list[list[int]], count: int) -> list[list[int]]:
    rows = []
    for row, out in zip(scores.tolist(), excluded, strict=True):
        kept = [item for item in range(len(row)) if item not in out and row[item] > -torch.inf]
        best = sorted(kept, key=lambda item: (-row[item], item))[:count]
        rows.append(best + [NO_ITEM] * (min(count, len(row)) - len(best)))
    return rows


@pytest.mark.parametrize(
    ("width", "values", "count"),
    [
        *[(160, 5, count) for count in (1, 3, 70, 160, 500)],
        *[(1_400, values, 2) for values in (2, 5, 10**6)],  # ten blocks and a rest
        (70_000, 3 * 10**4, 4),  # blocks of blocks
    ],
)
def test_top_items_equals_brute_force(width: int, values: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, values, (40 if width < 2_000 else 3, width), generator=generator)
    excluded = [
        torch.randperm(160, generator=generator)[: row * 4 + row // 39 * 4].tolist()
        for row in range(len(scores))
    ]
    found = top_items(scores.float(), ragged(excluded), count).items
    assert found.tolist() == brute_force(scores.float(), excluded, count)


def test_a_diverged_model_is_not_ranked() -> None:
    scores = torch.zeros(3, 4)
    scores[1, 2] = torch.nan
    with pytest.raises(DataError, match="row 1"):
        top_items(scores, ragged([[], [], []]), 2)


@pytest.mark.parametrize("scoring", ["recommendation", "next_item"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_train_item_is_recommended(family: str, scoring: str) -> None:
    config = settings(recommendation={"scoring": scoring})
    model = small_cllm4rec(config, users=USERS, items=ITEMS, family=family)
    prompts = RecommendationPrompts(OWNED, TEMPLATES, config, seed=0)
    found = recommend(model, prompts, EVERYONE, OWNED, count=100)
    assert found.shape == (USERS, ITEMS)
    for row, train in zip(found.tolist(), TRAIN, strict=True):
        assert sorted(item for item in row if item != NO_ITEM) == sorted(
            set(range(ITEMS)) - set(train)
        )
    assert torch.equal(found, recommend(model, prompts, EVERYONE, OWNED, count=100))
    one = recommend(model, prompts, EVERYONE[3:4], OWNED.select(EVERYONE[3:4]), count=100)
    assert torch.equal(one[0], found[3])  # alone and in a batch


def test_users_without_targets_are_left_out() -> None:
    ranked = np.array([[3, 1], [0, 2], [2, -1]])
    found = full_ranking_metrics(
        ranked, np.array([1, 2]), np.array([0, 1, 1, 2]), recall_at=(1, 5), ndcg_at=(100,)
    )
    assert found.counts == {"users": 3, "without_targets": 1}
    assert np.isnan(found.per_user["Recall@1"]).tolist() == [False, True, False]
    assert found.values == {
        "Recall@1": 0.5,
        "Recall@5": 1.0,
        "nDCG@100": pytest.approx((1 / np.log2(3) + 1) / 2),
    }
    nobody = full_ranking_metrics(ranked, np.zeros(0, dtype=int), np.zeros(4, dtype=int))
    assert np.isnan(nobody.values["Recall@20"])
    with pytest.raises(DataError, match="do not match"):
        full_ranking_metrics(ranked, np.array([1]), np.array([0, 1]))
    with pytest.raises(ConfigError, match="expected 1 or more"):
        full_ranking_metrics(ranked, np.array([1]), np.array([0, 1]), recall_at=(0,))


def test_metrics_equal_those_of_multi_vae_by_hand() -> None:
    """Against the definitions, written out for one user at a time."""
    generator = np.random.default_rng(0)
    ranked = np.array([generator.permutation(30)[:12] for _ in range(25)])
    targets = [generator.permutation(30)[: size % 9] for size in range(25)]
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in targets])])
    found = full_ranking_metrics(
        ranked, np.concatenate(targets), offsets, recall_at=(5,), ndcg_at=(10,)
    )
    for user, wanted in enumerate(targets):
        if len(wanted):
            hits = [item in wanted for item in ranked[user]]
            assert found.per_user["Recall@5"][user] == pytest.approx(
                sum(hits[:5]) / min(5, len(wanted))
            )
            gain = sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits[:10]))
            ideal = sum(1 / np.log2(rank + 2) for rank in range(min(10, len(wanted))))
            assert found.per_user["nDCG@10"][user] == pytest.approx(gain / ideal)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_relabelling_permutes_scores(family: str) -> None:
    config = settings()
    model = small_cllm4rec(config, users=USERS, items=ITEMS, family=family)
    prompts = RecommendationPrompts(OWNED, TEMPLATES, config, seed=0)
    new_user, new_item = torch.randperm(USERS), torch.randperm(ITEMS)
    with torch.no_grad():
        scores = model.scores(prompts.prompts(EVERYONE))
        tables = model.collaborative
        tables.user.weight[new_user] = tables.user.weight.clone()
        tables.item.weight[new_item] = tables.item.weight.clone()
        rows: list[list[int]] = [[] for _ in range(USERS)]
        for user, row in enumerate(lists(OWNED)):  # the same order of the same items
            rows[int(new_user[user])] = new_item[torch.tensor(row)].tolist()
        other = RecommendationPrompts(ragged(rows), TEMPLATES, config, seed=0)
        found = model.scores(other.prompts(EVERYONE))
    assert torch.allclose(found[new_user][:, new_item], scores, atol=1e-5)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("scoring", ["recommendation", "next_item"])
def test_a_kept_prefix_scores_as_a_whole_prompt(family: str, scoring: str) -> None:
    config = settings(recommendation={"scoring": scoring})
    model = small_cllm4rec(config, users=USERS, items=ITEMS, family=family)
    history = torch.tensor([4, 1, 9])
    session = UserSession(model, TEMPLATES, 6, history)
    for event in (None, 12, 3):
        if event is not None:
            session.append(torch.tensor([event]))
            history = torch.cat([history, torch.tensor([event])])
        prompts = TEMPLATES.recommendation(torch.tensor([6]), ragged([history.tolist()]))
        if scoring == "next_item":
            prompts = prompts.head(TEMPLATES.history_length + len(history))
        with torch.no_grad():
            states = model.backbone.states(prompts, prompts.lengths, model.collaborative)
            expected = model.item_scores(states[-1])
        for _ in range(2):  # scoring leaves the prefix as it is
            assert torch.allclose(session.scores(), expected, atol=1e-5)
        assert not set(session.top(5).tolist()) & set(history.tolist())
    with pytest.raises(DataError, match="begin a new session"):
        session.append(torch.zeros(60, dtype=torch.int64))


def fit(
    model: Cllm4Rec, owned: Ragged, *, epochs: int, texts: ContentLM | None = None, warmup: int = 0
) -> None:
    """Warm-up, then interactions for a third of the epochs and recommendation for the rest."""
    config = model.settings
    optimizers = {"collaborative": torch.optim.Adam(model.learning("collaborative").values(), 0.02)}
    if texts is not None:
        optimizers["content"] = torch.optim.Adam(model.learning("content").values(), 0.02)
    interactions = InteractionLM(owned, TEMPLATES, config, seed=0)
    prompts = RecommendationPrompts(owned, TEMPLATES, config, seed=0)

    def step(side: str, parts: LossParts) -> None:
        optimizers[side].zero_grad()
        combine(parts, config.mutual).backward()
        optimizers[side].step()

    rows = torch.arange(0 if texts is None else len(texts))
    for epoch in range(-warmup, epochs):
        if 0 <= epoch < epochs // 3:
            step(
                "collaborative",
                model(interactions.batch(EVERYONE, epoch=epoch), "collaborative"),
            )
        elif epoch >= 0:
            batch = prompts.batch(EVERYONE, epoch=epoch)
            step("collaborative", model(batch, "recommendation"))
        if texts is not None:
            step("content", model(texts.batch(rows), "content", mutual=epoch >= 0))


def ranking(model: Cllm4Rec, owned: Ragged) -> Tensor:
    prompts = RecommendationPrompts(owned, TEMPLATES, model.settings, seed=0)
    return recommend(model.eval(), prompts, EVERYONE, owned, count=ITEMS)


@pytest.mark.slow
def test_overfit_on_planted_clusters() -> None:
    config = settings(content={"enabled": False}, mutual={"weight": 0.0})
    model = small_cllm4rec(
        config, users=USERS, items=ITEMS, hidden_size=64, std=0.05, initializer_range=0.05
    )
    targets = np.array([item for row in TEST for item in row])
    offsets = np.arange(USERS + 1) * 2

    def recall(ranked: Tensor) -> float:
        measured = full_ranking_metrics(
            ranked.numpy(), targets, offsets, recall_at=(2,), ndcg_at=()
        )
        return measured.values["Recall@2"]

    assert recall(ranking(model, OWNED)) < 0.8
    fit(model, OWNED, epochs=60)
    assert recall(ranking(model, OWNED)) > 0.95


def test_16_bits_rank_nearly_as_32() -> None:
    model = small_cllm4rec(settings(), users=USERS, items=400, hidden_size=64)
    prompts = RecommendationPrompts(OWNED, small_templates(USERS, 400), model.settings, seed=0)
    batch = prompts.prompts(EVERYONE)
    with torch.no_grad():
        exact = model.scores(batch)
        with torch.autocast("cpu", torch.bfloat16):
            near = model.scores(batch)
    assert near.dtype == torch.float32  # states are rounded, scores are not
    assert 0 < float((near - exact).abs().max()) < 0.1 * float(exact.abs().max())
    shared = [
        len(set(a) & set(b)) / 20
        for a, b in zip(
            top_items(exact.clone(), OWNED, 20).items.tolist(),
            top_items(near.clone(), OWNED, 20).items.tolist(),
            strict=True,
        )
    ]
    assert float(np.mean(shared)) >= 0.9


def content_margin(weight: float) -> float:
    """How much more the users of a cluster prefer its item that nobody has seen.

    Items 7 and 15 are in nobody's train items; each one's text has the words of its cluster. A
    preference of all users for one of the two counts nothing.
    """
    owned = ragged([[item for item in sorted(row) if item not in (7, 15)] for row in TRAIN])
    config = settings(mutual={"weight": weight, "cold_items": True})
    texts = ContentLM(
        torch.full((ITEMS,), content_kind("title")),
        torch.full((ITEMS,), -1),
        torch.arange(ITEMS),
        ragged([([30, 31] if item < 8 else [35, 36]) * 4 for item in range(ITEMS)]),
        TEMPLATES,
        config,
    )
    model = small_cllm4rec(config, users=USERS, items=ITEMS, hidden_size=48, std=0.02, seed=1)
    fit(model, owned, epochs=60, texts=texts, warmup=40)
    prompts = RecommendationPrompts(owned, TEMPLATES, config, seed=0)
    with torch.no_grad():
        scores = model.scores(prompts.prompts(EVERYONE))
    difference = scores[:, 7] - scores[:, 15]  # (USERS,)
    return float(difference[:4].mean() - difference[4:].mean()) / 2


@pytest.mark.slow
def test_content_reaches_items_without_interactions() -> None:
    assert content_margin(3.0) > 0.3
    assert abs(content_margin(0.0)) < 0.15


def test_items_without_interactions_are_pulled_only_where_that_is_asked_for() -> None:
    owned = ragged([[item for item in sorted(row) if item != 7] for row in TRAIN])
    for cold, expected in ((False, False), (True, True)):
        config = settings(mutual={"cold_items": cold})
        for data in (InteractionLM, RecommendationPrompts):
            batch = data(owned, TEMPLATES, config, seed=0).batch(EVERYONE, epoch=0)
            assert (7 in batch.counted_items.tolist()) == expected
