"""Padded numpy transcriptions of the parts that the papers' equations are made of."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from legos.data.items import ItemBatch
from legos.recommender import Recommender
from tests.bricks import lists

Array = np.ndarray


def numbers(parameter: torch.Tensor) -> Array:
    return parameter.detach().numpy()


def table(model: Recommender, vocabulary: str) -> Array:
    """``(V, D)`` projected vectors of a whole vocabulary."""
    embedding = model.item_encoder.embeddings.vocabularies[vocabulary]
    return numbers(embedding(torch.arange(embedding.table.shape[0])))


def words(model: Recommender, items: ItemBatch, field: str) -> tuple[Array, Array]:
    """``(N, T, D)`` token vectors of a text field, zeros under the mask ``(N, T)``."""
    rows, vectors = lists(items.texts[field]), table(model, "words")
    mask = np.arange(max(1, *(len(row) for row in rows))) < [[len(row)] for row in rows]
    padded = np.zeros((*mask.shape, vectors.shape[1]))
    for item, row in enumerate(rows):
        padded[item, : len(row)] = vectors[row]
    return padded, mask


def convolve(values: Array, weight: Array, bias: Array) -> Array:
    """NAML equation 1: ``c_i = F . w_[i-M : i+M] + b``, zeros beyond the ends."""
    reach = len(weight) // 2
    wide = np.pad(values, ((0, 0), (reach, reach), (0, 0)))
    length = values.shape[1]
    return bias + sum(wide[:, tap : tap + length] @ weight[tap].T for tap in range(len(weight)))


def attend(attention: nn.Module, values: Array, mask: Array) -> Array:
    """NAML equations 2-4, NRMS equations 5-7: ``(N, S, D)`` -> ``(N, D)``."""
    hidden = np.tanh(values @ numbers(attention.project.weight).T + numbers(attention.project.bias))
    scores = np.exp(hidden @ numbers(attention.query.weight)[0]) * mask
    weights = scores / np.maximum(scores.sum(1, keepdims=True), 1e-300)
    return (weights[..., None] * values).sum(1)


def self_attend(attention: nn.Module, values: Array, mask: Array) -> Array:
    """NRMS equations 1-4 with query and key of their own: ``(N, S, D)`` -> ``(N, S, D)``."""
    projected = values @ numbers(attention.project.weight).T + numbers(attention.project.bias)
    query, key, value = np.split(projected, 3, axis=-1)
    width = values.shape[-1] // attention.num_heads
    heads = []
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[..., part] @ key[..., part].transpose(0, 2, 1) / np.sqrt(width)
        scores = np.exp(scores - scores.max(-1, keepdims=True)) * mask[:, None, :]
        weights = scores / np.maximum(scores.sum(-1, keepdims=True), 1e-300)
        heads.append(weights @ value[..., part])
    joined = np.concatenate(heads, -1)
    if isinstance(attention.output, nn.Linear):
        joined = joined @ numbers(attention.output.weight).T + numbers(attention.output.bias)
    return joined * mask[..., None]


def dense(linear: nn.Linear, values: Array) -> Array:
    return values @ numbers(linear.weight).T + numbers(linear.bias)
