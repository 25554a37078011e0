"""Ratings and explanations of items of another domain; nothing of it is trained with."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from legos.systems.recsysllm.prompts import Family, Prompts
from legos.systems.recsysllm.task_settings import SplitName, TaskSettings
from legos.systems.recsysllm.tasks.catalogue import Catalogue
from legos.systems.recsysllm.tasks.review_rows import ReviewRows
from legos.systems.recsysllm.tasks.review_tasks import ReviewTask


class TransferTask(ReviewTask):
    """Examples of family ``transfer``.

    Args:
        rows: reviews of the other domain.
        catalogue: names of its items and users.
        prompts: templates.
        settings: how.
        seed: of the run.
        known: ``(U,)`` bool: users of both domains, whom alone P5 asks about; where there is none,
            and without it, everyone is.
    """

    family: ClassVar[Family] = "transfer"

    def __init__(
        self,
        rows: ReviewRows,
        catalogue: Catalogue,
        prompts: Prompts,
        settings: TaskSettings,
        *,
        seed: int,
        known: Tensor | None = None,
    ) -> None:
        super().__init__(rows, catalogue, prompts, settings, seed=seed)
        self.known = known if known is not None and bool(known.any()) else None

    def evaluation_rows(self, split: SplitName, name: str) -> Tensor:
        """Those of users of both domains, where there are any; see :class:`ReviewTask`."""
        rows = super().evaluation_rows(split, name)
        return rows if self.known is None else rows[self.known[self.rows.users[rows]]]
