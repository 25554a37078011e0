"""Ratings and explanations of items of another domain; nothing of it is trained with."""

from __future__ import annotations

from typing import ClassVar

from legos.recsysllm.prompts import Family
from legos.recsysllm.tasks.review_tasks import ReviewTask


class TransferTask(ReviewTask):
    """Examples of family ``transfer``."""

    family: ClassVar[Family] = "transfer"
