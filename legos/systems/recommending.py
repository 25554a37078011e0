"""Recommendation by scores of all items, for systems that do not generate items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor

from legos.data.new_items import NewItems
from legos.data.ragged import Ragged
from legos.errors import ConfigError
from legos.evaluation.rank import Best, join_lists, rows_at_once, top_items
from legos.systems.protocol import Readers

_MOST = 512  # readers that are scored together


class ByScores(ABC):
    """Lists of the best items by scores, see :class:`legos.systems.protocol.Recommending`.

    A system says how it computes scores; what else it can do it adds.

    Args:
        offered: ``(items,)`` bool: what lists are made of.
        device: where scores are computed.
    """

    @property
    def history_length(self) -> int | None:
        """Maximum number of newest items of a history that are read; None: all."""
        return None

    @property
    def reads(self) -> Sequence[str]:
        """Fields of the tables that describe an item."""
        return ()

    @property
    def similarity(self) -> Literal["dot", "cosine"] | None:
        """How scores follow from vectors of readers and items; None: not by a single product."""
        return None

    def __init__(self, offered: Tensor, device: torch.device) -> None:
        self.offered, self.device = offered.cpu(), device
        self._hidden = (~offered).nonzero()[:, 0].to(device)

    @property
    def at_once(self) -> int:
        """Maximum number of readers that are scored together."""
        return min(_MOST, rows_at_once(self.offered.numel(), self.device))

    @abstractmethod
    def compute(self, readers: Readers, items: Tensor | None) -> Tensor:
        """Score some items ``(C,)`` int64 on the device, or all (None).

        Returns:
            ``(R, C)`` float32 on the device, which may be written to.
        """

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """Find the best items of each reader."""
        found = []
        for begin in range(0, len(readers), self.at_once):
            rows = torch.arange(begin, min(begin + self.at_once, len(readers)))
            scores = self.compute(readers.part(rows), None)
            scores[:, self._hidden] = -torch.inf
            found.append(top_items(scores, excluded.select(rows).to(self.device), count))
        best = join_lists(found)
        return Best(best.items.cpu(), best.scores.cpu())

    def scores(self, readers: Readers, items: Tensor) -> Tensor:
        """Score some items ``(C,)`` int64 for R readers: ``(R, C)`` float32 on the CPU."""
        rows = torch.arange(len(readers)).split(self.at_once)
        items = items.to(self.device)
        return torch.cat([self.compute(readers.part(part), items).cpu() for part in rows])

    def item_vectors(self) -> Tensor:
        """``(items, D)`` float32 on the CPU; here a ConfigError: there are none."""
        raise ConfigError("this model has no vectors of items")

    def reader_vectors(self, readers: Readers) -> Tensor:
        """``(R, D)`` float32 on the CPU; here a ConfigError: there are none."""
        raise ConfigError("this model has no vectors of users")

    def extended(self, items: NewItems) -> Self:
        """Return a recommender with further items; here a ConfigError: not supported."""
        raise ConfigError(
            "this model takes no new items; it has to be trained again with them "
            f"({items.ids[0]!r}, ...)"
        )
