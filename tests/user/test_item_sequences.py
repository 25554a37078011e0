"""Transformer, SASRec and Fastformer over histories: user by user, without padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from legos.errors import ConfigError
from legos.registry import UserEncoderConfig
from legos.user.bert4rec import BERT4RecConfig
from legos.user.fastformer import FastformerConfig
from legos.user.hstu import HSTUConfig
from legos.user.sasrec import SASRec, SASRecConfig
from legos.user.transformer import TransformerConfig
from tests.blocks.fastformer_in_numpy import encode, normalise, softmax
from tests.bricks import HIDDEN_SIZE, UserInput, random_recommender, random_store, user_input
from tests.item.padded import Array, attend, dense, numbers

LENGTHS = (0, 1, 3, 7, 2)


def built(config: UserEncoderConfig) -> nn.Module:
    encoder = random_recommender(random_store(), user=config).user_encoder.double().eval()
    for name, parameter in encoder.named_parameters():
        if name.endswith(("bias", "positions.vectors")):
            nn.init.normal_(parameter)
    return encoder


def histories(given: UserInput) -> list[Array]:
    pairs = zip(given.history, given.mask, strict=True)
    return [numbers(history[mask]) for history, mask in pairs]


def pooled(attention: nn.Module, sequence: Array) -> Array:
    return attend(attention, sequence[None], np.ones((1, len(sequence)), dtype=bool))[0]


def multi_head(
    module: nn.Module, queries: Array, values: Array, *, heads: int, causal: bool
) -> Array:
    """Vaswani et al., equation 1, for each head and each query of one sequence."""
    weights = np.split(numbers(module.project.weight), 3)
    biases = np.split(numbers(module.project.bias), 3)
    inputs = (queries, values, values)
    query, key, value = (x @ w.T + b for x, w, b in zip(inputs, weights, biases, strict=True))
    result, width = np.zeros_like(query), query.shape[1] // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for place in range(len(query)):
            seen = slice(0, place + 1 if causal else len(query))
            scores = key[seen, part] @ query[place, part] / np.sqrt(width)
            result[place, part] = softmax(scores) @ value[seen, part]
    return result


def transformer(encoder: nn.Module, sequence: Array, *, heads: int) -> Array:
    """BST's layer (equations 4-6 of its section 2.2) with places counted from the end."""
    sequence = sequence + numbers(encoder.transformer.positions.vectors)[: len(sequence)][::-1]
    for layer in encoder.transformer.layers:
        attention = layer.self_attention
        joined = multi_head(attention, sequence, sequence, heads=heads, causal=False)
        sequence = normalise(layer.attention_norm, sequence + dense(attention.output, joined))
        hidden = dense(layer.feed_forward.widen, sequence)
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)  # LeakyReLU
        fed = dense(layer.feed_forward.narrow, hidden)
        sequence = normalise(layer.feed_forward_norm, sequence + fed)
    return sequence


def reduced(encoder: nn.Module, pooling: str, sequence: Array) -> Array:
    if not len(sequence):
        return np.zeros(HIDDEN_SIZE)
    if pooling == "additive_attention":
        return pooled(encoder.attention, sequence)
    return sequence.mean(0) if pooling == "mean" else sequence[-1]


@pytest.mark.parametrize("pooling", [None, "additive_attention", "mean", "last"])
def test_transformer_pools_the_outputs_of_the_history(pooling: str | None) -> None:
    encoder = built(TransformerConfig(num_layers=2, num_heads=4, pooling=pooling))
    given = user_input(LENGTHS)
    expected = [
        reduced(encoder, pooling or "additive_attention", transformer(encoder, row, heads=4))
        for row in histories(given)
    ]
    np.testing.assert_allclose(numbers(given(encoder)), np.stack(expected), rtol=0, atol=1e-11)


@pytest.mark.parametrize("pooling", [None, "additive_attention", "mean", "last"])
def test_bst_puts_each_candidate_at_the_end_of_the_history(pooling: str | None) -> None:
    encoder = built(TransformerConfig(num_heads=4, candidate=True, pooling=pooling))
    given = user_input(LENGTHS)
    expected = [
        [
            reduced(
                encoder,
                pooling or "last",
                transformer(encoder, np.concatenate([row, candidate[None]]), heads=4),
            )
            for candidate in numbers(candidates)
        ]
        for row, candidates in zip(histories(given), given.users.candidates, strict=True)
    ]
    np.testing.assert_allclose(numbers(given(encoder)), np.array(expected), rtol=0, atol=1e-11)


