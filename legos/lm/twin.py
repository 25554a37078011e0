"""A small random model of the same kind: what a kind computes can be tried without its weights.

Its configuration has the same kind and options, with small numbers in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import nn

from legos.lm.text_model import auto_class, call_options, text_config, text_model

_MOST_PARAMETERS = 80_000_000
WORDS = 256  # rows of a small token table
_EXPERTS = 16
_WINDOW = 4  # tokens of a local attention, so that short texts reach beyond it
_CHUNK = 16  # tokens, or numbers of a state, that a state space model works on at once
_FACTORS = (64, 32, 16, 8, 4, 2, 1)
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
_WIDTH = (
    *("_size", "_dim", "_dims", "_rank", "_width", "_features", "d_model", "d_kv", "d_ff"),
    *("d_inner", "d_head", "d_ssm", "n_embd", "n_inner", "dim"),
)
_NO_WIDTH = (
    *("vocab", "window", "chunk", "kernel", "num_", "max_", "patch", "image", "block_size"),
    *("batch", "group", "conv", "position", "buckets", "temporal", "spatial", "n_head"),
    *("segment", "capacity", "pool", "hash", "lsh", "landmark", "state_size", "tokens"),
    *("d_state", "axial"),
)
_HEAD = ("head_dim", "d_kv", "d_head", "rotary_dim", "head_size", "rope_dim")


class NoTwinError(Exception):
    """No small model of this kind can be built."""


@dataclass(frozen=True)
class Twin:
    """A small random model of a kind."""

    model: nn.Module  # the text model, float32, on the CPU, in evaluation mode
    layer: int  # the number that the layer in question has there


def twin(config: Any, layer: int) -> Twin:
    """Build a small random model of the kind and with the options of a configuration.

    All weights are random, also those that begin at zero. Layers around ``layer`` stay, see
    :func:`shrunk`.

    Raises:
        NoTwinError: none that is small enough can be built and run.
    """
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    part = text_config(config)  # the text model alone, where transformers builds one from it
    first: Exception | None = None
    for small, number in shrunk(part if type(part) in MODEL_MAPPING else config, layer):
        try:
            return Twin(_built(small), number)
        except Exception as error:  # whatever a kind raises, the next size is tried
            first = first or error
    raise NoTwinError(f"{type(first).__name__}: {first}")


def _built(config: Any) -> nn.Module:
    build = auto_class(config).from_config
    with torch.device("meta"):
        parameters = build(config, trust_remote_code=False).parameters()
        size = sum(parameter.numel() for parameter in parameters)
    if size > _MOST_PARAMETERS:
        raise ValueError(f"{size:,} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = text_model(build(config, dtype=torch.float32, trust_remote_code=False)).eval()
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


def shrunk(config: Any, layer: int) -> Iterator[tuple[Any, int]]:
    """Yield small configurations of a kind, the smallest first, and the layer's number there.

    Widths are divided by one power of two; token tables, experts and windows are made small; of
    the layers a few around one of them stay, in another turn all. Heads and switches stay.
    """
    given = config.to_dict()
    depth = getattr(config, "num_hidden_layers", 0) or 0
    few = sorted({0, 1, layer - 1, layer, layer + 1, depth - 1} & set(range(depth)))
    every = list(range(depth))
    most = _largest_factor(given)
    for kept in [few, every] if len(few) < depth else [every]:
        fewer = _with_layers(given, depth, kept)
        for factor in (factor for factor in _FACTORS if factor <= most):
            try:
                small = type(config).from_dict(_smaller_section(fewer, factor))
            except Exception as error:  # a configuration may refuse these sizes
                logging.getLogger(__name__).debug("none at 1/%d: %s", factor, error)
                continue
            yield small, kept.index(layer) if layer in kept else 0


def _with_layers(given: dict[str, Any], depth: int, kept: Sequence[int]) -> dict[str, Any]:
    """Only the layers of these numbers."""
    changed = dict(given)
    for key, value in given.items():
        if key in _DEPTHS and value == depth:
            changed[key] = len(kept)
        elif isinstance(value, list) and len(value) == depth and depth > 1:
            changed[key] = [value[number] for number in kept]
    return changed


def _largest_factor(given: dict[str, Any]) -> int:
    """The largest division that leaves every head at least four wide, and even."""
    most = _FACTORS[0]
    for values in _sections(given):
        numbers = {str(key): value for key, value in values.items() if isinstance(value, int)}
        width, heads = numbers.get("hidden_size", 0), numbers.get("num_attention_heads", 0)
        sizes = [value for key, value in numbers.items() if key.endswith(_HEAD) and value > 1]
        if not sizes and heads and width % heads == 0:
            sizes.append(width // heads)
        if width:
            sizes.append(width // 4)
        for size in sizes:
            while most > 1 and (size % most or (size // most) % 2 or size // most < 4):
                most //= 2
    return most


def _sections(given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield given
    for value in given.values():
        if isinstance(value, dict):
            yield from _sections(value)


def _smaller_section(given: dict[str, Any], factor: int) -> dict[str, Any]:
    return {key: _smaller(str(key), value, factor) for key, value in given.items()}


def _smaller(key: str, value: Any, factor: int) -> Any:
    if isinstance(value, dict):
        return _smaller_section(value, factor)
    if isinstance(value, list):
        return _smaller_list(key, value, factor)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return value
    if "vocab_size" in key and key != "type_vocab_size":
        return min(value, WORDS)
    if key.endswith(("token_id", "token_index")):
        return value if value < WORDS else value % 5
    if key.endswith("experts"):
        return min(value, _EXPERTS)
    if key in ("sliding_window", "local_attention", "attention_window", "window_size"):
        return min(value, _WINDOW)
    if key.endswith(("chunk_size", "d_state", "state_size")):
        return min(value, _CHUNK)
    if key.endswith(_WIDTH) and not any(part in key for part in _NO_WIDTH):
        return ceil(value / factor)
    return value


def _smaller_list(key: str, value: list[Any], factor: int) -> list[Any]:
    if key in ("short_factor", "long_factor"):  # one for each pair of a head's numbers
        return value[: max(1, len(value) // factor)]
    if key == "mrope_section":  # they add up to the pairs of a head's numbers
        first = [max(1, each // factor) for each in value[:-1]]
        return [*first, max(1, sum(value) // factor - sum(first))]
    if key.endswith("token_id") or key in ("attention_window", "window_size"):
        return [_smaller(key, each, factor) for each in value]
    return value
