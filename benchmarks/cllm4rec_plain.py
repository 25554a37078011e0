"""CLLM4Rec's content step as one would write it down: two passes, padding, all logits, strings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from legos.systems.cllm4rec.backbone import SoftTables

_IDS = re.compile(r"(user_\d+|item_\d+)")


class PlainContent:
    """The content model and its batches.

    Args:
        model: a causal language model of transformers without a head, frozen.
        tokenizer: ``tokenizers.Tokenizer``.
        own: tables that learn.
        other: tables that they are pulled towards.
    """

    def __init__(self, model: Any, tokenizer: Any, own: SoftTables, other: SoftTables) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.own, self.other = own, other
        self.words: nn.Embedding = model.get_input_embeddings()
        self.first_user, self.first_item = own.vocabulary.first_user, own.vocabulary.first_item

    def encode(self, text: str) -> list[int]:
        """Users and items are one token each; what stands between them is tokenized by itself."""
        ids: list[int] = []
        for piece in _IDS.split(text):
            piece = piece.rstrip()
            if not piece:
                continue
            kind, _, number = piece.partition("_")
            if kind == "user" and number.isdigit():
                ids.append(self.first_user + int(number))
            elif kind == "item" and number.isdigit():
                ids.append(self.first_item + int(number))
            else:
                ids += self.tokenizer.encode(piece, add_special_tokens=False).ids
        return ids

    def batch(self, rows: Sequence[tuple[int, int, str]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(user, item, text) -> padded prompts and main texts, each with its mask."""
        prompts = [
            self.encode(f"user_{user} wrote the following review for item_{item}:")
            for user, item, _ in rows
        ]
        mains = [self.encode(" " + text) for _, _, text in rows]
        return (*_padded(prompts), *_padded(mains))

    def embed(self, ids: Tensor, tables: SoftTables) -> Tensor:
        """Three lookups, each multiplied by its mask, summed: ``(B, L)`` -> ``(B, L, D)``."""
        word = ids < self.first_user
        item = ids >= self.first_item
        user = ~word & ~item
        limits = self.first_item - self.first_user - 1, tables.item.num_embeddings - 1
        vectors = self.words(ids.clamp(max=self.first_user - 1)) * word[..., None]
        users = (ids - self.first_user).clamp(0, limits[0])
        items = (ids - self.first_item).clamp(0, limits[1])
        vectors = vectors + tables.user(users) * user[..., None]
        result: Tensor = vectors + tables.item(items) * item[..., None]
        return result

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], weight: float) -> Tensor:
        """Mean cross-entropy of main[k + 1] after main[k], and the sum of squared distances."""
        prompt, prompt_mask, main, main_mask = batch
        own_prompt, own_main = (self.embed(ids, self.own) for ids in (prompt, main))
        first = self.model(
            inputs_embeds=own_prompt, attention_mask=prompt_mask, use_cache=True
        ).past_key_values
        states = self.model(
            inputs_embeds=own_main,
            attention_mask=torch.cat([prompt_mask, main_mask], 1),
            past_key_values=first,
            use_cache=True,
        ).last_hidden_state
        logits = states @ self.words.weight.T  # (B, T, N)
        shifted, targets = logits[:, :-1].contiguous(), main[:, 1:].contiguous()
        active = main_mask[:, 1:].reshape(-1) == 1
        likelihood = functional.cross_entropy(
            shifted.view(-1, logits.shape[-1])[active], targets.view(-1)[active]
        )
        with torch.no_grad():
            theirs = [self.embed(ids, self.other) for ids in (prompt, main)]
        masks = [mask[..., None] for mask in (prompt_mask, main_mask)]
        distance = sum(
            ((ours - fixed) * mask).square().sum()
            for ours, fixed, mask in zip((own_prompt, own_main), theirs, masks, strict=True)
        )
        result: Tensor = likelihood + weight * distance
        return result


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.int64)
    for row, found in enumerate(rows):
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = 1
    return ids, mask
