"""The distinct pairs of a history and its reader that a split has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.interactions import Interactions


@dataclass(frozen=True)
class States:
    """Distinct pairs of a history and its reader.

    Attributes:
        histories: ``(S,)`` int64 row of ``histories``.
        users: ``(S,)`` int64.
    """

    histories: Tensor
    users: Tensor


def distinct_states(interactions: Interactions) -> tuple[States, Tensor]:
    """The states of a split and, for each impression, which it has: ``(n,)`` int64."""
    count = int(interactions.users.max()) + 1 if len(interactions) else 1
    pairs, owner = torch.unique(
        interactions.history_rows * count + interactions.users, return_inverse=True
    )
    return States(pairs // count, pairs % count), owner
