"""What to recommend to a user of whom only the name is shown: yes or no, or among candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from legos.systems.recsysllm.prompts import Family
from legos.systems.recsysllm.tasks import draws
from legos.systems.recsysllm.tasks.sequences import HELD_OUT
from legos.systems.recsysllm.tasks.user_tasks import UserTask


class DirectTask(UserTask):
    """Examples of family ``direct``: in training about any training event of the user."""

    family: ClassVar[Family] = "direct"

    def _samples(self) -> Mapping[str, int]:
        return {
            "will": self.settings.direct_will_samples,
            "choose": self.settings.direct_choose_samples,
        }

    def _usable(self) -> Tensor:
        return (self.sequences.items.lengths > HELD_OUT).nonzero()[:, 0]

    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        trained = self.sequences.items.lengths[rows] - HELD_OUT
        places = draws.choice(numbers, trained, draws.EVENT, seed=self.seed, epoch=epoch)
        begins = self.sequences.items.offsets[rows]
        nothing: list[list[int]] = [[] for _ in range(len(rows))]
        return nothing, self.sequences.items.values[begins + places]
