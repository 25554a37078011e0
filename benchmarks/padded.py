"""NAML and NRMS as a padded loop writes them: every occurrence encoded, padding included.

The parameters are those of an assembled :class:`legos.recommender.Recommender`, so that both sides
compute the same function from the same start.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legos.data.items import ItemStore
from legos.recommender import Recommender


class PaddedLoop(nn.Module):
    """Item encoder over ``(B, H + C, T)`` padded titles, user encoder over ``(B, H)`` slots.

    Args:
        model: where the parameters come from; it is not changed.
        store: the titles, padded here to ``(items, T)``.
    """

    def __init__(self, model: Recommender, store: ItemStore) -> None:
        super().__init__()
        model = copy.deepcopy(model)
        self.item, self.user = model.item_encoder, model.user_encoder
        self.is_naml = hasattr(self.item, "convolutions")
        self.embedding = self.item.embeddings.vocabularies["bert"]
        titles = store.texts["title"]
        index = torch.arange(len(store))
        tokens, mask = titles.padded_tail(index, store.fields["title"].length)
        width = store.fields["title"].length
        self.tokens = F.pad(tokens, (0, width - tokens.shape[1]))
        self.mask = F.pad(mask, (0, width - mask.shape[1]))

    def forward(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        """Item ids ``(B, H)``, bool ``(B, H)``, item ids ``(B, C)`` -> scores ``(B, C)``."""
        slots = torch.cat([history, candidates], 1)  # (B, H + C)
        vectors = self.encode(slots.flatten()).view(*slots.shape, -1)
        read, shown = vectors.split([history.shape[1], candidates.shape[1]], 1)
        if not self.is_naml:
            read = self.attend(self.user.self_attention, read, mask)
        user = self.pool(self.user.attention, read, mask)
        return (shown @ user[..., None]).squeeze(-1)

    def encode(self, items: Tensor) -> Tensor:
        """Item ids ``(M,)`` -> ``(M, D)``."""
        mask = self.mask[items]  # (M, T)
        words = self.embedding.project(self.embedding.table[self.tokens[items]])  # (M, T, D)
        words = words * mask[..., None]
        if self.is_naml:
            convolution = self.item.convolutions["title"]
            kernel = convolution.weight.permute(1, 2, 0)  # (filters, D, kernel)
            padding = convolution.kernel_size // 2
            words = F.conv1d(words.transpose(1, 2), kernel, convolution.bias, padding=padding)
            words = torch.relu(words.transpose(1, 2))
            return self.pool(self.item.word_attention["title"], words, mask)
        words = self.attend(self.item.self_attention, words, mask)
        return self.pool(self.item.attention, words, mask)

    @staticmethod
    def pool(attention: nn.Module, values: Tensor, mask: Tensor) -> Tensor:
        """Additive attention over ``(M, S, D)``."""
        scores = attention.query(torch.tanh(attention.project(values))).squeeze(-1)
        weights = scores.masked_fill(~mask, -1e9).softmax(-1)
        return (weights[..., None] * values).sum(1)

    @staticmethod
    def attend(attention: nn.Module, values: Tensor, mask: Tensor) -> Tensor:
        """Self-attention over ``(M, S, D)``."""
        batch, length, width = values.shape
        heads = attention.num_heads
        parts = attention.project(values).view(batch, length, 3, heads, width // heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, mask[:, None, None])
        return attended.transpose(1, 2).reshape(batch, length, width)
