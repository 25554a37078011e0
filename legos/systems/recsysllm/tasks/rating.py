"""Scores, like or dislike, and checks of a claimed score; ratings need no text."""

from __future__ import annotations

from typing import ClassVar

from legos.systems.recsysllm.prompts import Family
from legos.systems.recsysllm.tasks.review_tasks import ReviewTask


class RatingTask(ReviewTask):
    """Examples of family ``rating``."""

    family: ClassVar[Family] = "rating"
