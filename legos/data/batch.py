"""Training rows and the columnar batch: every distinct item once, everything else as positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.items import ItemBatch, ItemStore
from legos.data.ragged import Ragged, join_rows
from legos.data.sampling import NegativeSampler
from legos.data.windows import Windows
from legos.errors import DataError

_MOST_DRAWN_AT_ONCE = 2**22  # negatives; they then take tens of megabytes


class Reads(NamedTuple):
    """What training rows read of shared sequences.

    Attributes:
        sequence: ``(B,)`` int64 which one.
        length: ``(B,)`` int64 how many of its items, counted from the first.
    """

    sequence: Tensor
    length: Tensor


class Drawn(NamedTuple):
    """How the negatives of a batch were drawn.

    Attributes:
        rate: K over the number of the other items; 1: all of them.
        log_counts: ``(B, K)`` or ``(K,)`` float32, the logarithm of how often each was expected
            among the K draws; None: once.
        shared: ``(K,)`` int64 positions into ``Batch.items`` of negatives that all rows share.
            Candidates are then the click alone, and mask and labels ``(B, 1 + K)``.
    """

    rate: float = 1.0
    log_counts: Tensor | None = None
    shared: Tensor | None = None


_ALL_OTHERS = Drawn()


@dataclass(frozen=True)
class Batch:
    """B training rows over N distinct items, which read S sequences.

    Attributes:
        items: ``(N,)`` int64 distinct item ids, ascending.
        history: ``(S, H)`` int64 positions into ``items``, oldest first; 0 under the mask.
        history_mask: ``(S, H)`` bool, True = a real item.
        candidates: ``(B, C)`` int64 positions into ``items``; column 0 is the click.
        candidate_mask: ``(B, C)`` bool.
        labels: ``(B, C)`` float32.
        users: ``(B,)`` int64.
        rows: ``(B,)`` int64 training row numbers.
        targets: where every item competes, the columns of each row's clicks; ``items`` are then all
            items and candidates, mask and labels ``(1, C)``, the same for every row. None else.
        reads: what each row reads; None: all of a sequence of its own, S is B.
        drawn: how the negatives were drawn.
        blanks: ``(S, H)`` bool places of the history that are hidden, a row each, sequence by
            sequence; a row is asked for what is there. None: rows read their sequences.
        labelled: ids of items to be compared by a label, ``(M,)`` int64 a label field.
    """

    items: Tensor
    history: Tensor
    history_mask: Tensor
    candidates: Tensor
    candidate_mask: Tensor
    labels: Tensor
    users: Tensor
    rows: Tensor
    targets: Ragged | None = None
    reads: Reads | None = None
    drawn: Drawn = _ALL_OTHERS
    blanks: Tensor | None = None
    labelled: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.rows.numel()


class Rows(Protocol):
    """What is trained on: R rows in units, which are drawn as a whole.

    Attributes:
        impressions: ``(R,)`` int64 impression of each row.
        histories: what rows have for a history.
        units: how many there are.
    """

    impressions: Tensor
    histories: TrainingHistories

    @property
    def units(self) -> int: ...
    def __len__(self) -> int: ...
    def units_of(self, count: int) -> int:
        """How many units hold about ``count`` rows, at least one."""

    def count(self, units: Tensor, *, pass_number: int) -> int:
        """The rows that units ``(U,)`` int64 have in a pass."""

    def batch(self, units: Tensor, *, pass_number: int, step: int = 0) -> Batch:
        """Assemble the rows of units ``(U,)`` int64 in the given pass, unit after unit.

        ``step`` names the draws that all rows of an optimizer step share.
        """


HistorySource = Literal["given", "clicks"]


class TrainingHistories:
    """What training rows have for a history.

    Args:
        interactions: the training split.
        source: ``given``: the history that held at the impression; ``clicks``: that and the other
            clicks of the impression, for data with one impression a user.

    Raises:
        DataError: ``clicks``, and no impression has two.
    """

    def __init__(self, interactions: Interactions, source: HistorySource) -> None:
        self.source, self.length = source, interactions.history_length
        self._lists, self._row_of = interactions.histories, interactions.history_rows
        if source == "clicks":
            clicks = clicks_of(interactions)
            if len(clicks) and int(clicks.lengths.max()) < 2:
                raise DataError(
                    f"split {interactions.split!r}: no impression has two clicks, so that one "
                    "could be the history of the other; set exp.train.history to given"
                )
            self._lists = interactions.histories.select(self._row_of)
            self._lists = join_rows([self._lists, clicks]).tail(self.length)
            self._row_of = torch.arange(len(clicks), device=clicks.offsets.device)

    @property
    def all_empty(self) -> bool:
        """Whether no row has any history."""
        return not bool(self._lists.lengths[self._row_of].any())

    def padded(self, impressions: Tensor, without: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Histories of impressions ``(B,)``: item ids ``(B, H)`` and mask, oldest first.

        ``without``: ``(B,)`` the click that a row is to predict, left out of the clicks.
        """
        history, mask = self._lists.padded_tail(self._row_of[impressions], self.length)
        if self.source == "given" or without is None:
            return history, mask
        mask = mask & (history != without[:, None])
        order = (~mask).int().sort(dim=1, stable=True).indices  # padding stays on the right
        mask = mask.gather(1, order)
        return history.gather(1, order).masked_fill(~mask, 0), mask


