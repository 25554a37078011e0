"""Prompts read once: their keys and values, for all that is asked about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from legos.errors import DataError
from legos.systems.recsysllm.backbones.decoder import InfillBackbone, new_cache
from legos.systems.recsysllm.positions.layout import Side, lay_out
from legos.systems.recsysllm.positions.positions import Examples


@dataclass(frozen=True)
class ReadPrompts:
    """B prompts and what a backbone made of them.

    Attributes:
        prompts: Part A alone.
        real: ``(B, A)`` bool: a token, not a free place.
        held: keys and values; never changed.
    """

    prompts: Examples
    real: Tensor
    held: Any

    def cache(self) -> Any:
        """A cache that begins with the prompts, for whoever goes on."""
        own = new_cache()
        for number, layer in enumerate(self.held.layers):
            own.update(layer.keys, layer.values, number)
        return own

    def only_blanks(self) -> Tensor:
        """Inter-position of the one blank of each prompt, ``(B,)`` int64.

        Raises:
            DataError: a prompt has none or several.
        """
        wrong = (self.prompts.masks.lengths != 1).nonzero()[:, 0]
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"prompt {row}: {int(self.prompts.masks.lengths[row])} blanks, expected exactly one"
            )
        return self.prompts.mask_inter.values


@torch.no_grad()
def read_prompts(
    backbone: InfillBackbone, prompts: Examples, *, side: Side = "right", bidirectional: bool = True
) -> ReadPrompts:
    """Read prompts side by side.

    Args:
        backbone: in evaluation mode.
        prompts: B, Part A alone, on its device.
        side: where they are padded.
        bidirectional: as in training.
    """
    layout = lay_out(prompts, pad=backbone.special.pad, side=side, bidirectional=bidirectional)
    cache = new_cache()
    backbone.states(layout.places, layout.mask, cache)
    return ReadPrompts(prompts, layout.real, cache)
