"""NAML and NRMS as one would write them by hand for speed: the same tricks and nothing else.

Distinct items of the batch, packed tokens, the frozen table folded through its projection, no
classes, no checks, no options. It is the mark our general loop is held against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.recommender import Recommender


class BareLoop:
    """One step a call.

    Args:
        model: whose weights to copy.
        store: the titles.
        data: impressions of one click and four others.
        lr: of Adam.
    """

    def __init__(self, model: Recommender, store: ItemStore, data: Interactions, lr: float) -> None:
        self.weights = {
            name: value.detach().clone().requires_grad_(True)
            for name, value in model.named_parameters()
        }
        self.table = model.item_encoder.embeddings.vocabularies["bert"].table
        self.is_naml = hasattr(model.item_encoder, "convolutions")
        self.tokens, self.offsets = store.texts["title"].values, store.texts["title"].offsets
        count = len(data)
        self.shown = data.candidates.values.view(count, -1)
        self.history = torch.zeros(count, data.history_length, dtype=torch.int64)
        self.lengths = data.histories.lengths
        slot = (
            torch.arange(data.histories.values.numel())
            - data.histories.offsets[data.histories.rows]
        )
        self.history[data.histories.rows, slot] = data.histories.values
        self.optimizer = torch.optim.Adam(list(self.weights.values()), lr)
        self.target = torch.zeros(1, dtype=torch.int64)

    def step(self, rows: Tensor) -> Tensor:
        """Train on the named impressions; returns the loss."""
        history, shown = self.history[rows], self.shown[rows]
        lengths = self.lengths[rows]
        history = history[:, : int(lengths.max())]
        mask = torch.arange(history.shape[1]) < lengths[:, None]
        slots = torch.cat([history[mask], shown.flatten()])
        items, place = slots.unique(return_inverse=True)
        vectors = self.encode(items)
        read = vectors.new_zeros(*history.shape, vectors.shape[1])
        read[mask] = vectors.index_select(0, place[: -shown.numel()])
        if not self.is_naml:
            read = self.attend("user_encoder.self_attention", self.qkv("user_encoder", read), mask)
        scores = self.additive("user_encoder.attention", read)
        weights = scores.masked_fill(~mask, -1e9).softmax(1)
        user = (weights[..., None] * read).sum(1)
        candidates = vectors.index_select(0, place[-shown.numel() :]).view(*shown.shape, -1)
        loss = F.cross_entropy(
            (candidates @ user[..., None]).squeeze(-1), self.target.expand(len(rows))
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def encode(self, items: Tensor) -> Tensor:
        start = self.offsets[items]
        lengths = self.offsets[items + 1] - start
        end = lengths.cumsum(0)
        total, count = int(end[-1]), len(items)
        row = torch.repeat_interleave(torch.arange(count), lengths, output_size=total)
        position = torch.arange(total)
        tokens = self.tokens[position + (start - end + lengths)[row]]
        used = torch.zeros(len(self.table), dtype=torch.bool)
        used[tokens] = True
        distinct = used.nonzero()[:, 0]
        index = (used.cumsum(0) - 1)[tokens]
        embedding = "item_encoder.embeddings.vocabularies.bert.project"
        words = self.linear(embedding, self.table[distinct])  # (U, D)
        if self.is_naml:
            words = self.convolve(words, index, position, (end - lengths)[row], end[row])
            scores = self.additive("item_encoder.word_attention.title", words)
        else:
            words = self.attend_packed(words, index, lengths, end - lengths)
            scores = self.additive("item_encoder.attention", words)
        weights = (scores - scores.max().detach()).exp()
        total_weight = weights.new_zeros(count).index_add(0, row, weights)
        pooled = words.new_zeros(count, words.shape[1]).index_add(0, row, words * weights[:, None])
        return pooled / total_weight[:, None]

    def convolve(
        self, words: Tensor, index: Tensor, position: Tensor, start: Tensor, end: Tensor
    ) -> Tensor:
        weight = self.weights["item_encoder.convolutions.title.weight"]
        kernel, size, _ = weight.shape
        taps = F.pad((words @ weight.flatten(0, 1).T).view(-1, size), (0, 0, 0, 1))
        result = self.weights["item_encoder.convolutions.title.bias"]
        for tap in range(kernel):
            near = position + tap - kernel // 2
            inside = (near >= start) & (near < end)
            near = index[near.clamp(0, len(index) - 1)] * kernel + tap
            result = result + taps.index_select(0, near.where(inside, len(taps) - 1))
        return torch.relu(result)

    def attend_packed(self, words: Tensor, index: Tensor, lengths: Tensor, start: Tensor) -> Tensor:
        projected = self.linear("item_encoder.self_attention.project", words)
        result, places = [], []
        for items in lengths.argsort().chunk(16):
            slots = torch.arange(int(lengths[items].max()))
            mask = slots < lengths[items][:, None]
            position = (start[items][:, None] + slots).clamp(max=len(index) - 1)
            heads = projected.index_select(0, index[position.flatten()]).view(*position.shape, -1)
            result.append(self.attend("item_encoder.self_attention", heads, mask)[mask])
            places.append(position[mask])
        return torch.cat(result).index_select(0, torch.cat(places).argsort())

    def qkv(self, encoder: str, values: Tensor) -> Tensor:
        return self.linear(f"{encoder}.self_attention.project", values)

    def attend(self, name: str, projected: Tensor, mask: Tensor, heads: int = 8) -> Tensor:
        batch, length, width = projected.shape
        query, key, value = projected.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, mask[:, None, None])
        return attended.transpose(1, 2).reshape(batch, length, width // 3)

    def additive(self, name: str, values: Tensor) -> Tensor:
        hidden = torch.tanh(self.linear(f"{name}.project", values))
        return (hidden @ self.weights[f"{name}.query.weight"].T).squeeze(-1)

    def linear(self, name: str, values: Tensor) -> Tensor:
        return F.linear(values, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
