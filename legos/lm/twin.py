"""A small random model of the same kind: what a kind computes can be tried without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from legos.lm.shrink import shrunk
from legos.lm.text_model import auto_class, call_options, text_config, text_model

_MOST_PARAMETERS = 80_000_000


class NoTwinError(Exception):
    """No small model of this kind can be built."""


@dataclass(frozen=True)
class Twin:
    """A small random model of a kind.

    Attributes:
        model: the text model, float32, on the CPU, in evaluation mode.
        layer: the number that the layer in question has there.
    """

    model: nn.Module
    layer: int


def twin(config: Any, layer: int) -> Twin:
    """Build a small random model of the kind and with the options of a configuration.

    All weights are random, also those that begin at zero.

    Args:
        config: of transformers; it is not changed.
        layer: that is looked at; layers around it stay, see :func:`legos.lm.shrink.shrunk`.

    Raises:
        NoTwinError: none that is small enough can be built and run.
    """
    first: Exception | None = None
    for small, number in shrunk(_part_with_a_model(config), layer):
        try:
            return Twin(_built(small), number)
        except Exception as error:  # whatever a kind raises, the next size is tried
            first = first or error
    raise NoTwinError(f"{type(first).__name__}: {first}")


def _part_with_a_model(config: Any) -> Any:
    """The configuration of the text model alone, where transformers builds one from it."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    part = text_config(config)
    return part if type(part) in MODEL_MAPPING else config


def _built(config: Any) -> nn.Module:
    built = auto_class(config)
    with torch.device("meta"):
        size = sum(
            p.numel() for p in built.from_config(config, trust_remote_code=False).parameters()
        )
    if size > _MOST_PARAMETERS:
        raise ValueError(f"{size:,} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = text_model(
            built.from_config(config, dtype=torch.float32, trust_remote_code=False)
        ).eval()
        _fill(model)
    with torch.no_grad():
        ids = torch.full((2, 12), 7)
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **call_options(model))
    return model


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    """Draw weights of which everything that is computed with them depends noticeably."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in model.parameters():
        if parameter.dim() < 2:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        else:
            scale = 1.0 if id(parameter) in tables else parameter.shape[-1] ** -0.5
            parameter.copy_(torch.randn_like(parameter) * scale)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0  # as it stays in training
