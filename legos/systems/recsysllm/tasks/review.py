"""Headline from the text of a review, and its rating."""

from __future__ import annotations

from typing import ClassVar

from legos.systems.recsysllm.prompts import Family
from legos.systems.recsysllm.tasks.review_tasks import ReviewTask


class ReviewTextTask(ReviewTask):
    """Examples of family ``review``."""

    family: ClassVar[Family] = "review"
