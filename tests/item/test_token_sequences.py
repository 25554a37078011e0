"""Item encoders over the sequence of all tokens: item by item, without packing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from legos.data.items import ItemBatch
from legos.errors import ConfigError
from legos.item.additive_attention import AdditiveAttentionConfig
from legos.item.fastformer import FastformerConfig
from legos.item.transformer import TransformerConfig
from legos.recommender import Recommender
from legos.registry import BrickConfig
from tests.blocks.fastformer_in_numpy import encode
from tests.bricks import FIELDS, HIDDEN_SIZE, NUM_ITEMS, random_recommender, random_store
from tests.item.padded import Array, attend, numbers, table, words

FIELD_CHOICES = pytest.mark.parametrize("fields", [FIELDS, ("title",), ("category",)], ids=len)


def model_and_items(
    config: BrickConfig, fields: tuple[str, ...] = FIELDS
) -> tuple[Recommender, ItemBatch]:
    store = random_store(fields=fields)
    model = random_recommender(store, item=config).double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "positions.vectors")):
            nn.init.normal_(parameter)
    return model, store.batch(torch.arange(NUM_ITEMS))


def sequences(model: Recommender, items: ItemBatch) -> list[Array]:
    """``(S, D)`` of each item: its texts, then its categories."""
    rows: list[list[Array]] = [[np.zeros((0, HIDDEN_SIZE))] for _ in range(len(items))]
    for name in items.texts:
        for row, values, mask in zip(rows, *words(model, items, name), strict=True):
            row.append(values[mask])
    for name, ids in items.categories.items():
        for row, vector in zip(rows, table(model, name)[ids.numpy()], strict=True):
            row.append(vector[None])
    return [np.concatenate(row) for row in rows]


def pooled(attention: nn.Module, sequence: Array) -> Array:
    if not len(sequence):
        return np.zeros(HIDDEN_SIZE)
    return attend(attention, sequence[None], np.ones((1, len(sequence)), dtype=bool))[0]


def compare(model: Recommender, items: ItemBatch, expected: list[Array]) -> None:
    found = numbers(model.encode_items(items))
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-10)


@FIELD_CHOICES
def test_additive_attention_is_one_pool_of_all_tokens(fields: tuple[str, ...]) -> None:
    model, items = model_and_items(AdditiveAttentionConfig(attention_size=10), fields)
    attention = model.item_encoder.attention
    compare(model, items, [pooled(attention, row) for row in sequences(model, items)])


@FIELD_CHOICES
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_transformer_is_torchs_encoder_then_additive_attention(
    fields: tuple[str, ...], norm: str
) -> None:
    config = TransformerConfig(num_layers=2, num_heads=4, norm=norm, attention_size=10)
    model, items = model_and_items(config, fields)
    encoder = model.item_encoder
    reference = torchs_encoder(encoder.transformer, norm)

    def encoded(sequence: Array) -> Array:
        if not len(sequence):
            return sequence
        placed = sequence + numbers(encoder.transformer.positions.vectors)[: len(sequence)]
        return numbers(reference(torch.from_numpy(placed)[None]))[0]

    rows = [encoded(row) for row in sequences(model, items)]
    compare(model, items, [pooled(encoder.attention, row) for row in rows])


def torchs_encoder(ours: nn.Module, norm: str) -> nn.Module:
    """``nn.TransformerEncoder`` of four heads with the weights of ours."""
    layer = nn.TransformerEncoderLayer(
        HIDDEN_SIZE, 4, 4 * HIDDEN_SIZE, activation="gelu", norm_first=norm == "pre",
        batch_first=True,
    )  # fmt: skip
    last = nn.LayerNorm(HIDDEN_SIZE) if norm == "pre" else None
    encoder = nn.TransformerEncoder(layer, len(ours.layers), norm=last, enable_nested_tensor=False)
    names = {
        "self_attention.project.": "self_attn.in_proj_",
        "self_attention.output.": "self_attn.out_proj.",
        "attention_norm.": "norm1.",
        "feed_forward.widen.": "linear1.",
        "feed_forward.narrow.": "linear2.",
        "feed_forward_norm.": "norm2.",
        "final_norm.": "norm.",
    }
    weights: dict[str, Tensor] = {}
    for name, value in ours.state_dict().items():
        for mine, theirs in names.items():
            prefix, found, suffix = name.partition(mine)
            if found and (prefix.endswith(".") or not prefix):
                weights[prefix + theirs + suffix] = value
                break
    encoder.double().load_state_dict(weights)
    return encoder.eval()


@FIELD_CHOICES
@pytest.mark.parametrize("positions", [True, False])
def test_fastformer_is_the_papers_equations_then_additive_attention(
    fields: tuple[str, ...], positions: bool
) -> None:
    config = FastformerConfig(num_layers=2, num_heads=4, positions=positions, attention_size=10)
    model, items = model_and_items(config, fields)
    encoder = model.item_encoder

    def encoded(sequence: Array) -> Array:
        if not len(sequence):
            return sequence
        if positions:
            places = numbers(encoder.fastformer.positions.vectors)
            sequence = sequence + places[: len(sequence)]
        return encode(encoder.fastformer, sequence, num_layers=2)

    rows = [encoded(row) for row in sequences(model, items)]
    compare(model, items, [pooled(encoder.attention, row) for row in rows])


@pytest.mark.parametrize("kind", [TransformerConfig, FastformerConfig])
def test_items_that_may_outgrow_the_positions_are_refused(kind: type[BrickConfig]) -> None:
    store = random_store(fields=("title", "abstract", "category"))  # 20 + 20 + 1 tokens
    random_recommender(store, item=kind(max_positions=41))
    message = r"model\.item.*a sequence of 41 is longer than max_positions 40"
    with pytest.raises(ConfigError, match=message):
        random_recommender(store, item=kind(max_positions=40))
