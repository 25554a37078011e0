"""The one way to call a user encoder, whatever it wants to know."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from legos.data.readers import Readers


def encode_history(
    user_encoder: nn.Module, history: Tensor, mask: Tensor, readers: Readers
) -> Tensor:
    """Call a user encoder, with the readers where its ``forward`` asks for them."""
    if "readers" in inspect.signature(user_encoder.forward).parameters:
        user: Tensor = user_encoder(history, mask, readers)
    else:
        user = user_encoder(history, mask)
    return user
