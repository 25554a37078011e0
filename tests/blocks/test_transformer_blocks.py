"""The Transformer encoder against torch's and BERT's layers with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from legos.blocks.attention import (
    LearnedPositions,
    MultiHeadSelfAttention,
    last_real,
    scaled_dot_product_attention,
)
from legos.blocks.transformer import Transformer, TransformerLayer, TransformerSettings
from legos.errors import ConfigError
from tests.blocks.packing import MANY_LENGTHS, SOME_LENGTHS, packed_gradient, padded_tokens

SIZE, HEADS, WIDTH, LENGTHS = 8, 2, 12, (3, 1, 6, 2)
CLOSE = {"rtol": 0.0, "atol": 1e-11}
TWO_LAYERS = TransformerSettings(num_layers=2, num_heads=HEADS)


def noisy(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with biases and normalisations off their initial values."""
    generator = torch.Generator().manual_seed(7)
    for parameter in module.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.double().eval()


def copy_attention(ours: MultiHeadSelfAttention, weight: Tensor, bias: Tensor) -> None:
    ours.project.weight.data, ours.project.bias.data = weight.detach(), bias.detach()


def copy(ours: nn.Module, theirs: nn.Module) -> None:
    ours.load_state_dict(theirs.state_dict())


def torchs(norm: str, activation: str, num_layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        SIZE, HEADS, WIDTH, activation=activation, norm_first=norm == "pre", batch_first=True
    )
    last = nn.LayerNorm(SIZE) if norm == "pre" else None
    encoder = nn.TransformerEncoder(layer, num_layers, norm=last, enable_nested_tensor=False)
    return noisy(encoder)


def from_torch(
    encoder: nn.TransformerEncoder, norm: str, activation: str, *, causal: bool
) -> Transformer:
    settings = TransformerSettings(
        num_layers=len(encoder.layers),
        num_heads=HEADS,
        feed_forward_size=WIDTH,
        norm=norm,
        activation=activation,
    )
    ours = Transformer(settings, hidden_size=SIZE, causal=causal)
    for mine, theirs in zip(ours.layers, encoder.layers, strict=True):
        attention = theirs.self_attn
        copy_attention(mine.self_attention, attention.in_proj_weight, attention.in_proj_bias)
        copy(mine.self_attention.output, attention.out_proj)
        copy(mine.attention_norm, theirs.norm1)
        copy(mine.feed_forward.widen, theirs.linear1)
        copy(mine.feed_forward.narrow, theirs.linear2)
        copy(mine.feed_forward_norm, theirs.norm2)
    if norm == "pre":
        copy(ours.final_norm, encoder.norm)
    return ours.double().eval()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_it_equals_torchs_encoder(norm: str, activation: str, causal: bool) -> None:
    encoder = torchs(norm, activation, num_layers=2)
    ours = from_torch(encoder, norm, activation, causal=causal)
    _, values, mask = padded_tokens(LENGTHS, size=SIZE)
    length = mask.shape[1]
    future = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
    expected = encoder(values, mask=future, src_key_padding_mask=~mask)
    found = ours(values, mask)
    torch.testing.assert_close(found[mask], expected[mask], **CLOSE)
    assert not found[~mask].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_equals_berts_layers(dtype: torch.dtype) -> None:
    config = BertConfig(
        vocab_size=5,
        hidden_size=SIZE,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        intermediate_size=WIDTH,
        initializer_range=0.3,
        layer_norm_eps=1e-5,
    )
    bert = noisy(BertModel(config, add_pooling_layer=False)).to(dtype)
    settings = TransformerSettings(num_layers=3, num_heads=HEADS, feed_forward_size=WIDTH)
    ours = Transformer(settings, hidden_size=SIZE)
    for mine, theirs in zip(ours.layers, bert.encoder.layer, strict=True):
        own, output = theirs.attention.self, theirs.attention.output
        parts = (own.query, own.key, own.value)
        weight, bias = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias")
        )
        copy_attention(mine.self_attention, weight, bias)
        copy(mine.self_attention.output, output.dense)
        copy(mine.attention_norm, output.LayerNorm)
        copy(mine.feed_forward.widen, theirs.intermediate.dense)
        copy(mine.feed_forward.narrow, theirs.output.dense)
        copy(mine.feed_forward_norm, theirs.output.LayerNorm)
    _, values, mask = padded_tokens(LENGTHS, size=SIZE)
    values = values.detach().to(dtype)
    expected = bert(inputs_embeds=values, attention_mask=mask.long()).last_hidden_state
    found = ours.to(dtype).eval()(bert.embeddings(inputs_embeds=values), mask)
    torch.testing.assert_close(found[mask], expected[mask], rtol=0, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [SOME_LENGTHS, MANY_LENGTHS, (0, 4), (0, 0)], ids=len)
