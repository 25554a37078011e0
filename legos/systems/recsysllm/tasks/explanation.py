"""Why a user likes an item or not: a sentence mined from the review."""

from __future__ import annotations

from typing import ClassVar

from legos.systems.recsysllm.prompts import Family
from legos.systems.recsysllm.tasks.review_tasks import ReviewTask


class ExplanationTask(ReviewTask):
    """Examples of family ``explanation``."""

    family: ClassVar[Family] = "explanation"