def clicks_of(interactions: Interactions) -> Ragged:
    """The clicked items of every impression, in the order they are shown."""
    return interactions.candidates.keep(interactions.labels == 1)


def training_clicks(interactions: Interactions) -> Ragged:
    """The same of a split to train on.

    Raises:
        DataError: there is none.
    """
    clicks = clicks_of(interactions)
    if clicks.values.numel() == 0:
        raise DataError(f"split {interactions.split!r} has no click to train on")
    return clicks


class SingleRows(ABC):
    """Training rows that each read a history of their own; a unit is a row.

    Attributes:
        impressions: ``(R,)`` int64 impression of each row.
        histories: what rows have for a history.
        positives: ``(R,)`` int64 the click of each row; None where a row asks for several.
    """

    impressions: Tensor
    histories: TrainingHistories
    positives: Tensor | None

    def __len__(self) -> int:
        return self.impressions.numel()

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self)

    def units_of(self, count: int) -> int:
        """As many as rows."""
        return count

    def count(self, units: Tensor, *, pass_number: int) -> int:
        """The rows in units ``(U,)`` int64, in every pass."""
        return units.numel()

    def batch(self, units: Tensor, *, pass_number: int, step: int = 0) -> Batch:
        """Assemble rows ``(B,)`` int64 of the given pass and step."""
        rows = units.to(self.impressions.device)
        without = None if self.positives is None else self.positives[rows]
        history, mask = self.histories.padded(self.impressions[rows], without)
        return self.assemble(rows, history, mask, pass_number=pass_number, step=step)

    @abstractmethod
    def assemble(
        self, rows: Tensor, history: Tensor, mask: Tensor, *, pass_number: int, step: int
    ) -> Batch:
        """A batch of rows ``(B,)`` int64 that read item ids ``(S, H)`` int64 under a mask."""


class SequenceRows:
    """The same rows in units of a user's sequence, which is read once for all its rows.

    Args:
        rows: of the training split, with given histories.
        interactions: the split.
    """

    def __init__(self, rows: SingleRows, interactions: Interactions) -> None:
        self._rows, self._windows = rows, Windows.of(interactions, rows.impressions)
        self._counts = self._windows.rows.lengths  # (U,) rows of each unit
        self.impressions, self.histories = rows.impressions, rows.histories

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self._windows)

    def units_of(self, count: int) -> int:
        """How many sequences hold ``count`` rows on average, at least one."""
        return max(1, round(count * self.units / len(self)))

    def count(self, units: Tensor, *, pass_number: int) -> int:
        """The rows in units ``(U,)`` int64, in every pass."""
        return int(self._counts[units.to(self.impressions.device)].sum())

    def batch(self, units: Tensor, *, pass_number: int, step: int = 0) -> Batch:
        """Assemble the rows of units ``(U,)`` int64 in the given pass and step, unit after unit."""
        windows, units = self._windows, units.to(self.impressions.device)
        rows = windows.rows.select(units)
        history, mask = windows.items.padded_tail(units, self.histories.length)
        batch = self._rows.assemble(rows.values, history, mask, pass_number=pass_number, step=step)
        return replace(batch, reads=Reads(rows.rows, windows.lengths[rows.values]))


