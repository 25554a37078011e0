"""Recommending by scores of all items, as every system does that does not write items out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.evaluation.rank import Best, top_items
from legos.systems.protocol import Readers

_NUMBERS_CPU, _NUMBERS_GPU = 2**22, 2**26  # scores held at once
_MOST = 512  # readers


class ByScores(ABC):
    """Lists of the best items by scores, see :class:`legos.systems.protocol.Recommending`.

    Args:
        offered: ``(items,)`` bool: what lists are made of.
        device: where scores are computed.
    """

    def __init__(self, offered: Tensor, device: torch.device) -> None:
        self.offered, self.device = offered.cpu(), device
        self._hidden = (~offered).nonzero()[:, 0].to(device)

    @property
    def at_once(self) -> int:
        """Readers that are scored together at most."""
        numbers = _NUMBERS_CPU if self.device.type == "cpu" else _NUMBERS_GPU
        return max(1, min(_MOST, numbers // max(1, self.offered.numel())))

    @abstractmethod
    def _scores(self, readers: Readers, items: Tensor | None) -> Tensor:
        """Scores of some items or all, ``(R, C)`` float32 on the device; may be written to."""

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """The best items of each reader."""
        found = []
        for begin in range(0, len(readers), self.at_once):
            rows = torch.arange(begin, min(begin + self.at_once, len(readers)))
            scores = self._scores(readers.part(rows), None)
            scores[:, self._hidden] = -torch.inf
            found.append(top_items(scores, excluded.select(rows).to(self.device), count))
        return Best(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))

    def scores(self, readers: Readers, items: Tensor) -> Tensor:
        """Scores of some items ``(C,)`` int64 for R readers: ``(R, C)`` float32 on the CPU."""
        rows = torch.arange(len(readers)).split(self.at_once)
        items = items.to(self.device)
        return torch.cat([self._scores(readers.part(part), items).cpu() for part in rows])
