"""Table ``reviews``: what users rated or wrote, one row an interaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from process.interactions.rows import Interactions
from process.interactions.splits import SPLITS
from process.raw import FurtherTable

REVIEWS = "reviews"
CODES = "split"  # vocabulary of the column of the same name


def reviews_table(
    interactions: Interactions, codes: np.ndarray, texts: Mapping[str, Sequence[str]]
) -> dict[str, FurtherTable]:
    """Table ``reviews``, one row an interaction; none where nobody said or rated anything."""
    if not texts and np.isnan(interactions.rating).all():
        return {}
    table = FurtherTable(
        columns={
            "user_id": interactions.user,
            "item_id": interactions.item,
            "rating": interactions.rating,
            "time": interactions.seconds,
            CODES: codes,
        },
        vocabularies={"user_id": "user_id", "item_id": "item_id", CODES: CODES},
        entries={CODES: list(SPLITS)},
        texts=texts,
    )
    return {REVIEWS: table}
