"""Training rows whose negatives are draws from one distribution, which the loss may correct for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from legos.data.batch import (
    Batch,
    Drawn,
    HistorySource,
    SingleRows,
    TrainingHistories,
    distinct_items,
    training_clicks,
)
from legos.data.interactions import Interactions
from legos.data.sampling import below, keyed_bits, sampling_rate

_OWN, _SHARED = 1, 2  # keys of the two kinds of draws
Spared = Literal["click", "history"]


@dataclass(frozen=True)
class Proposal:
    """A distribution Q over the catalogue.

    Attributes:
        items: ``(C,)`` int64 the catalogue.
        mass: ``(C,)`` float64 cumulated weights; None: all items are as likely.
    """

    items: Tensor
    mass: Tensor | None = None

    @classmethod
    def by_clicks(cls, items: Tensor, interactions: Interactions, power: float) -> Proposal:
        """In proportion to a power of an item's training clicks.

        Items without a click count as clicked once: an item that is never drawn would never lose.
        """
        clicks = training_clicks(interactions).values
        counts = torch.bincount(clicks, minlength=int(items.max()) + 1)[items]
        return cls(items, counts.clamp(min=1).double().pow(power).cumsum(0))

    def draw(self, bits: Tensor) -> Tensor:
        """Random bits ``(...)`` from :func:`keyed_bits` -> places in ``items``, ``(...)`` int64."""
        if self.mass is None:
            return below(bits, len(self.items))
        drawn = bits.double() / 2.0**62 * self.mass[-1]
        return torch.searchsorted(self.mass, drawn, right=True).clamp(max=len(self.items) - 1)

    def log_expected(self, places: Tensor, count: int) -> Tensor:
        """log(K q) of items at ``(...)`` places, ``(...)`` float32, for K draws."""
        if self.mass is None:
            share = torch.full(places.shape, 1 / len(self.items), device=places.device)
        else:
            before = self.mass[(places - 1).clamp(min=0)].where(places > 0, 0.0)
            share = (self.mass[places] - before) / self.mass[-1]
        return (count * share).log().float()


class ProposedRows(SingleRows):
    """One row a click; K negatives are drawn with replacement.

    A draw is a function of seed, pass and row, or of seed and step where all rows share it: it does
    not depend on processes and micro-batches.

    Args:
        interactions: the training split.
        proposal: what negatives are drawn from.
        count: K.
        seed: of the run.
        shared: one draw for all rows of a step.
        spared: which draws a row does not count: ``click``, those of its own click alone;
            ``history``, also those of its impression's other clicks and of its history.
        history: what a row has for a history.

    Raises:
        DataError: the split has no click, or none beside another where ``history`` is clicks.
        ValueError: a row's history is to be spared by draws of its own.
    """

    positives: Tensor

    def __init__(
        self,
        interactions: Interactions,
        proposal: Proposal,
        *,
        count: int,
        seed: int,
        shared: bool,
        spared: Spared,
        history: HistorySource = "given",
    ) -> None:
        if spared == "history" and not shared:
            raise ValueError("draws of a row's own spare its click alone")
        clicks = training_clicks(interactions)
        self.interactions, self.histories = interactions, TrainingHistories(interactions, history)
        self.proposal, self.shared, self.spared = proposal, shared, spared
        self.impressions, self.positives = clicks.rows, clicks.values
        self._clicks, self._count, self._seed = clicks, count, seed
        self._rate = sampling_rate(count, len(proposal.items))

    def assemble(
        self, rows: Tensor, history: Tensor, mask: Tensor, *, pass_number: int, step: int
    ) -> Batch:
        """Draw the negatives of rows ``(B,)`` that read items ``(S, H)``."""
        if self.shared:
            one = torch.zeros(1, dtype=torch.int64, device=rows.device)
            bits = keyed_bits(one, self._count, self._seed, step, _SHARED)[0]  # (K,)
        else:
            bits = keyed_bits(rows, self._count, self._seed, pass_number, _OWN)  # (B, K)
        places = self.proposal.draw(bits)
        negatives, clicks = self.proposal.items[places], self.positives[rows][:, None]
        against = self._counted(rows, negatives.expand(len(rows), -1))  # (B, K)
        shown = torch.cat([clicks.reshape(-1), negatives.reshape(-1)])
        items, history, shown = distinct_items(history, mask, shown)
        click, others = shown[: len(rows), None], shown[len(rows) :].view(negatives.shape)
        labels = torch.zeros(1, 1 + self._count, device=rows.device)
        labels[:, 0] = 1.0
        return Batch(
            items=items,
            history=history,
            history_mask=mask,
            candidates=click if self.shared else torch.cat([click, others], 1),
            candidate_mask=torch.cat([torch.ones_like(against[:, :1]), against], 1),
            labels=labels.expand(len(rows), -1),
            users=self.interactions.users[self.impressions[rows]],
            rows=rows,
            drawn=Drawn(
                self._rate,
                self.proposal.log_expected(places, self._count),
                others if self.shared else None,
            ),
        )

    def _counted(self, rows: Tensor, negatives: Tensor) -> Tensor:
        """``(B, K)`` bool, False where a draw is one of the row's spared items."""
        counted = negatives != self.positives[rows][:, None]
        if self.spared == "click":
            return counted
        impressions, data = self.impressions[rows], self.interactions
        # rows read a few items and share the negatives: look those up among these
        distinct, column = negatives[0].unique(return_inverse=True)  # (U,), (K,)
        hit = torch.zeros(len(rows), len(distinct), dtype=torch.bool, device=rows.device)
        read = data.histories.select(data.history_rows[impressions])
        for had in (read, self._clicks.select(impressions)):
            place = torch.searchsorted(distinct, had.values).clamp(max=len(distinct) - 1)
            found = distinct[place] == had.values
            hit[had.rows[found], place[found]] = True
        return counted & ~hit[:, column]
