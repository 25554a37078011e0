"""A small random model of the same kind: what a kind computes can be tried without its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from torch import nn

from legos.lm.text_model import auto_class, call_options, text_config, text_model

_WORDS = 256  # rows of a twin's token table
_EXPERTS = 16
_WINDOW = 4  # tokens of a local attention, so that short texts reach beyond it
_MOST_PARAMETERS = 60_000_000
_FACTORS = (64, 32, 16, 8, 4, 2, 1)
_WIDTH = (
    *("_size", "_dim", "_dims", "_rank", "_width", "_features", "d_model", "d_kv", "d_ff"),
    *("d_inner", "d_head", "n_embd", "n_inner", "dim"),
)
_NO_WIDTH = (
    *(
        "vocab",
        "window",
        "chunk",
        "kernel",
        "num_",
        "max_",
        "patch",
        "image",
        "block_size",
        "batch",
    ),
    *("group", "conv", "position", "buckets", "temporal", "spatial", "n_head", "segment"),
    *("capacity", "pool", "hash", "lsh", "landmark", "state_size", "tokens", "d_state", "axial"),
)
_HEAD = ("head_dim", "d_kv", "d_head", "rotary_dim", "head_size", "rope_dim")


class NoTwinError(Exception):
    """No small model of this kind can be built."""


def twin(config: Any, *, seed: int = 0) -> nn.Module:
    """Build a small random model of the kind and with the options of a configuration.

    Widths are divided by one power of two; token tables, experts and windows are made small;
    layers, heads and every switch stay. All weights are random, also those that begin at zero.

    Args:
        config: of transformers; it is not changed.
        seed: of the weights.

    Returns:
        the text model, float32, on the CPU, in evaluation mode.

    Raises:
        NoTwinError: none that is small enough can be built and run.
    """
    first: Exception | None = None
    for shrunk in _attempts(_part_with_a_model(config)):
        try:
            return _built(shrunk, seed)
        except Exception as error:  # whatever a kind raises, the next size is tried
            first = first or error
    raise NoTwinError(f"{type(first).__name__}: {first}")


def _part_with_a_model(config: Any) -> Any:
    """The configuration of the text model alone, where transformers builds one from it."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    part = text_config(config)
    return part if type(part) in MODEL_MAPPING else config


def _attempts(config: Any) -> Iterator[Any]:
    given = config.to_dict()
    most = _largest_factor(given)
    for factor in _FACTORS:
        if factor <= most:
            try:
                yield type(config).from_dict(_shrunk(given, factor))
            except Exception as error:  # a configuration may refuse these sizes
                logging.getLogger(__name__).debug("no twin at 1/%d: %s", factor, error)


def _built(config: Any, seed: int) -> nn.Module:
    built = auto_class(config)
    with torch.device("meta"):
        size = sum(
            p.numel() for p in built.from_config(config, trust_remote_code=False).parameters()
        )
    if size > _MOST_PARAMETERS:
        raise ValueError(f"{size:,} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = text_model(
            built.from_config(config, dtype=torch.float32, trust_remote_code=False)
        ).eval()
        _fill(model)
    with torch.no_grad():
        ids = torch.full((2, 3), 7)
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **call_options(model))
    return model


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    """Weights of which everything that is computed with them depends noticeably."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in model.parameters():
        if parameter.dim() < 2:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        else:
            scale = 1.0 if id(parameter) in tables else parameter.shape[-1] ** -0.5
            parameter.copy_(torch.randn_like(parameter) * scale)


def _largest_factor(given: dict[str, Any]) -> int:
    """The largest division that leaves every head at least four wide, and even."""
    most = _FACTORS[0]
    for values in _sections(given):
        width, heads = values.get("hidden_size"), values.get("num_attention_heads")
        sizes = [
            v for k, v in values.items() if str(k).endswith(_HEAD) and isinstance(v, int) and v > 1
        ]
        if not sizes and isinstance(width, int) and isinstance(heads, int) and width % heads == 0:
            sizes.append(width // heads)
        if isinstance(width, int):
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


def _shrunk(given: dict[str, Any], factor: int) -> dict[str, Any]:
    return {key: _smaller(str(key), value, factor) for key, value in given.items()}


def _smaller(key: str, value: Any, factor: int) -> Any:
    if isinstance(value, dict):
        return _shrunk(value, factor)
    if isinstance(value, bool) or not isinstance(value, int | list):
        return value
    if isinstance(value, list):
        return _smaller_list(key, value, factor)
    if key == "vocab_size" or (key.endswith("_vocab_size") and key != "type_vocab_size"):
        return min(value, _WORDS)
    if key.endswith("token_id") or key.endswith("token_index"):
        return value if 0 <= value < _WORDS else value % 5 if value > 0 else value
    if key.endswith("experts") and value > _EXPERTS:
        return _EXPERTS
    if key in ("sliding_window", "local_attention", "attention_window", "window_size"):
        return min(value, _WINDOW) if value > 0 else value
    if key.endswith(_WIDTH) and not any(part in key for part in _NO_WIDTH) and value > 0:
        return ceil(value / factor)
    return value


def _smaller_list(key: str, value: list[Any], factor: int) -> list[Any]:
    if key in ("attention_window", "window_size"):
        return [min(each, _WINDOW) if isinstance(each, int) else each for each in value]
    if key in ("short_factor", "long_factor") or key == "mrope_section":
        if key == "mrope_section":
            return [max(1, each // factor) for each in value]
        return value[: max(1, len(value) // factor)]
    if key.endswith("token_id"):
        return [_smaller(key, each, factor) for each in value]
    return value