def sasrec(encoder: SASRec, sequence: Array, *, heads: int) -> Array:
    """Section III: ``x + g(norm(x))`` for self-attention and feed-forward part."""
    sequence = sequence + numbers(encoder.transformer.positions.vectors)[: len(sequence)][::-1]
    for layer in encoder.transformer.layers:
        normed = normalise(layer.attention_norm, sequence)
        attention = layer.self_attention
        sequence = sequence + multi_head(attention, normed, normed, heads=heads, causal=True)
        normed = normalise(layer.feed_forward_norm, sequence)
        hidden = np.maximum(dense(layer.feed_forward.widen, normed), 0)
        sequence = sequence + dense(layer.feed_forward.narrow, hidden)
    return sequence[-1]


def released(encoder: SASRec, sequence: Array, *, heads: int) -> Array:
    """The authors' code: scaled items, normalised queries over plain keys, and these are added."""
    sequence = sequence * sequence.shape[1] ** 0.5
    sequence = sequence + numbers(encoder.transformer.positions.vectors)[: len(sequence)][::-1]
    for layer in encoder.transformer.layers:
        queries = normalise(layer.query_norm, sequence)
        attention = layer.self_attention
        sequence = queries + multi_head(attention, queries, sequence, heads=heads, causal=True)
        normed = normalise(layer.feed_forward_norm, sequence)
        hidden = np.maximum(dense(layer.feed_forward.widen, normed), 0)
        sequence = normed + dense(layer.feed_forward.narrow, hidden)
    return normalise(encoder.transformer.final_norm, sequence)[-1]


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_sasrec_is_as_transcribed(variant: str, heads: int) -> None:
    encoder = built(SASRecConfig(num_heads=heads, variant=variant))
    given, transcribed = user_input(LENGTHS), {"paper": sasrec, "released": released}[variant]
    expected = [
        transcribed(encoder, row, heads=heads) if len(row) else np.zeros(HIDDEN_SIZE)
        for row in histories(given)
    ]
    np.testing.assert_allclose(numbers(given(encoder)), np.stack(expected), rtol=0, atol=1e-11)


def test_the_variants_of_sasrec_differ_even_with_the_same_weights() -> None:
    paper, other = built(SASRecConfig()), built(SASRecConfig(variant="released"))
    weights = {
        name.replace("attention_norm", "query_norm"): value
        for name, value in paper.state_dict().items()
    }
    missing = other.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["transformer.final_norm.weight", "transformer.final_norm.bias"]
    nn.init.zeros_(other.transformer.final_norm.bias)
    given = user_input((1, 3, 7, 2))
    assert ((given(paper) - given(other)).abs().amax(1) > 1e-3).all()


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("share_layers", [True, False])
def test_fastformer_is_the_papers_equations_then_additive_attention(
    share_layers: bool, positions: bool
) -> None:
    config = FastformerConfig(
        num_layers=2, num_heads=4, share_layers=share_layers, positions=positions
    )
    encoder, given = built(config), user_input(LENGTHS)
    assert encoder.order_aware == positions
    expected = []
    for row in histories(given):
        if positions:
            row = row + numbers(encoder.fastformer.positions.vectors)[: len(row)][::-1]
        encoded = encode(encoder.fastformer, row, num_layers=2) if len(row) else None
        expected.append(
            np.zeros(HIDDEN_SIZE) if encoded is None else pooled(encoder.attention, encoded)
        )
    np.testing.assert_allclose(numbers(given(encoder)), np.stack(expected), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "config",
    [
        TransformerConfig(max_history=6),
        TransformerConfig(max_history=6, candidate=True),
        SASRecConfig(max_history=6),
        FastformerConfig(max_history=6),
        HSTUConfig(max_history=6),
        BERT4RecConfig(max_history=6),
    ],
    ids=str,
)
def test_a_history_beyond_the_positions_is_refused(config: UserEncoderConfig) -> None:
    encoder = built(config)
    user_input((3, 6), width=6)(encoder)
    with pytest.raises(ConfigError, match="a sequence of 7 is longer than max_history 6"):
        user_input((3, 6), width=7)(encoder)


def test_fastformer_without_positions_takes_a_history_of_any_length() -> None:
    encoder = built(FastformerConfig(max_history=6, positions=False))
    assert torch.isfinite(user_input((3, 7), width=7)(encoder)).all()


@pytest.mark.parametrize("kind", [TransformerConfig, SASRecConfig, FastformerConfig])
def test_heads_must_divide_the_hidden_size(kind: type[UserEncoderConfig]) -> None:
    message = "num_heads 3 does not divide hidden_size 16; choose one of"
    with pytest.raises(ConfigError, match=message):
        built(kind(num_heads=3))
