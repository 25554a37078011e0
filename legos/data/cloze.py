"""Training rows that are blanks in a user's sequence, filled in from both sides (the Cloze task).

Sun et al., "BERT4Rec", CIKM 2019 (arXiv:1904.06690), section 3.6.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from legos.data.batch import Batch, SingleRows
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged, from_owners, join_rows, stack
from legos.data.sampling import keyed_bits
from legos.data.windows import Windows
from legos.registry import Cloze

_ROW, _SEQUENCE = 3, 4  # keys of the two kinds of draws, beside those of negatives
_BITS = 2.0**62


class ClozeRows:
    """A user's sequence is a unit; its clicks that a pass hides are the rows of that pass.

    A sequence is a window (``legos.data.windows``) and the click that follows it. A click that is
    not the next item of its window, such as the second one of an impression, ends a sequence of its
    own. What is hidden is a function of seed, pass and row.

    Args:
        rows: a row a click of the training split, with given histories.
        interactions: the split.
        cloze: what is hidden.
        seed: of the run.

    Attributes:
        impressions: ``(R,)`` int64 impression of each click.
        histories: what rows have for a history where nothing is hidden.
    """

    def __init__(
        self, rows: SingleRows, interactions: Interactions, cloze: Cloze, *, seed: int
    ) -> None:
        if rows.positives is None:
            raise ValueError(
                "each blank must be a single click, but these rows have several targets"
            )
        self._rows, self._cloze, self._seed = rows, cloze, seed
        self.impressions, self.histories = rows.impressions, rows.histories
        windows = Windows.of(interactions, rows.impressions)
        self._places = windows.lengths  # (R,) of each click in its sequence
        self._sequences, self._members = _sequences(windows, rows.positives)
        sizes = self._members.lengths.double()
        hidden = cloze.probability * sizes + (1 - cloze.probability) ** sizes  # at least one
        self._mean = float((hidden + cloze.last_share * (1 - hidden)).mean())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self._sequences)

    def units_of(self, count: int) -> int:
        """How many sequences have ``count`` blanks on average, at least one."""
        return max(1, round(count / self._mean))

    def count(self, units: Tensor, *, pass_number: int) -> int:
        """The blanks of units ``(U,)`` int64 in a pass."""
        return int(self._hidden(units.to(self.impressions.device), pass_number)[1].sum())

    def batch(self, units: Tensor, *, pass_number: int, step: int = 0) -> Batch:
        """Assemble the blanks of units ``(U,)`` int64, unit after unit, oldest first."""
        units = units.to(self.impressions.device)
        clicks, hidden = self._hidden(units, pass_number)
        rows = clicks.values[hidden]  # (B,)
        items, mask = self._sequences.padded_tail(units, self.histories.length + 1)
        blanks = torch.zeros_like(mask)
        blanks[clicks.rows[hidden], self._places[rows]] = True
        shown = mask & ~blanks
        batch = self._rows.assemble(
            rows, items.masked_fill(blanks, 0), shown, pass_number=pass_number, step=step
        )
        return replace(batch, history_mask=mask, blanks=blanks)

    def _hidden(self, units: Tensor, pass_number: int) -> tuple[Ragged[Tensor], Tensor]:
        """The clicks of units ``(U,)``, P in all, and ``(P,)`` bool which of them are hidden."""
        clicks = self._members.select(units)
        keys = keyed_bits(clicks.values, 1, self._seed, pass_number, _ROW)[:, 0].double() / _BITS
        ends = clicks.values[clicks.offsets[1:] - 1]  # a sequence goes by its last click
        bits = keyed_bits(ends, 1, self._seed, pass_number, _SEQUENCE)[:, 0]
        owners = clicks.rows
        last_alone = (bits.double() / _BITS < self._cloze.last_share)[owners]
        least = keys.new_ones(len(units)).scatter_reduce(0, owners, keys, "amin")[owners]
        hidden = (keys < self._cloze.probability) | (keys == least)
        return clicks, torch.where(last_alone, clicks.to_end == 1, hidden)


def _sequences(windows: Windows, clicks: Tensor) -> tuple[Ragged[Tensor], Ragged[Tensor]]:
    """Items of each sequence, and the rows of its clicks that may be hidden, oldest first.

    Args:
        windows: of R rows.
        clicks: ``(R,)`` int64 item of each.
    """
    rows, owners = windows.rows.values, windows.rows.rows
    places, items = windows.lengths[rows], windows.items
    at_end = places == items.lengths[owners]
    behind = torch.cat([items.values, clicks[:1]])[items.offsets[owners] + places]
    follows = at_end | (behind == clicks[rows])
    candidates = follows.nonzero()[:, 0]
    first = torch.ones_like(candidates, dtype=torch.bool)
    first[1:] = (owners[candidates].diff() != 0) | (places[candidates].diff() != 0)
    inside = torch.zeros_like(follows)
    inside[candidates[first]] = True
    members = from_owners(rows[inside], owners[inside], len(windows))
    ends = members.values[members.offsets[1:] - 1]  # the longest row of a window is in it
    whole = join_rows([items, _one_each(clicks[ends])])
    apart = rows[~inside]
    heads = items.select(owners[~inside]).head(places[~inside])
    alone = join_rows([heads, _one_each(clicks[apart])])
    return stack([whole, alone]), stack([members, _one_each(apart)])


def _one_each(values: Tensor) -> Ragged[Tensor]:
    """``(N,)`` as N rows of one."""
    return Ragged(values, torch.arange(len(values) + 1, device=values.device))
