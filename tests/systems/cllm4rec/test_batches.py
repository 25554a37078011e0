"""Prompts of the three tasks: masks, targets, item orders and lengths.

| invariant | test |
|---|---|
| a user counts twice in recommendation prompts of the public code alone | |
|   | test_user_counts_twice_only_as_in_the_public_code |
| masked items absent, targets by preset, suffix always last | test_masked_prompts, |
|   | test_suffix_survives_every_length |
| reordering | test_reordering |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from legos.errors import ConfigError, DataError
from legos.systems.cllm4rec.batches import (
    ContentLM,
    InteractionLM,
    RecommendationPrompts,
    content_kind,
)
from legos.systems.cllm4rec.settings import Cllm4RecConfig
from tests.systems.cllm4rec.small import lists, ragged, small_templates

USERS, ITEMS = 6, 60
OWNED = [list(range(u * 3, u * 3 + 9 * u + (u < 5))) for u in range(USERS)]  # 1, 10, 19, ... 45
OWNED[2] = []
TEMPLATES = small_templates(USERS, ITEMS)
VOCABULARY = TEMPLATES.vocabulary
SOME = torch.tensor([5, 1, 4, 3])


def settings(**given: Any) -> Cllm4RecConfig:
    return Cllm4RecConfig.model_validate(given)


def items_of(batch: Any) -> list[list[int]]:
    first = VOCABULARY.first_item
    return [[id - first for id in row if id >= first] for row in lists(batch.tokens)]


@pytest.mark.parametrize("preset", ["paper", "public_code"])
def test_masked_prompts(preset: str) -> None:
    data = RecommendationPrompts(ragged(OWNED), TEMPLATES, settings(preset=preset), seed=0)
    assert data.users.tolist() == [0, 1, 3, 4, 5]
    batch = data.batch(SOME, epoch=2)
    assert batch.targets is not None
    hidden, _ = data.masked(SOME, epoch=2)
    for shown, targets, out, user in zip(
        items_of(batch), lists(batch.targets), lists(hidden), SOME.tolist(), strict=True
    ):
        owned = OWNED[user]
        assert len(out) == max(1, int(0.2 * len(owned)))
        assert not set(shown) & set(out)
        assert sorted(shown + out) == owned
        assert sorted(targets) == (sorted(out) if preset == "paper" else owned)
        assert shown != sorted(shown)  # both presets shuffle these prompts
    other = data.batch(SOME, epoch=3)
    assert other.targets is not None
    assert lists(data.masked(SOME, epoch=3)[0]) != lists(hidden)


def test_user_counts_twice_only_as_in_the_public_code() -> None:
    users = torch.tensor([1, 3])
    for preset, times in (("paper", 1), ("public_code", 2)):
        data = RecommendationPrompts(ragged(OWNED), TEMPLATES, settings(preset=preset), seed=0)
        batch = data.batch(users, epoch=0)
        assert sorted(batch.counted_users.tolist()) == sorted([1, 3] * times)
        counted = sorted(batch.counted_items.tolist())
        shown = [item for row in items_of(batch) for item in row]
        assert counted == sorted(OWNED[1] + OWNED[3] if times == 1 else shown)


@pytest.mark.parametrize("max_length", [10, 12, 25, 1024])
def test_suffix_survives_every_length(max_length: int) -> None:
    data = RecommendationPrompts(
        ragged(OWNED), TEMPLATES, settings(max_length=max_length, wording="public_code"), seed=0
    )
    prompts = data.batch(data.users, epoch=0), data.prompts(data.users)
    for batch in prompts:
        for user, row in zip(data.users.tolist(), lists(batch.tokens), strict=True):
            assert len(row) <= max_length
            comma = TEMPLATES.recommendation(torch.tensor([user]), ragged([[]])).values[4:].tolist()
            assert len(comma) == 5
            assert row[-5:] == comma
            assert comma[1] == VOCABULARY.first_user + user
            assert row[0] == comma[1]
    with pytest.raises(ConfigError, match="expected 10 or more"):
        RecommendationPrompts(ragged(OWNED), TEMPLATES, settings(max_length=9), seed=0)
    assert TEMPLATES.history_length + TEMPLATES.suffix_length == 9


def test_reordering() -> None:
    users = torch.tensor([1, 3, 5])
    data = InteractionLM(ragged(OWNED), TEMPLATES, settings(), seed=7)
    epochs = [data.batch(users, epoch=epoch) for epoch in range(3)]
    orders = [items_of(batch) for batch in epochs]
    assert len({str(order) for order in orders}) == 3
    for batch, order in zip(epochs, orders, strict=True):
        assert [sorted(row) for row in order] == [OWNED[user] for user in users.tolist()]
        words = [row[1:4] for row in lists(batch.tokens)]  # "has interacted with"
        assert words == [lists(TEMPLATES.history(users[:1]))[0][1:]] * 3
    # one user at a time, in any order of users: as other workers would
    again = [items_of(data.batch(users[i : i + 1], epoch=1))[0] for i in (2, 0, 1)]
    assert again == [orders[1][i] for i in (2, 0, 1)]
    assert (
        items_of(InteractionLM(ragged(OWNED), TEMPLATES, settings(), seed=8).batch(users, epoch=1))
        != orders[1]
    )
    fixed = InteractionLM(
        ragged(OWNED), TEMPLATES, settings(collaborative={"reorder": False}), seed=7
    )
    for epoch in range(3):
        assert items_of(fixed.batch(users, epoch=epoch)) == [OWNED[u] for u in users.tolist()]


def test_long_histories_lose_items() -> None:
    data = InteractionLM(ragged(OWNED), TEMPLATES, settings(max_length=12), seed=7)
    batch = data.batch(torch.tensor([0, 5]), epoch=0)
    assert batch.tokens.lengths.tolist() == [4 + 1, 12]
    assert sorted(batch.counted_items.tolist()) == sorted(
        item for row in items_of(batch) for item in row
    )
    assert len(items_of(batch)[1]) == 8


def test_every_order_is_as_likely_as_every_other() -> None:
    items = ragged([[0, 1, 2]] * 600)
    data = InteractionLM(items, small_templates(600, 3), settings(), seed=0)
    batch = data.batch(torch.arange(600), epoch=0)
    first = small_templates(600, 3).vocabulary.first_item
    orders = [tuple(id - first for id in row[4:]) for row in lists(batch.tokens)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert all(60 < count < 140 for count in counts)  # 100 expected, sigma 9


def test_fixed_order_of_prompts() -> None:
    data = RecommendationPrompts(
        ragged(OWNED), TEMPLATES, settings(recommendation={"reorder": False}), seed=0
    )
    for row in items_of(data.batch(SOME, epoch=0)):
        assert row == sorted(row)
    assert items_of(data.prompts(SOME)) == [OWNED[user] for user in SOME.tolist()]
    public = RecommendationPrompts(ragged(OWNED), TEMPLATES, settings(preset="public_code"), seed=0)
    assert items_of(public.prompts(SOME)) != [OWNED[user] for user in SOME.tolist()]
    config = settings(recommendation={"scoring": "next_item"})
    alone = RecommendationPrompts(ragged(OWNED), TEMPLATES, config, seed=0)
    assert lists(alone.prompts(SOME).tokens)[0][-1] == VOCABULARY.first_item + OWNED[5][-1]


def test_content_of_several_kinds_and_lengths() -> None:
    kinds = torch.tensor([content_kind("review"), content_kind("title"), content_kind("biography")])
    texts = ragged([[3, 4, 5, 6, 7, 8], [], [9]])
    data = ContentLM(
        kinds,
        torch.tensor([2, -1, 4]),
        torch.tensor([7, 8, -1]),
        texts,
        TEMPLATES,
        settings(max_length=12),
    )
    batch = data.batch(torch.arange(3))
    user, item = VOCABULARY.first_user, VOCABULARY.first_item
    rows = lists(batch.tokens)
    assert [row[:length] for row, length in zip(rows, batch.prompt_lengths, strict=True)] == lists(
        TEMPLATES.content(kinds, torch.tensor([2, 0, 4]), torch.tensor([7, 8, 0]))
    )
    assert rows[0][0] == user + 2
    assert rows[0][6] == item + 7
    assert rows[0][8:] == [3, 4, 5, 6]  # cut to 12
    assert rows[2][-1] == 9
    assert batch.counted_users.tolist() == [2, 4]
    assert batch.counted_items.tolist() == [7, 8]
    one = data.batch(torch.tensor([2]))
    assert lists(one.tokens) == rows[2:]


def test_texts_about_nobody_are_refused() -> None:
    kinds = torch.tensor([content_kind("title")])
    for user, item, message in ((3, 1, "text 0: user 3"), (-1, -1, "text 0: item -1")):
        with pytest.raises(DataError, match=message):
            ContentLM(
                kinds,
                torch.tensor([user]),
                torch.tensor([item]),
                ragged([[1]]),
                TEMPLATES,
                settings(),
            )
    with pytest.raises(ConfigError, match="did you mean 'review'"):
        content_kind("reviews")
    with pytest.raises(DataError, match="item 60: expected 0 to 59"):
        TEMPLATES.items(ragged([[60]]))
