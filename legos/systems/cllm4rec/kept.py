"""Copies of the pretrained tables of one side, if finetuning does not start from the last ones.

They stay on the CPU and go into every checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from legos.errors import CheckpointError
from legos.systems.cllm4rec.model import Cllm4Rec, Side
from legos.training.weights import below

_KEPT = "kept/"  # tensors of a checkpoint


class KeptTables:
    """A copy of one side's tables as they were at their lowest score.

    Args:
        model: whose tables they are.
        side: which ones.

    Attributes:
        score: lower is better; None: none are kept yet.
    """

    def __init__(self, model: Cllm4Rec, side: Side) -> None:
        self._model, self._side = model, side
        self.score: float | None = None
        self._tensors: Mapping[str, Tensor] = {}

    def offer(self, score: float) -> None:
        """Keep the current tables, unless earlier ones had a score as low."""
        if self.score is not None and score >= self.score:
            return
        self.score = score
        self._tensors = {
            name: tensor.detach().cpu().clone()
            for name, tensor in self._model.named_parameters()
            if name.startswith(f"{self._side}.")
        }

    def put_back(self) -> None:
        """Copy the kept tables into the model, if there are any, and forget them."""
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                if name not in parameters:
                    raise CheckpointError(f"kept tables: {name!r} is not in the model")
                parameters[name].copy_(tensor)
        self.score, self._tensors = None, {}

    def tensors(self) -> dict[str, Tensor]:
        """The kept tables under the names of a checkpoint."""
        return {_KEPT + name: tensor for name, tensor in self._tensors.items()}

    def resume(self, score: float | None, tensors: Mapping[str, Tensor]) -> None:
        """Resume from the score and the ``tensors()`` of a checkpoint."""
        kept = below(tensors, _KEPT)
        self.score = score
        self._tensors = {
            name: tensor for name, tensor in kept.items() if name.startswith(f"{self._side}.")
        }
