"""Lists of the all-item ranking of an evaluation, to compare recommendations with."""

from __future__ import annotations

import numpy as np
import pandas as pd


def assert_same_lists(
    found: list[pd.DataFrame], expected: np.ndarray, names: np.ndarray, atol: float = 1e-5
) -> None:
    """Compare frames with lists of item numbers ``(n, k)``, -1 where a list ends.

    Where an order differs, the scores there must be level up to rounding: a batch of another shape
    is summed in another order.
    """
    assert len(found) == len(expected)
    for frame, row in zip(found, expected, strict=True):
        wanted = names[row[row >= 0]].tolist()
        listed = frame["item_id"].tolist()
        assert len(listed) == len(wanted)
        scores = frame["score"].to_numpy()
        assert (np.diff(scores) <= 0).all()
        place = {item: at for at, item in enumerate(listed)}
        for at, item in enumerate(wanted):
            if listed[at] != item:
                other = scores[place[item]] if item in place else scores[-1]
                assert abs(other - scores[at]) <= atol, (listed, wanted)
