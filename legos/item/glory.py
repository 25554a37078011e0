"""GLORY (RecSys 2023): an item's text and, as a click, its place in the global click graph.

Yang, Liu, Suzumura, Dong and Li, "Going Beyond Local: Global Graph-Enhanced Personalized News
Recommendations", RecSys 2023 (arXiv:2307.06576): a gated graph network runs over which news were
read after which (:mod:`legos.data.click_graph`), attention fuses its state with the news' own text,
and a candidate goes through a linear layer. The first half of an item's vector represents it as a
click (text and graph); user encoder ``glory`` reads this half. The second half represents it as a
candidate (text only); predictor ``dot`` compares the user with this half.

Different from the paper: entities are left out, on both sides, since tables have none. The authors
cut a subgraph around each reader's clicks and run three layers over all edges within it; here an
item takes messages from its most frequent predecessors within as many hops as there are layers,
the same for every reader, so it is encoded once. As in their code, edge weights only choose the
neighbours. ``candidates: graph`` also gives candidates the graph, in place of the neighbours'
entities of the paper. Beware if histories contain earlier training clicks: the graph then knows the
answers of the training rows, but of no test row.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.gated_graph import GatedGraph
from legos.data.items import ItemBatch
from legos.data.ragged import Ragged
from legos.registry import BrickConfig, item_encoders

_SLOPE = 0.2  # of the authors' leaky ReLU


class GloryConfig(BrickConfig):
    name: Literal["glory"] = "glory"
    encoder: SerializeAsAny[Annotated[BrickConfig, BeforeValidator(item_encoders.validate)]]
    """The item encoder that reads what an item says."""
    num_neighbors: int = Field(8, ge=1)
    """Most frequent predecessors that an item takes messages from (8 in the authors' settings)."""
    num_layers: int = Field(2, ge=1)
    """Layers of the graph network, and hops that it sees (2 hops, 3 layers in the authors')."""
    attention_size: int = Field(200, ge=1)
    """Width of the tanh layer that weighs text and graph (200 in the authors' settings)."""
    candidates: Literal["text", "graph"] = "text"
    """What a candidate is read from: its text (the authors' code without entities), or text and
    graph, as clicks are."""


@item_encoders.register(GloryConfig)
class Glory(nn.Module):
    """Encode an item as a click and as a candidate.

    Args:
        encoder: content of N items -> ``(N, D)``.
        click_graph: a row an item, its predecessors, the most frequent first.
        hidden_size: D, where the encoder says no other.

    Attributes:
        output_size: 2 D.
    """

    def __init__(
        self, settings: GloryConfig, *, encoder: nn.Module, click_graph: Ragged, hidden_size: int
    ) -> None:
        super().__init__()
        size: int = getattr(encoder, "output_size", hidden_size)
        self.encoder = encoder
        self.graph = GatedGraph(
            click_graph.head(settings.num_neighbors), size=size, num_layers=settings.num_layers
        )
        self.attention = AdditiveAttention(size, settings.attention_size)
        self.candidate = nn.Linear(size, size)
        self.candidates = settings.candidates
        self.output_size = 2 * size

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, 2 D)``; neighbours are read from ``items.everything``."""
        nodes, place = torch.unique(items.ids, return_inverse=True)
        text, state = self.graph(nodes, lambda ids: self.encoder(items.of(ids)))
        return self._both(text, state)[place]

    def alone(self, items: ItemBatch) -> Tensor:
        """Encode each item's own text, ``(N, D)``."""
        text: Tensor = self.encoder(items)
        return text

    def joined(self, alone: Tensor) -> Tensor:
        """Combine the texts of all items along the graph: ``(N, D)`` -> ``(N, 2 D)``."""
        alone = alone.to(self.candidate.weight.dtype)
        return self._both(alone, self.graph.over_all(alone))

    def _both(self, text: Tensor, state: Tensor) -> Tensor:
        views = torch.stack([text, state.to(text.dtype)], 1)  # (N, 2, D)
        click = self.attention(views, torch.ones_like(views[..., 0], dtype=torch.bool))
        read = text if self.candidates == "text" else click
        return torch.cat([click, F.leaky_relu(self.candidate(read), _SLOPE)], 1)
