"""The assembled model: every combination of bricks builds, learns and scores the same by caches."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from legos.data.items import ItemField, ItemStore
from legos.errors import ConfigError
from legos.item.attention import AttentionConfig
from legos.item.cnn import CNN, CNNConfig
from legos.item.id_and_content import IDAndContent, IDAndContentConfig
from legos.item.pooling import PoolingConfig
from legos.predictor.mlp import MLPConfig
from legos.recommender import build_brick, take
from legos.registry import (
    BrickConfig,
    PredictorConfig,
    UserEncoderConfig,
    item_encoders,
    predictors,
    refuse_unfit,
    user_encoders,
)
from legos.systems.bricks.losses import row_losses
from legos.systems.bricks.score import score_split, score_split_directly
from legos.user.self_attention import SelfAttentionConfig
from tests.brick_forms import all_configs, default_forms
from tests.bricks import (
    NUM_ITEMS,
    PRETRAINED_SIZE,
    random_batch,
    random_interactions,
    random_profiles,
    random_recommender,
    random_store,
)

BRICKS = [default_forms(registry) for registry in (item_encoders, user_encoders, predictors)]


def combinations() -> list[Any]:
    """Every fitting choice of three bricks, as pytest parameters.

    A user encoder sees vectors and a predictor one of five outputs, whoever made them. So always
    run: each predictor with each output that it accepts and each user encoder, with ``pooling``;
    each item encoder with the first pair. The others are marked ``nightly``.
    """
    items, users, scoring = BRICKS
    pairs = [
        (user, predictor)
        for user, predictor in itertools.product(users, scoring)
        if user.values[0].output in predictor.values[0].accepts
    ]
    seen, always = set[Any](), list[Any]()
    for user, predictor in pairs:
        shown = {user.id, (user.values[0].output, predictor.id)}
        if not shown <= seen:
            always.append((user, predictor))
        seen |= shown
    return [
        pytest.param(
            *(form.values[0] for form in (item, *pair)),
            id="-".join(str(form.id) for form in (item, *pair)),
            marks=[]
            if pair == pairs[0] or (pair in always and item.values[0].name == "pooling")
            else [pytest.mark.nightly],
        )
        for pair in pairs
        for item in items
    ]


COMBINATIONS = combinations()
PAIRS = [
    (user.values[0], predictor.values[0]) for user, predictor in itertools.product(*BRICKS[1:])
]


@pytest.mark.parametrize(("item", "user", "predictor"), COMBINATIONS)
def test_every_combination_of_bricks_learns_and_scores_the_same_by_caches(
    item: BrickConfig, user: UserEncoderConfig, predictor: PredictorConfig
) -> None:
    store, data, profiles = random_store(), random_interactions(), random_profiles()
    model = random_recommender(store, item=item, user=user, predictor=predictor).eval()
    batch, content = random_batch(store)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    losses = []
    for _ in range(4):
        scores = model(batch, content, profiles).scores
        assert scores.shape == batch.candidates.shape
        loss = row_losses("softmax", scores, batch.labels, batch.candidate_mask).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0], losses
    cached = score_split(model, store, data, profiles=profiles, page_size=7).scores
    direct = score_split_directly(model, store, data, profiles=profiles)
    torch.testing.assert_close(cached, direct, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(cached).all()


def test_there_are_more_combinations_than_the_predecessor_claims() -> None:
    choices = [all_configs(registry) for registry in (item_encoders, user_encoders, predictors)]
    users, scoring = choices[1:]
    pairs = sum(user.output in other.accepts for user in users for other in scoring)
    print(
        f"{len(COMBINATIONS):,} combinations of {len(BRICKS[0])} item encoders, {len(BRICKS[1])} "
        f"user encoders and {len(BRICKS[2])} predictors fit together; "
        f"{len(choices[0]) * pairs:,} with every choice of their settings"
    )
    assert len(COMBINATIONS) > 1_000


@pytest.mark.parametrize(
    ("user", "predictor"),
    [
        pytest.param(user, predictor, id=f"{user.name}-{predictor.name}")
        for user, predictor in PAIRS
        if user.output not in predictor.accepts
    ],
)
def test_a_pair_that_does_not_fit_is_refused_with_the_reason(
    user: UserEncoderConfig, predictor: PredictorConfig
) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_unfit(user, predictor)
    message = str(caught.value)
    assert message.startswith(f"predictor {predictor.name} scores ")
    assert f"but user encoder {user.name} gives " in message


def test_forward_is_encoders_then_predictor() -> None:
    store = random_store()
    model = random_recommender(store, user=SelfAttentionConfig(), predictor=MLPConfig()).eval()
    batch, content = random_batch(store)
    vectors = model.item_encoder(content)
    rows = [
        model.predictor(
            model.user_encoder(vectors[batch.history[row]][None], batch.history_mask[row][None])[
                :, None
            ],
            vectors[batch.candidates[row]][None],
        )
        for row in range(len(batch))
    ]
    torch.testing.assert_close(model(batch, content).scores, torch.cat(rows))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    store = random_store()
    torch.manual_seed(3)
    first = random_recommender(store, seed=7).state_dict()
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(3), drawn)
    second, other = (random_recommender(store, seed=seed).state_dict() for seed in (7, 8))
    assert all(torch.equal(first[name], second[name]) for name in first)
    different = [name for name in first if not torch.equal(first[name], other[name])]
    assert any("convolutions" in name for name in different)
    assert not any("words.table" in name for name in different)  # pretrained


def test_fields_of_one_vocabulary_share_one_table() -> None:
    model = random_recommender(random_store(fields=("title", "abstract", "category")))
    tables = [name for name, _ in model.named_parameters() if name.endswith(".table")]
    assert tables == [
        "item_encoder.embeddings.vocabularies.words.table",
        "item_encoder.embeddings.vocabularies.category.table",
    ]


@pytest.mark.parametrize(("hidden_size", "projected"), [(PRETRAINED_SIZE, False), (16, True)])
def test_pretrained_vectors_are_projected_only_where_widths_differ(
    hidden_size: int, projected: bool
) -> None:
    model = random_recommender(
        random_store(), item=PoolingConfig(), hidden_size=hidden_size, frozen_words=True
    )
    parameters = dict(model.named_parameters())
    prefix = "item_encoder.embeddings.vocabularies.words"
    assert (f"{prefix}.project.weight" in parameters) == projected
    assert not parameters[f"{prefix}.table"].requires_grad


def test_tuned_pretrained_vectors_take_gradients() -> None:
    model = random_recommender(random_store(), item=PoolingConfig(), frozen_words=False)
    table = dict(model.named_parameters())["item_encoder.embeddings.vocabularies.words.table"]
    assert table.requires_grad
    assert table.shape[1] == PRETRAINED_SIZE


@pytest.mark.parametrize("item", [CNNConfig(), AttentionConfig(), CNNConfig(form="sequence")])
def test_fields_may_be_called_as_torch_calls_its_own(item: BrickConfig) -> None:
    plain = random_store(fields=("title", "category"))
    names = {"title": "items", "category": "type"}
    vocabularies = {"words": "v1.5", "category": "type"}
    odd = ItemStore(
        fields={
            names[name]: ItemField(
                names[name], field.is_text, vocabularies[field.vocabulary], field.size, 20
            )
            for name, field in plain.fields.items()
        },
        texts={"items": plain.texts["title"]},
        categories={"type": plain.categories["category"]},
        num_items=NUM_ITEMS,
    )
    model = random_recommender(odd, item=item)
    vectors = model.encode_items(odd.batch(torch.arange(5)))
    assert torch.isfinite(vectors).all()
    model.load_state_dict(model.state_dict())


def test_a_brick_inside_a_brick_is_built_from_the_same_context() -> None:
    model = random_recommender(random_store(), item=IDAndContentConfig(content=CNNConfig()))
    assert isinstance(model.item_encoder, IDAndContent)
    assert isinstance(model.item_encoder.content, CNN)
    assert model.item_encoder.id.vectors.shape[0] == NUM_ITEMS


def test_a_brick_gets_only_what_it_asks_for() -> None:
    context = {"hidden_size": 4, "unheard_of": object()}
    predictor = build_brick(predictors, MLPConfig(hidden_sizes=(3,)), context)
    assert predictor(torch.zeros(1, 4), torch.zeros(1, 2, 4)).shape == (1, 2)


@pytest.mark.parametrize("family", ["item", "user"])
def test_heads_that_do_not_divide_the_hidden_size_are_refused(family: str) -> None:
    config = {"item": AttentionConfig(num_heads=5), "user": SelfAttentionConfig(num_heads=5)}
    message = r"num_heads 5 does not divide hidden_size 16; choose one of \[1, 2, 4, 8, 16\]"
    with pytest.raises(ConfigError, match=message):
        random_recommender(random_store(), **{family: config[family]})


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size 4 is even"):
        random_recommender(random_store(), item=CNNConfig(kernel_size=4))


def test_take_gathers_rows_for_any_shape_of_positions() -> None:
    vectors = torch.randn(5, 3)
    index = torch.tensor([[0, 4], [2, 2]])
    assert torch.equal(take(vectors, index), vectors[index])
    assert take(vectors, index[:0]).shape == (0, 2, 3)
