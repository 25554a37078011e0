"""Training rows whose clicks compete with every item of the catalogue."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from legos.data.batch import Batch, HistorySource, SingleRows, TrainingHistories, training_clicks
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged


class CatalogueRows(SingleRows):
    """One row a click, or one an impression with all its clicks; no negatives are drawn.

    Args:
        interactions: the training split.
        offered: ``(items,)`` bool, the catalogue, on the same device.
        row: ``click`` or ``impression``.
        history: what a row has for a history; a row of all clicks keeps them all in it, so that the
            model is asked for what it has read (Multi-VAE).

    Raises:
        DataError: the split has no click, or none beside another where ``history`` is clicks.
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        offered: Tensor,
        row: Literal["click", "impression"],
        history: HistorySource,
    ) -> None:
        clicks = training_clicks(interactions)
        self.interactions, self.histories = interactions, TrainingHistories(interactions, history)
        self.impressions = clicks.rows
        if row == "impression":
            self.impressions = clicks.lengths.nonzero()[:, 0]
        device = offered.device
        self._items = torch.arange(offered.numel(), device=device)
        self._catalogue = offered.nonzero().T  # (1, C)
        self._column = offered.cumsum(0) - 1  # of an item among the catalogue
        self._labels = torch.zeros(self._catalogue.shape, device=device)
        self._clicks, self.positives = clicks, clicks.values if row == "click" else None

    def assemble(
        self, rows: Tensor, history: Tensor, mask: Tensor, *, pass_number: int, step: int
    ) -> Batch:
        """The targets of rows ``(B,)`` that read items ``(S, H)``; every pass has the same.

        An item is its own position, for all of them are there; a target is a column of the
        catalogue.
        """
        impressions = self.impressions[rows]
        if self.positives is None:
            targets = self._clicks.select(impressions)
        else:
            targets = Ragged(
                self.positives[rows], torch.arange(rows.numel() + 1, device=rows.device)
            )
        return Batch(
            items=self._items,
            history=history,
            history_mask=mask,
            candidates=self._catalogue,
            candidate_mask=torch.ones_like(self._catalogue, dtype=torch.bool),
            labels=self._labels,
            users=self.interactions.users[impressions],
            rows=rows,
            targets=Ragged(self._column[targets.values], targets.offsets),
        )
