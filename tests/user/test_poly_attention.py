"""MINER's poly attention, category weighting and regularisation against loops over equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.predictor.interests import InterestsConfig
from legos.user.poly_attention import PolyAttentionConfig
from tests.bricks import random_recommender, random_store, user_input
from tests.user.built import built

SMALL = {"num_codes": 3, "code_size": 7}
EXACT = {"rtol": 0.0, "atol": 1e-12}


def interests(module: nn.Module, items: Tensor, bias: Tensor | None = None) -> Tensor:
    """``(n, D)`` -> ``(K, D)``: one softmax over what was read for each code."""
    hidden = torch.tanh(items @ module.project.weight.T)
    rows = []
    for code in module.codes.weight:
        logits = hidden @ code + (0 if bias is None else bias)
        rows.append(logits.softmax(0) @ items if len(items) else torch.zeros(16).double())
    return torch.stack(rows)


def test_interests_are_one_attention_for_each_code() -> None:
    module, given = built(PolyAttentionConfig(**SMALL)), user_input()
    found = given(module)
    assert found.shape == (6, 3, 16)
    for row, length in enumerate(given.mask.sum(1).tolist()):
        expected = interests(module, given.history[row, :length])
        torch.testing.assert_close(found[row], expected, **EXACT)


def test_the_category_of_the_candidate_draws_attention_to_its_like() -> None:
    config = PolyAttentionConfig(**SMALL, category_bias="category", category_weight=1.75)
    module, given = built(config), user_input()
    found, users = given(module), given.users
    assert found.shape == (6, 5, 3, 16)
    table = module.similarity.vectors.table
    category = users.items.categories["category"]
    for row, length in enumerate(given.mask.sum(1).tolist()):
        read = table[category[users.history[row, :length]]]
        for column in range(5):
            candidate = table[category[users.candidate_items[row, column]]]
            bias = 1.75 * F.cosine_similarity(read, candidate[None], dim=1)
            expected = interests(module, given.history[row, :length], bias)
            torch.testing.assert_close(found[row, column], expected, **EXACT)
            if length > 1:
                plain = interests(module, given.history[row, :length])
                assert torch.allclose(found[row, column], plain) == torch.allclose(bias, bias[0])


def test_the_category_form_keeps_the_rules_of_all_user_encoders() -> None:
    module = built(PolyAttentionConfig(**SMALL, category_bias="subcategory"))
    given = user_input()
    together = given(module)
    alone = torch.cat([given.row(row)(module) for row in range(6)])
    torch.testing.assert_close(together, alone, **EXACT)
    other = given.reading(
        torch.where(given.mask[..., None], given.history, 1e3),
        given.mask,
        given.users.history.where(given.mask, 9),
    )
    torch.testing.assert_close(other(module), together, **EXACT)
    user = given(module.train())
    (user.square().sum() + module.penalty(user).sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("category_bias", [None, "category"])
def test_the_penalty_is_the_mean_similarity_of_different_interests(
    category_bias: str | None,
) -> None:
    config = PolyAttentionConfig(**SMALL, category_bias=category_bias, disagreement_weight=0.6)
    module, given = built(config), user_input()
    user = given(module)
    found = module.penalty(user)
    groups = user[:, None] if category_bias is None else user  # (B, 1 or C, K, D)
    for row in range(6):
        sums = []
        for group in groups[row]:
            pairs = [
                F.cosine_similarity(group[i], group[j], dim=0)
                for i in range(3)
                for j in range(3)
                if i != j
            ]
            sums.append(torch.stack(pairs).sum() / 9)
        torch.testing.assert_close(found[row], 0.6 * torch.stack(sums).mean(), **EXACT)
    assert found[0] == 0  # has read nothing


def test_the_penalty_tells_like_interests_from_different_ones() -> None:
    module = built(PolyAttentionConfig(num_codes=4))
    alike = torch.ones(1, 4, 16).double()
    apart = torch.eye(4, 16).double()[None]
    assert module.penalty(alike).item() == pytest.approx(0.8 * 12 / 16)
    assert module.penalty(apart).item() == pytest.approx(0)


@pytest.mark.parametrize("padded_length", [4, 7, 10])
def test_legommenders_form_gives_padding_the_weight_of_a_logit_of_zero(padded_length: int) -> None:
    module = built(PolyAttentionConfig(**SMALL, padded_length=padded_length))
    paper = built(PolyAttentionConfig(**SMALL))
    given = user_input()
    found, masked = given(module), given(paper)
    for row, length in enumerate(given.mask.sum(1).tolist()):
        width = max(length, padded_length)
        items = F.pad(given.history[row, :length], (0, 0, 0, width - length))
        logits = torch.tanh(items @ module.project.weight.T) @ module.codes.weight.T
        logits[length:] = 1e-30
        torch.testing.assert_close(found[row], logits.softmax(0).T @ items, **EXACT)
        same = length in (0, width)
        assert torch.allclose(found[row], masked[row], rtol=0, atol=1e-12) == same


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("categry", r"'categry' is no item field; did you mean 'category'\? choose from: category"),
        ("title", r"'title' is a text field; .*choose from: category, subcategory"),
    ],
)
def test_an_unknown_category_field_is_refused(field: str, message: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"model.user \(poly_attention\): category_bias {message}"
    ):
        built(PolyAttentionConfig(category_bias=field))


def test_items_without_categories_cannot_have_a_category_bias() -> None:
    with pytest.raises(ConfigError, match=r"data.fields names no category"):
        random_recommender(
            random_store(fields=("title",)),
            user=PolyAttentionConfig(category_bias="category"),
            predictor=InterestsConfig(),
        )
