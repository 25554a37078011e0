"""Cutting a language model below a layer: what lies below is computed once and cached.

``hidden_states[k]`` of a transformers model is the *input* of layer k. A model cut at k is the same
model without its first k layers whose public ``forward`` takes that state as ``inputs_embeds``;
what an uncut model does before its layers (token, position and type embeddings, their norm, a
projection) lets it pass. The published DIRE (ONCE, WSDM 2024) resumes at layer k + 1: it skips one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from legos.errors import ConfigError

_STACKS = ("encoder.layer", "decoder.layers", "layers", "h")


def layer_stack(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """Where a model keeps its layers: the module that holds them, its attribute, the layers.

    Raises:
        ConfigError: none of the known places.
    """
    for path in _STACKS:
        *way, name = path.split(".")
        holder: Any = model
        for step in way:
            holder = getattr(holder, step, None)
        layers = getattr(holder, name, None)
        if isinstance(layers, nn.ModuleList):
            return holder, name, layers
    raise ConfigError(
        f"{type(model).__name__}: its layers are in none of {', '.join(_STACKS)}; a model of this "
        "kind cannot be cut"
    )


def check_cut(model_name: str, cut: int, num_layers: int) -> None:
    """Raise ConfigError unless ``0 <= cut < num_layers``."""
    if not 0 <= cut < num_layers:
        why = "; the state after the last layer is normalised already" if cut == num_layers else ""
        raise ConfigError(
            f"layer {cut}: {model_name} has {num_layers} layers, so a cut lies between 0 (nothing "
            f"cached) and {num_layers - 1}{why}"
        )


def cut_below(model: nn.Module, cut: int) -> None:
    """Remove the first ``cut`` layers of a model, and its embeddings, in place.

    ``forward(inputs_embeds=(B, T, E), attention_mask=(B, T))`` then takes hidden states of depth
    ``cut``; ``input_ids`` are no longer understood.

    Raises:
        ConfigError: there is no such layer, or the model is of an unknown kind.
    """
    holder, name, layers = layer_stack(model)
    check_cut(type(model).__name__, cut, len(layers))
    setattr(holder, name, layers[cut:])
    config: Any = model.config
    config.num_hidden_layers = len(layers) - cut
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[cut:]
    for index, layer in enumerate(layers[cut:]):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", index)  # noqa: B010 - of no declared type
    _let_pass(model, holder)


def _let_pass(model: Any, holder: Any) -> None:
    """Make everything before the layers hand on what it gets."""
    if hasattr(model, "embeddings"):  # BERT and its kin
        model.embeddings = _PassThrough()
    for owner in (model, holder):
        for name in ("embed_tokens", "wte"):
            if hasattr(owner, name):
                setattr(owner, name, None)
        for name in ("embed_positions", "wpe"):
            if hasattr(owner, name):
                setattr(owner, name, _Nothing())
        if getattr(owner, "project_in", None) is not None:
            owner.project_in = None


class _PassThrough(nn.Module):
    """Stands for BERT's embeddings."""

    def forward(self, inputs_embeds: Tensor, **others: Any) -> Tensor:
        """``(B, T, E)`` -> the same."""
        return inputs_embeds


class _Nothing(nn.Module):
    """Stands for position embeddings: they are in the state already."""

    def forward(self, *arguments: Any, **others: Any) -> Tensor:
        """Zero."""
        return torch.zeros(1)
