"""A transformers model as a reader of texts: its text part, its layers, its longest text.

A multimodal model is read by its language model and an encoder-decoder by its encoder; every other
model is its own text model. ``legos.lm`` reads items with that part alone, so images, decoders and
their weights play no role for an item encoder.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any

import torch
from torch import Tensor, nn

from legos.errors import ConfigError, describe_memory_error

_PARTS = ("language_model", "text_model")


def text_config(config: Any) -> Any:
    """The configuration of the part that reads text.

    Args:
        config: a transformers configuration, composite or not.

    Returns:
        A configuration with ``hidden_size`` and ``num_hidden_layers`` of that part.
    """
    encoder = getattr(config, "encoder", None)
    if getattr(config, "is_encoder_decoder", False) and hasattr(encoder, "hidden_size"):
        config = encoder  # T5Gemma has a configuration for each half
    for name in ("text_config", "text_encoder"):
        inner = getattr(config, name, None)
        if hasattr(inner, "model_type"):
            return inner
    return config


def text_model(model: nn.Module, *, decoder: bool = False) -> nn.Module:
    """The part of a transformers model that reads text.

    Args:
        model: as :func:`auto_class` builds it.
        decoder: leave an encoder-decoder whole.

    Returns:
        ``model`` itself, or the part of it that is its text model.
    """
    part: Any = model
    if getattr(part.config, "is_encoder_decoder", False) and hasattr(part, "get_encoder"):
        if decoder:
            return model
        part = part.get_encoder()
        if not hasattr(part, "config"):
            raise ConfigError(f"{type(model).__name__}: its encoder cannot be read by itself")
    changed = True
    while changed:
        changed = False
        for name in _PARTS:
            inner = getattr(part, name, None)
            if isinstance(inner, nn.Module) and hasattr(inner, "config"):
                part, changed = inner, True
                break
    found: nn.Module = part
    return found


def without_pooler(model: Any) -> nn.Module:
    """BERT's pooler reads the first token for a task of its own; item encoders pool themselves."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    pooled_by_nobody: nn.Module = model
    return pooled_by_nobody


def output_width(config: Any) -> int:
    """Width of final states: that of the layers, but for models that project them (OPT-350m)."""
    size: int = getattr(config, "word_embed_proj_dim", config.hidden_size)
    return size


def auto_class(config: Any, *, decoder: bool = False) -> Any:
    """The class of transformers that builds a model without head.

    Args:
        config: of transformers.
        decoder: leave an encoder-decoder whole; else its encoder where it stands by itself.
    """
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    kind = type(config)
    if not decoder and kind in MODEL_FOR_TEXT_ENCODING_MAPPING:
        encoder: Any = MODEL_FOR_TEXT_ENCODING_MAPPING[kind]
        # T5 and its kin; not T5Gemma, whose encoder has a configuration of its own
        if encoder.__name__.endswith("EncoderModel") and not hasattr(config, "encoder"):
            return AutoModelForTextEncoding
    return AutoModel


def call_options(model: nn.Module) -> dict[str, Any]:
    """What every call of a model's ``forward`` is given: decoders keep no keys and values."""
    config: Any = model.config
    return {"use_cache": False} if getattr(config, "use_cache", False) else {}


def padding_id(model: nn.Module) -> int:
    """The id that stands behind shorter texts; it is masked, but some models count by it."""
    return getattr(model.config, "pad_token_id", None) or 0


_RIVAL = 0.1  # another list of as many modules with that share of the weights: no stack of layers


class Reached(Exception):
    """Ends a forward pass at a layer whose input is all that is wanted."""


def layer_stack(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """Where a model keeps its layers: the module that holds them, its attribute, the layers.

    They are the list of as many modules as its configuration has layers, and of all such lists the
    one that holds most weights.

    Raises:
        ConfigError: there is none, or what belongs to a layer is spread over several lists.
    """
    path, layers = _stack(model)
    way, _, name = path.rpartition(".")
    return model.get_submodule(way), name, layers


def stack_path(model: nn.Module) -> str:
    """The dotted name of a model's layers; errors as :func:`layer_stack`."""
    return _stack(model)[0]


def _stack(model: Any) -> tuple[str, nn.ModuleList]:
    kind = type(model).__name__
    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    found: dict[str, nn.ModuleList] = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outermost = {
        path: module
        for path, module in found.items()
        if not any(path != other and path.startswith(f"{other}.") for other in found)
    }
    sizes = {path: _size(module) for path, module in outermost.items()}
    if not sizes:
        raise ConfigError(
            f"{kind}: no list of its modules has one for each of its {count} layers; a model of "
            "this kind cannot be cut"
        )
    best = max(sizes, key=lambda path: sizes[path])
    rivals = [path for path in sizes if path != best and sizes[path] > _RIVAL * sizes[best]]
    if rivals:
        raise ConfigError(
            f"{kind}: its layers are spread over several lists ({', '.join([best, *rivals])}); a "
            "model of this kind cannot be cut"
        )
    return best, outermost[best]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def check_cut(model_name: str, cut: int, num_layers: int) -> None:
    """Raise ConfigError unless ``0 <= cut < num_layers``."""
    if not 0 <= cut < num_layers:
        why = "; the state after the last layer is normalised already" if cut == num_layers else ""
        raise ConfigError(
            f"layer {cut}: {model_name} has {num_layers} layers, so a cut lies between 0 (nothing "
            f"cached) and {num_layers - 1}{why}"
        )


def hidden_argument(arguments: tuple[Any, ...], named: dict[str, Any]) -> int | str:
    """Which argument of a layer is the hidden states: its position, or its name.

    Raises:
        ConfigError: none is.
    """
    if "hidden_states" in named:
        return "hidden_states"
    for place, value in enumerate(arguments):
        if isinstance(value, Tensor) and value.is_floating_point():
            return place
    for name, value in named.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 3:
            return name
    raise ConfigError(
        "its layers are not called with hidden states; a model of this kind cannot be cut"
    )


def hidden_states(arguments: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """The hidden states that a layer is called with; errors as :func:`hidden_argument`."""
    place = hidden_argument(arguments, named)
    found: Tensor = arguments[place] if isinstance(place, int) else named[place]
    return found


def share_weights(layers: nn.ModuleList, cut: int) -> str | None:
    """Name a weight that layers below a cut share with one above it; None: they share none."""
    below = {id(parameter) for layer in layers[:cut] for parameter in layer.parameters()}
    for layer in layers[cut:]:
        for name, parameter in layer.named_parameters():
            if id(parameter) in below:
                return name
    return None


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

    Learned from the model's own table of positions: RoBERTa and its kin begin behind the row of the
    padding token, so that they read two tokens less than their configuration names, and OPT keeps
    two rows more.

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


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own bars and remarks off the terminal; errors are told by us."""

    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the bar over a GGUF file knows no switch
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
