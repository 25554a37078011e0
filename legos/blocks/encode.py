"""What user encoders have in common: how they are called, and a term they may add to the loss."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from legos.data.readers import Readers


@runtime_checkable
class Penalised(Protocol):
    """A user encoder that adds a term to the loss."""

    def penalty(self, user: Tensor) -> Tensor:
        """The term of every row ``(B,)``, from what ``forward`` gave."""


def encode_history(
    user_encoder: nn.Module, history: Tensor, mask: Tensor, readers: Readers
) -> Tensor:
    """Call a user encoder, with the readers where its ``forward`` asks for them."""
    kind: Any = type(user_encoder)
    if _asks_for_readers(kind):
        user: Tensor = user_encoder(history, mask, readers)
    else:
        user = user_encoder(history, mask)
    return user


@cache
def _asks_for_readers(kind: Any) -> bool:
    return "readers" in inspect.signature(kind.forward).parameters
