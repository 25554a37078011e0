"""The users of a batch beyond their item vectors, for the user encoders that want to know more."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from legos.data.items import ItemBatch, ItemStore


@dataclass(frozen=True)
class Readers:
    """B users about to be scored.

    A user encoder whose ``forward`` has a parameter ``readers`` is given them.

    Attributes:
        users: ``(B,)`` int64 user ids.
        items: content of items, among them all that the positions below point to.
        history: ``(B, H)`` int64 positions into ``items``, oldest first; 0 under the mask.
        candidates: ``(B, C, D)`` item vectors; None where user vectors are made before candidates
            are known, which happens only to encoders whose output is not per candidate.
        candidate_items: ``(B, C)`` int64 positions into ``items``; None as above.
        profiles: content of every user; None where the data YAML names no user fields.
    """

    users: Tensor
    items: ItemBatch
    history: Tensor
    candidates: Tensor | None = None
    candidate_items: Tensor | None = None
    profiles: ItemStore | None = None
