"""Fastformer's equations in numpy, position by position."""

from __future__ import annotations

import numpy as np
from scipy.special import erf
from torch import nn

from legos.blocks.fastformer import Fastformer, FastformerAttention
from tests.item.padded import Array, dense, numbers


def softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def attention(module: FastformerAttention, sequence: Array) -> Array:
    """Equations 3-8 on one sequence ``(S, D)``; the value is the query."""
    queries, keys = np.split(dense(module.project, sequence), 2, axis=1)
    width = queries.shape[1] // module.num_heads
    interactions = np.zeros_like(queries)
    for head in range(module.num_heads):
        part = slice(head * width, (head + 1) * width)
        query, key, value = queries[:, part], keys[:, part], queries[:, part]
        alpha = softmax(query @ numbers(module.query_weight)[head] / np.sqrt(width))
        global_query = sum(a * q for a, q in zip(alpha, query, strict=True))
        in_context = np.stack([global_query * k for k in key])
        beta = softmax(in_context @ numbers(module.key_weight)[head] / np.sqrt(width))
        global_key = sum(b * p for b, p in zip(beta, in_context, strict=True))
        interactions[:, part] = np.stack([global_key * v for v in value])
    return dense(module.transform, interactions) + queries


def normalise(norm: nn.LayerNorm, values: Array) -> Array:
    centred = values - values.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + norm.eps)
    return scaled * numbers(norm.weight) + numbers(norm.bias)


def encode(module: Fastformer, sequence: Array, num_layers: int) -> Array:
    """All layers on one sequence ``(S, D)`` to which positions have been added."""
    for number in range(num_layers):
        layer = module.layers[number % len(module.layers)]
        attended = sequence + attention(layer.attention, sequence)
        sequence = normalise(layer.attention_norm, attended)
        hidden = dense(layer.feed_forward.widen, sequence)
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2  # gelu
        fed = sequence + dense(layer.feed_forward.narrow, hidden)
        sequence = normalise(layer.feed_forward_norm, fed)
    return sequence
