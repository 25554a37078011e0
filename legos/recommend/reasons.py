"""Which clicks speak for an item, by leaving each of them out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from legos.recommend.readers import Asked, as_readers
from legos.systems.protocol import Recommending


def shares_of_clicks(model: Recommending, asked: Asked, item: Tensor) -> tuple[np.ndarray, Tensor]:
    """The clicks that a model reads, and the share of each in the score of an item.

    Each click is left out in turn and the item is scored again, which is exact for every model. A
    share is the score that goes with the click, over the sum of these of all clicks without their
    signs; below 0 the click speaks against the item. Only the newest clicks count that the model
    reads (``data.history_length``).

    Args:
        model: that scores.
        asked: the reader.
        item: ``(1,)`` int64.

    Returns:
        ``(H,)`` int64 items, oldest first, and ``(H,)`` float64.
    """
    length = model.history_length
    read = asked.history if length is None else asked.history[-length:]
    without = [np.delete(read, place) for place in range(len(read))]
    everyone = [Asked(asked.user, each, read) for each in [read, *without]]
    scores = model.scores(as_readers(everyone), item)[:, 0].double()
    drops = scores[0] - scores[1:]
    return read, drops / drops.abs().sum().clamp(min=torch.finfo(drops.dtype).tiny)
