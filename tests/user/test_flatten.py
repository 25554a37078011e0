"""The flattened history against plain loops over items, fields and words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from legos.blocks.fastformer import Fastformer
from legos.blocks.transformer import Transformer
from legos.config.train_schema import TrainConfig
from legos.data.items import ItemBatch
from legos.item.pooling import PoolingConfig
from legos.recommender import Recommender, build_brick
from legos.registry import user_encoders
from legos.runs.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from legos.systems.bricks.recipe import brick_optimizer
from legos.training.weights import (
    frozen_hashes,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)
from legos.user.flatten import FlattenConfig, FlattenUser
from tests.bricks import (
    FIELDS,
    HIDDEN_SIZE,
    UserInput,
    lists,
    random_batch,
    random_recommender,
    random_store,
    user_input,
)
from tests.item.padded import Array, attend, numbers, self_attend, table

LENGTHS = (0, 1, 3, 7, 2)


def built(config: FlattenConfig) -> Recommender:
    model = random_recommender(random_store(), user=config).double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "positions.vectors")):
            torch.nn.init.normal_(parameter)
    return model


def flatten(model: Recommender, given: UserInput, max_tokens: int) -> list[Array]:
    """Per reader ``(S, D)``: texts, categories and the separator, item after item."""
    encoder, items = model.user_encoder, given.users.items
    words = {name: lists(column) for name, column in items.texts.items()}
    rows = []
    for positions, real in zip(given.users.history.tolist(), given.mask.tolist(), strict=True):
        tokens = [np.zeros((0, HIDDEN_SIZE))]
        for item in (position for position, kept in zip(positions, real, strict=True) if kept):
            for name in items.texts:
                tokens.append(table(model, "words")[words[name][item]].reshape(-1, HIDDEN_SIZE))
            for name, ids in items.categories.items():
                tokens.append(table(model, name)[[int(ids[item])]])
            if encoder.separator is not None:
                tokens.append(numbers(encoder.separator)[None])
        rows.append(np.concatenate(tokens)[-max_tokens:])
    return rows


def padded(rows: list[Array]) -> tuple[Array, Array]:
    longest = max(1, *(len(row) for row in rows))
    mask = np.arange(longest) < np.array([[len(row)] for row in rows])
    return np.stack([np.pad(row, ((0, longest - len(row)), (0, 0))) for row in rows]), mask


@pytest.mark.parametrize("max_tokens", [512, 100, 9, 1])
@pytest.mark.parametrize("separator", [True, False])
@pytest.mark.parametrize("fields", [FIELDS, ("title",), ("category",)], ids=len)
def test_the_sequence_is_every_token_of_every_item(
    fields: tuple[str, ...], separator: bool, max_tokens: int
) -> None:
    config = FlattenConfig(separator=separator, max_tokens=max_tokens)
    store = random_store(fields=fields)
    model = random_recommender(store, user=config).double().eval()
    given = user_input(LENGTHS)
    given = replace(given, users=replace(given.users, items=store.whole()))
    found, mask = model.user_encoder.sequence(given.mask, given.users)
    expected, expected_mask = padded(flatten(model, given, max_tokens))
    assert np.array_equal(mask.numpy(), expected_mask)
    np.testing.assert_allclose(numbers(found), expected, rtol=0, atol=1e-12)


def with_positions(model: Recommender, rows: list[Array]) -> list[Array]:
    """The newest token is place 0."""
    places = numbers(model.user_encoder.positions.vectors)
    return [row + places[: len(row)][::-1] for row in rows]


@pytest.mark.parametrize("max_tokens", [512, 50])
def test_self_attention_is_as_transcribed(max_tokens: int) -> None:
    config = FlattenConfig(encoder="self_attention", max_tokens=max_tokens, attention_size=9)
    model = built(config)
    encoder, given = model.user_encoder, user_input(LENGTHS)
    values, mask = padded(with_positions(model, flatten(model, given, max_tokens)))
    expected = attend(encoder.attention, self_attend(encoder.encoder, values, mask), mask)
    np.testing.assert_allclose(numbers(given(encoder)), expected, rtol=0, atol=1e-12)
    assert not expected[0].any()


@pytest.mark.parametrize("max_tokens", [512, 50])
@pytest.mark.parametrize(
    ("encoder", "kind"), [("transformer", Transformer), ("fastformer", Fastformer)]
)
def test_layers_see_each_history_without_padding(
    encoder: Literal["transformer", "fastformer"], kind: type, max_tokens: int
) -> None:
    """The layers have tests of their own; here they get one history at a time."""
    model = built(FlattenConfig(encoder=encoder, max_tokens=max_tokens, num_layers=2))
    user_encoder, given = model.user_encoder, user_input(LENGTHS)
    assert isinstance(user_encoder.encoder, kind)
    rows = with_positions(model, flatten(model, given, max_tokens))
    for row, found in zip(rows, numbers(given(user_encoder)), strict=True):
        values, mask = torch.from_numpy(row)[None], torch.ones(1, len(row), dtype=torch.bool)
        contextual = numbers(user_encoder.encoder(values, mask)) if len(row) else values.numpy()
        expected = attend(user_encoder.attention, contextual, mask.numpy())[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("encoder", "layers"), [("transformer", 3), ("fastformer", 1)])
def test_layers_have_defaults(encoder: Literal["transformer", "fastformer"], layers: int) -> None:
    given = FlattenConfig(encoder=encoder, num_layers=layers)
    default = FlattenConfig(encoder=encoder)
    shapes = [
        {name: tensor.shape for name, tensor in built(config).user_encoder.state_dict().items()}
        for config in (given, default)
    ]
    assert shapes[0] == shapes[1]


def test_layers_of_self_attention_are_refused() -> None:
    with pytest.raises(ValidationError, match="num_layers 2: encoder self_attention is one layer"):
        FlattenConfig(encoder="self_attention", num_layers=2)


def test_only_what_is_read_is_looked_at() -> None:
    """Scoring hands over all items of the data; those of no history cost nothing."""
    model, given = built(FlattenConfig()), user_input((2, 1))
    seen: list[ItemBatch] = []
    tokens = model.user_encoder.embeddings.tokens
    model.user_encoder.embeddings.tokens = lambda items: (seen.append(items), tokens(items))[1]
    given(model.user_encoder)
    assert [items.ids.tolist() for items in seen] == [given.users.history[given.mask].tolist()]


def test_users_are_as_wide_as_items_of_another_width_than_the_tokens() -> None:
    embeddings = random_recommender(random_store()).item_encoder.embeddings
    context = {"embeddings": embeddings, "hidden_size": 2 * HIDDEN_SIZE}
    encoder = build_brick(user_encoders, FlattenConfig(), context).double()
    assert user_input((2, 1))(encoder).shape == (2, 2 * HIDDEN_SIZE)


def shared(*, seed: int = 1, frozen: bool = True) -> Recommender:
    """Item and user encoder read the tokens through one module."""
    config = FlattenConfig(attention_size=8)
    model = random_recommender(
        random_store(), item=PoolingConfig(), user=config, seed=seed, frozen_words=frozen
    )
    assert isinstance(model.user_encoder, FlattenUser)
    assert model.user_encoder.embeddings is model.item_encoder.embeddings
    return model


def train(model: Recommender, optimizer: torch.optim.Optimizer, steps: int) -> None:
    batch, items = random_batch(random_store())
    for _ in range(steps):
        torch.manual_seed(0)
        model(batch, items).scores.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def adam(model: Recommender) -> torch.optim.Optimizer:
    return brick_optimizer(model, TrainConfig(lr=0.01))


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_shared_tables_are_stored_once_and_stay_shared(frozen: bool, tmp_path: Path) -> None:
    model = shared(frozen=frozen)
    optimizer = adam(model)
    train(model, optimizer, 2)
    tensors, moments = model_tensors(model), optimizer_tensors(model, optimizer)
    names = [name for name in [*tensors, *frozen_hashes(model)] if ".embeddings." in name]
    assert len(names) == len({name.partition(".embeddings.")[2] for name in names})
    write_checkpoint(tmp_path / "last", Checkpoint(tensors, {}, moments))
    stored = read_checkpoint(tmp_path / "last")
    fresh = shared(seed=2, frozen=frozen)
    assert frozen_hashes(fresh) == frozen_hashes(model)
    load_model_tensors(fresh, stored.model, origin="here")
    resumed = adam(fresh)
    load_optimizer_tensors(fresh, resumed, stored.optimizer, origin="here")
    assert fresh.user_encoder.embeddings is fresh.item_encoder.embeddings
    train(model, optimizer, 2)
    train(fresh, resumed, 2)
    after = model_tensors(model)
    assert all(torch.equal(value, after[name]) for name, value in model_tensors(fresh).items())
    assert not all(torch.equal(value, stored.model[name]) for name, value in after.items())


@pytest.mark.slow
def test_tokens_learn_through_both_encoders() -> None:
    model = shared(frozen=False).eval()
    batch, items = random_batch(random_store())
    words = model.item_encoder.embeddings.vocabularies["words"].table
    gradients = []
    for part in ("item", "user", "both"):
        vectors = model.encode_items(items)
        if part == "user":
            vectors = vectors.detach()
        users = SimpleNamespace(items=items, history=batch.history)
        user = model.encode_users(vectors[batch.history], batch.history_mask, users)
        if part == "item":
            user = user.detach()
        score = (user[:, None] * vectors[batch.candidates]).sum()
        gradients.append(torch.autograd.grad(score, words)[0])
    item, user, both = gradients
    torch.testing.assert_close(both, item + user)
    assert user.any()
