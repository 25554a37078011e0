"""Training rows that come with items to be compared by their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from legos.data.batch import Batch, Rows
from legos.data.sampling import below, keyed_bits

_LABELS, _ITEMS = 1, 2  # keys of the two kinds of draws


class LabelDraws:
    """For every step some labels, and of each some items.

    A draw is a function of seed and step: all processes and micro-batches of a step see the same.

    Args:
        labels: ``(items,)`` int64; 0 is unknown and never drawn.
        known: ``(items,)`` bool, what may be drawn.
        classes: the most labels a step.
        samples: items of each, fewer where one is drawn twice.
        seed: of the run.
    """

    def __init__(
        self, labels: Tensor, known: Tensor, *, classes: int, samples: int, seed: int
    ) -> None:
        ids = (known & (labels > 0)).nonzero()[:, 0]
        self._items = ids[labels[ids].argsort(stable=True)]
        sizes = torch.bincount(labels[ids], minlength=1)
        several = sizes > 1  # an item alone with its label has nothing to be alike to
        self._first = (sizes.cumsum(0) - sizes)[several]
        self._sizes = sizes[several]
        self._classes, self._samples, self._seed = classes, samples, seed

    def draw(self, step: int) -> Tensor:
        """Ascending ids of items ``(M,)`` int64, each once; none where no label has two."""
        places = torch.arange(len(self._sizes), device=self._sizes.device)
        order = keyed_bits(places, 1, self._seed, step, _LABELS)[:, 0].argsort()
        chosen = order[: self._classes]
        bits = keyed_bits(chosen, self._samples, self._seed, step, _ITEMS)
        drawn = self._first[chosen, None] + below(bits, self._sizes[chosen, None])
        items: Tensor = torch.unique(self._items[drawn.flatten()])
        return items


class LabelledRows:
    """The same rows; a batch also names the items to compare, a draw a label field.

    Args:
        rows: of the training split.
        draws: one a field.
    """

    def __init__(self, rows: Rows, draws: Sequence[LabelDraws]) -> None:
        self._rows, self._draws = rows, draws
        self.impressions, self.histories = rows.impressions, rows.histories

    @classmethod
    def of(
        cls,
        rows: Rows,
        labels: Sequence[Tensor],
        known: Tensor,
        classes: int,
        samples: int,
        *,
        seed: int,
    ) -> Self:
        """Rows with a draw from each of several label fields; see :class:`LabelDraws`."""
        return cls(
            rows,
            [
                LabelDraws(each, known, classes=classes, samples=samples, seed=seed)
                for each in labels
            ],
        )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def units(self) -> int:
        """How many there are."""
        return self._rows.units

    def units_of(self, count: int) -> int:
        """How many units hold about ``count`` rows, at least one."""
        return self._rows.units_of(count)

    def count(self, units: Tensor, *, pass_number: int) -> int:
        """The rows that units ``(U,)`` int64 have in a pass."""
        return self._rows.count(units, pass_number=pass_number)

    def batch(self, units: Tensor, *, pass_number: int, step: int = 0) -> Batch:
        """Assemble the rows of units ``(U,)`` int64 in the given pass and step."""
        batch = self._rows.batch(units, pass_number=pass_number, step=step)
        return replace(batch, labelled=tuple(each.draw(step) for each in self._draws))
