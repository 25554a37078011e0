"""The longest text that a language model reads, learned from its own table of positions.

A configuration names the rows of that table; RoBERTa and its kin begin behind the row of the
padding token, so that they read two tokens less, and OPT keeps two rows more than it names.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import nn

from legos.errors import ConfigError, describe_memory_error
from legos.lm.layers import Reached, layer_stack
from legos.lm.text_model import call_options

_TABLES = frozenset(
    {
        "position_embeddings",
        "position_embedding",
        "positions_embed",
        "pos_embeddings",
        "embed_positions",
        "wpe",
    }
)


def longest_text(model: nn.Module, config: Any) -> int | None:
    """The most tokens of a text, special tokens included; None where nothing says.

    Args:
        model: a text model, on any device.
        config: its configuration, asked where it has no table of positions.
    """
    limits: list[int] = [table.weight.shape[0] - _first_row(table) for table in _tables(model)]
    if limits:
        return min(limits)
    limit = getattr(config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def verify_longest(model: nn.Module, longest: int | None, name: str) -> None:
    """Let a model whose positions begin behind row 0 embed its longest text; no layer runs.

    Args:
        model: a text model with weights.
        longest: from :func:`longest_text`.
        name: of the model, for errors.

    Raises:
        ConfigError: its positions end before.
    """
    tables = [table for table in _tables(model) if _first_row(table)]
    if longest is not None and tables and not _embeds(model, longest, tables):
        raise ConfigError(
            f"language model {name!r}: {type(model).__name__} should read {longest} tokens by its "
            "table of positions, and cannot; its positions are counted in an unknown way"
        )


def _tables(model: nn.Module) -> list[Any]:
    """The tables of positions."""
    found: list[Any] = [
        module for name, module in model.named_modules() if name.rpartition(".")[2] in _TABLES
    ]
    return [table for table in found if getattr(getattr(table, "weight", None), "ndim", 0) == 2]


def _embeds(model: Any, length: int, tables: list[Any]) -> bool:
    """Whether a text of so many tokens gets its positions."""

    def stop(*_: Any) -> None:
        raise Reached

    padding = getattr(model.config, "pad_token_id", None)
    parameter = next(model.parameters())
    ids = torch.full((1, length), 1 if padding == 0 else 0, device=parameter.device)
    handles = [table.register_forward_hook(stop) for table in tables]
    with suppress(ConfigError):  # where a table is not called, the first layer ends the trial
        handles.append(layer_stack(model)[2][0].register_forward_pre_hook(stop))
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids), **call_options(model))
    except Reached:
        return True
    except (IndexError, RuntimeError) as error:
        if describe_memory_error(error) is not None:
            raise
        return False
    finally:
        for handle in handles:
            handle.remove()
    return True


def _first_row(table: Any) -> int:
    """The row of the first token."""
    offset, padding = getattr(table, "offset", None), getattr(table, "padding_idx", None)
    if isinstance(offset, int):
        return offset
    return 0 if padding is None else int(padding) + 1
