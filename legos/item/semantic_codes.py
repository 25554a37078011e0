"""The sum of learned vectors of an item's semantic codes, coarse to fine (TIGER, NeurIPS 2023).

Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023, section 3.1,
make the codes by residual quantisation of content vectors; `python -m process.semantic_codes`
makes them by residual k-means. Singh et al., "Better Generalization with Semantic IDs", RecSys
2024, look up a table a code (unigrams) and add the vectors up. ``prefix`` is the prefix
n-gram of Zheng et al., "Enhancing Embedding Representation Stability in Recommendation Systems
with Semantic ID", RecSys 2025: the table of level l goes by the first l codes together. They hash
prefixes into tables of a fixed size; here every prefix that occurs has a vector of its own.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.dropout import Dropout
from legos.blocks.packed import gather
from legos.data.items import ItemBatch
from legos.errors import ConfigError
from legos.registry import BrickConfig, item_encoders


class SemanticCodesConfig(BrickConfig):
    """Settings of the item encoder over semantic codes (`embed.item_codes`)."""

    name: Literal["semantic_codes"] = "semantic_codes"
    fusion: Literal["sum", "concat", "attention"] = "sum"
    """How the vectors of the levels meet: `sum` (the papers), a linear layer over all (`concat`),
    or additive `attention`."""
    prefix: bool = False
    """A level's table goes by all codes up to it instead of its own code."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Rate on the vectors of the levels (none in the papers)."""
    attention_size: int = Field(200, ge=1)
    """Width of the tanh layer of fusion `attention`."""


@item_encoders.register(SemanticCodesConfig)
class SemanticCodes(nn.Module):
    """Look up a vector for every level of an item's codes and fuse them.

    The codes (or prefixes) that occur are numbered when the module is made, and the tables of all
    levels stand in one. Which rows an item has goes into checkpoints, because the tables mean
    nothing without it.

    Args:
        item_codes: ``(items, L)`` int64; a row of -1 for an item without codes.

    Raises:
        ConfigError: no item has codes.
    """

    def __init__(
        self, settings: SemanticCodesConfig, *, item_codes: Tensor, hidden_size: int
    ) -> None:
        super().__init__()
        rows, count = _number(item_codes, prefix=settings.prefix)
        self.rows: Tensor  # (items, L) rows of the table, -1 where an item has no codes
        self.register_buffer("rows", rows)
        self.table = nn.Parameter(torch.randn(count, hidden_size) * 0.1)
        self.dropout = Dropout(settings.dropout)
        self.fuse = nn.ModuleDict()
        if settings.fusion == "concat":
            self.fuse["linear"] = nn.Linear(item_codes.shape[1] * hidden_size, hidden_size)
        elif settings.fusion == "attention":
            self.fuse["attention"] = AdditiveAttention(hidden_size, settings.attention_size)
        self.missing = nn.Parameter(torch.randn(hidden_size) * 0.1)

    def forward(self, items: ItemBatch) -> Tensor:
        """N items -> ``(N, D)``; ids beyond the given codes have none."""
        inside = items.ids < len(self.rows)
        rows = self.rows[items.ids.where(inside, 0)]  # (N, L)
        present = (rows[:, 0] >= 0) & inside
        vectors = gather(self.table, rows.clamp(min=0).flatten())  # (N * L, D)
        levels = self.dropout(vectors).view(*rows.shape, vectors.shape[1])  # (N, L, D)
        if "linear" in self.fuse:
            fused = self.fuse["linear"](rearrange(levels, "n l d -> n (l d)"))
        elif "attention" in self.fuse:
            fused = self.fuse["attention"](levels, torch.ones_like(rows, dtype=torch.bool))
        else:
            fused = levels.sum(1)
        return torch.where(present[:, None], fused, self.missing)


def _number(codes: Tensor, *, prefix: bool) -> tuple[Tensor, int]:
    """The row of one table for each level of each item ``(items, L)``, and its number of rows."""
    present = (codes >= 0).all(1)
    if not present.any():
        raise ConfigError(f"none of the {len(codes):,} items has semantic codes")
    rows, count = torch.full_like(codes, -1), 0
    for level in range(codes.shape[1]):
        first = 0 if prefix else level
        distinct, number = torch.unique(
            codes[present, first : level + 1], dim=0, return_inverse=True
        )
        rows[present, level] = number + count
        count += len(distinct)
    return rows, count