def test_packed_equals_padded(lengths: tuple[int, ...], causal: bool) -> None:
    places = LearnedPositions(count=40, size=SIZE, from_end=False, setting="max_positions")
    ours = noisy(Transformer(TWO_LAYERS, hidden_size=SIZE, positions=places, causal=causal))
    tokens, values, mask = padded_tokens(lengths, size=SIZE)
    padded, packed = ours(values, mask)[mask], ours.packed(tokens)
    assert packed.shape == (sum(lengths), SIZE)
    torch.testing.assert_close(packed, padded, **CLOSE)
    if sum(lengths):
        torch.testing.assert_close(
            packed_gradient(packed, tokens), packed_gradient(padded, tokens), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_rows_that_are_all_padding_give_zeros_and_finite_gradients(norm: str, causal: bool) -> None:
    settings = TransformerSettings(num_layers=2, num_heads=HEADS, norm=norm)
    ours = noisy(Transformer(settings, hidden_size=SIZE, causal=causal))
    values = torch.randn(2, 3, SIZE, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True, True, False]])
    encoded = ours(values, mask)
    assert not encoded[~mask].any()
    (encoded * torch.randn(encoded.shape, dtype=torch.float64)).sum().backward()
    assert torch.isfinite(values.grad).all()
    assert not values.grad[~mask].any()
    assert values.grad[mask].any()


def test_a_causal_output_does_not_see_what_follows() -> None:
    ours = noisy(Transformer(TWO_LAYERS, hidden_size=SIZE, causal=True))
    _, values, mask = padded_tokens((6, 6), size=SIZE)
    whole, start = ours(values, mask), ours(values[:, :4], mask[:, :4])
    torch.testing.assert_close(whole[:, :4], start, **CLOSE)


def test_the_plain_products_take_a_mask_for_each_query() -> None:
    query, key, value = torch.randn(3, 4, 2, 5, 3, dtype=torch.float64).unbind(0)
    mask = (torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.5) | torch.eye(
        5, dtype=torch.bool
    )
    fused = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask[:, None])
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value, mask), fused)


def test_heads_without_output_projection_are_concatenated() -> None:
    settings = TransformerSettings(num_heads=HEADS, feed_forward_size=WIDTH)
    sizes = {"hidden_size": SIZE, "causal": False}
    plain = noisy(TransformerLayer(settings, **sizes, output_projection=False))
    projecting = TransformerLayer(settings, **sizes, output_projection=True).double().eval()
    identity = {
        "self_attention.output.weight": torch.eye(SIZE),
        "self_attention.output.bias": torch.zeros(SIZE),
    }
    projecting.load_state_dict({**plain.state_dict(), **identity})
    _, values, mask = padded_tokens(LENGTHS, size=SIZE)
    torch.testing.assert_close(plain(values, mask), projecting(values, mask), **CLOSE)


@pytest.mark.parametrize("from_end", [False, True])
def test_positions_count_from_the_named_end(from_end: bool) -> None:
    places = LearnedPositions(count=5, size=SIZE, from_end=from_end, setting="max_history")
    mask = torch.tensor([[True, True, True, False], [False] * 4, [True] * 4])
    found = places(torch.zeros(3, 4, SIZE), mask)
    order = [[2, 1, 0], [], [3, 2, 1, 0]] if from_end else [[0, 1, 2], [], [0, 1, 2, 3]]
    for row, expected in enumerate(order):
        assert torch.equal(found[row, : len(expected)], places.vectors[expected])


def test_a_sequence_beyond_the_positions_is_refused() -> None:
    places = LearnedPositions(count=5, size=SIZE, from_end=False, setting="max_history")
    message = "a sequence of 6 is longer than max_history 5: set max_history to 6 or more"
    with pytest.raises(ConfigError, match=message):
        places(torch.zeros(1, 6, SIZE), torch.ones(1, 6, dtype=torch.bool))


def test_the_last_real_position_may_stand_behind_a_gap() -> None:
    values = torch.arange(12.0).view(3, 4, 1)
    mask = torch.tensor([[True, True, False, False], [False] * 4, [True, False, False, True]])
    assert last_real(values, mask)[:, 0].tolist() == [1.0, 0.0, 11.0]
