"""Recommending by scores of all items, as every system does that does not write items out."""

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
        """The newest items of a history that are read at most; None: all."""
        return None

    @property
    def reads(self) -> Sequence[str]:
        """Fields of the tables that an item is known by."""
        return ()

    @property
    def similarity(self) -> Literal["dot", "cosine"] | None:
        """How the vectors of readers and items give scores; None: not by one product of them."""
        return None

    def __init__(self, offered: Tensor, device: torch.device) -> None:
        self.offered, self.device = offered.cpu(), device
        self._hidden = (~offered).nonzero()[:, 0].to(device)

    @property
    def at_once(self) -> int:
        """Readers that are scored together at most."""
        return min(_MOST, rows_at_once(self.offered.numel(), self.device))

    @abstractmethod
    def compute(self, readers: Readers, items: Tensor | None) -> Tensor:
        """Scores of some items ``(C,)`` int64 on the device, or of all (None).

        Returns:
            ``(R, C)`` float32 on the device, which may be written to.
        """

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """The best items of each reader."""
        found = []
        for begin in range(0, len(readers), self.at_once):
            rows = torch.arange(begin, min(begin + self.at_once, len(readers)))
            scores = self.compute(readers.part(rows), None)
            scores[:, self._hidden] = -torch.inf
            found.append(top_items(scores, excluded.select(rows).to(self.device), count))
        best = join_lists(found)
        return Best(best.items.cpu(), best.scores.cpu())

    def scores(self, readers: Readers, items: Tensor) -> Tensor:
        """Scores of some items ``(C,)`` int64 for R readers: ``(R, C)`` float32 on the CPU."""
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
        """The same with further items; here a ConfigError: it takes none."""
        raise ConfigError(
            "this model takes no new items; it has to be trained again with them "
            f"({items.ids[0]!r}, ...)"
        )