class TrainingRows(SingleRows):
    """One row a click of the training split.

    Args:
        interactions: the training split.
        sampler: where the negatives come from.
        history: what a row has for a history.

    Raises:
        DataError: the split has no click, or none beside another where ``history`` is clicks.
    """

    positives: Tensor

    def __init__(
        self,
        interactions: Interactions,
        sampler: NegativeSampler,
        *,
        history: HistorySource = "given",
    ) -> None:
        clicks = training_clicks(interactions)
        self.interactions = interactions
        self.histories = TrainingHistories(interactions, history)
        self.sampler = sampler
        self.impressions, self.positives = clicks.rows, clicks.values
        self._drawn: tuple[int, Tensor, Tensor] | None = None

    def assemble(
        self, rows: Tensor, history: Tensor, mask: Tensor, *, pass_number: int, step: int
    ) -> Batch:
        """Draw the negatives of rows ``(B,)`` that read items ``(S, H)``."""
        negatives, negative_mask = self._negatives(rows, pass_number)
        candidates = torch.cat([self.positives[rows][:, None], negatives], 1)  # (B, 1 + K)
        candidate_mask = torch.cat([torch.ones_like(negative_mask[:, :1]), negative_mask], 1)
        items, history, candidates = distinct_items(history, mask, candidates)
        labels = torch.zeros(candidates.shape, device=candidates.device)
        labels[:, 0] = 1.0
        return Batch(
            items=items,
            history=history,
            history_mask=mask,
            candidates=candidates,
            candidate_mask=candidate_mask,
            labels=labels,
            users=self.interactions.users[self.impressions[rows]],
            rows=rows,
            drawn=Drawn(self.sampler.rate),
        )

    def _negatives(self, rows: Tensor, pass_number: int) -> tuple[Tensor, Tensor]:
        """Negatives ``(B, K)`` of the named rows, and their mask.

        A draw is a function of row and pass alone, so those of a whole pass are drawn at once where
        they are few a row: a call for 64 rows then takes nearly as long as one for 64,000.
        """
        if len(self) * self.sampler.count > _MOST_DRAWN_AT_ONCE:
            return self.sampler.draw(self.impressions[rows], rows, pass_number=pass_number)
        if self._drawn is None or self._drawn[0] != pass_number:
            everything = torch.arange(len(self), device=rows.device)
            items, mask = self.sampler.draw(self.impressions, everything, pass_number=pass_number)
            self._drawn = pass_number, items, mask
        return self._drawn[1][rows], self._drawn[2][rows]


def distinct_items(history: Tensor, mask: Tensor, candidates: Tensor) -> tuple[Tensor, ...]:
    """Replace item ids by positions into the distinct items that really occur.

    Args:
        history: ``(S, H)`` int64 item ids.
        mask: ``(S, H)`` bool; ids under it are not counted as occurring.
        candidates: ``(B, C)`` int64 item ids.

    Returns:
        items ``(N,)``, history ``(S, H)`` and candidates ``(B, C)`` as positions into it (0 under
        the mask).
    """
    read = history[mask]
    items, position = torch.unique(torch.cat([read, candidates.reshape(-1)]), return_inverse=True)
    placed = torch.zeros_like(history)
    placed[mask] = position[: read.numel()]
    return items, placed, position[read.numel() :].view_as(candidates)


@dataclass(frozen=True)
class BatchUsers:
    """The B users of a batch, beyond their item vectors.

    A user encoder whose ``forward`` has a parameter ``users`` is given them.

    Attributes:
        ids: ``(B,)`` int64.
        items: content of items, among them all that the positions below point to.
        history: ``(B, H)`` int64 positions into ``items``, oldest first; 0 under the mask.
        candidates: ``(B, C, D)`` item vectors; None where user vectors are made before candidates
            are known, which happens only to encoders whose output is not per candidate.
        candidate_items: ``(B, C)`` int64 positions into ``items``; None as above.
        profiles: content of every user; None where the data YAML names no user fields.
    """

    ids: Tensor
    items: ItemBatch
    history: Tensor
    candidates: Tensor | None = None
    candidate_items: Tensor | None = None
    profiles: ItemStore | None = None
