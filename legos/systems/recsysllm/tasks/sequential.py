"""What a user takes next: named freely, among candidates, or yes or no about one item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from legos.systems.recsysllm.horizons import HorizonSampler
from legos.systems.recsysllm.prompts import Family
from legos.systems.recsysllm.tasks import draws
from legos.systems.recsysllm.tasks.sequences import HELD_OUT
from legos.systems.recsysllm.tasks.user_tasks import UserTask

_LATE, _EARLY = 4, 3  # P5: a target among the last four, a start among the first three


class SequentialTask(UserTask):
    """Examples of family ``sequential``.

    In training the last event of a window of the past is asked for; in valid and test the held-out
    event after everything before it.
    """

    family: ClassVar[Family] = "sequential"

    def _samples(self) -> Mapping[str, int]:
        own = self.settings
        return {"next": own.next_samples, "choose": own.choose_samples, "will": own.will_samples}

    def _usable(self) -> Tensor:
        if self.settings.history == "p5":
            return (self.sequences.items.lengths - HELD_OUT >= 2).nonzero()[:, 0]
        self._windows = HorizonSampler(
            self.sequences.times,
            held_out=HELD_OUT,
            settings=self.settings.horizons,
            seed=self.seed,
        )
        return self._windows.usable()

    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        if self.settings.history == "p5":
            pasts = self._as_p5(rows, numbers, epoch=epoch)
        else:
            pasts = [[] for _ in range(len(rows))]
            for sample in samples.unique().tolist():  # a window is drawn for (epoch, sample, user)
                places = (samples == sample).nonzero()[:, 0]
                drawn = self._windows.draw(
                    rows[places], epoch=epoch * len(self._groups) + sample
                ).events
                for number, (place, row) in enumerate(
                    zip(places.tolist(), rows[places].tolist(), strict=True)
                ):
                    items = self._items(row)
                    pasts[place] = [items[event] for event in drawn.row(number).tolist()]
        return [past[:-1] for past in pasts], torch.tensor([past[-1] for past in pasts])

    def _as_p5(self, rows: Tensor, numbers: Tensor, *, epoch: int) -> list[list[int]]:
        trained = self.sequences.items.lengths[rows] - HELD_OUT
        bits = draws.bits(numbers, 2, draws.EVENT, seed=self.seed, epoch=epoch)
        targets = trained - 1 - bits[:, 0] % (trained - 1).clamp(max=_LATE)
        starts = bits[:, 1] % targets.clamp(max=_EARLY)
        return [
            self._items(row)[start : target + 1]
            for row, start, target in zip(
                rows.tolist(), starts.tolist(), targets.tolist(), strict=True
            )
        ]
