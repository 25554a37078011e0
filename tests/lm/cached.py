"""A stand-in for a language model: states that follow from the token ids alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.lm.hidden_cache import HiddenCache
from legos.lm.hidden_files import CachedPart

LAYER = CachedPart("layer_2", 4, "token")
LOWER = CachedPart("layer_11", 4, "token")
POOLED = CachedPart("pooled", 6, "item")
PARTS = [LAYER, LOWER, POOLED]
FACTS = {"model": "tiny", "texts": "a", "data": "newsroom"}
NAMES = [f"N{100 + item}" for item in range(50)]


def ragged(lists: Sequence[Sequence[int]]) -> Ragged:
    """Lists of token ids."""
    values = torch.tensor([token for tokens in lists for token in tokens], dtype=torch.int64)
    lengths = torch.tensor([0, *(len(tokens) for tokens in lists)], dtype=torch.int64)
    return Ragged(values, lengths.cumsum(0))


TEXTS = [[5, 6, 7], [], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [], [18, 19], [20, 21], [22]]
TOKENS = ragged(TEXTS)


def cache(folder: Path, tokens: Ragged = TOKENS, **facts: object) -> HiddenCache:
    """The cache of these tokens, by default of those above."""
    return HiddenCache(folder, {**FACTS, **facts}, tokens, NAMES)


def states(page: Ragged) -> dict[str, Tensor]:
    """All of ``PARTS``: each token's or each item's id sum in multiples that no type rounds."""
    ids = page.values.float()[:, None]
    sums = torch.zeros(len(page)).index_add_(0, page.rows, page.values.float())[:, None]
    return {
        LAYER.name: ids * torch.tensor([1.0, 2.0, 4.0, -1.0]),
        LOWER.name: ids * torch.tensor([0.5, 0.25, 8.0, -2.0]),
        POOLED.name: sums * torch.tensor([1.0, 0.5, 2.0, 4.0, -1.0, 0.25]),
    }


class Counted:
    """``states`` that counts the items it sees and may be stopped."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[list[int]] = []
        self.stop_after = stop_after

    def __call__(self, page: Ragged) -> Mapping[str, Tensor]:
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(page.values.tolist())
        return states(page)
