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


def text_config(config: Any) -> Any:
    """The part of a transformers configuration that has the text part's width and layers."""
    encoder = getattr(config, "encoder", None)
    if getattr(config, "is_encoder_decoder", False) and hasattr(encoder, "hidden_size"):
        config = encoder  # T5Gemma has a configuration for each half
    for name in ("text_config", "text_encoder"):
        inner = getattr(config, name, None)
        if hasattr(inner, "model_type"):
            return inner
    return config


def text_model(model: nn.Module, *, decoder: bool = False) -> nn.Module:
    """The part that reads text of a model as :func:`auto_class` builds it, or all of it.

    ``decoder`` leaves an encoder-decoder whole.
    """
    part: Any = model
    if getattr(part.config, "is_encoder_decoder", False) and hasattr(part, "get_encoder"):
        if decoder:
            return model
        part = part.get_encoder()
        if not hasattr(part, "config"):
            raise ConfigError(f"{type(model).__name__}: its encoder cannot be read by itself")
    while True:
        inner = [getattr(part, name, None) for name in ("language_model", "text_model")]
        found = [each for each in inner if isinstance(each, nn.Module) and hasattr(each, "config")]
        if not found:
            whole: nn.Module = part
            return whole
        part = found[0]


def without_pooler(model: Any) -> nn.Module:
    """BERT's pooler reads the first token for a task of its own; item encoders pool themselves."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    unpooled: nn.Module = model
    return unpooled


def output_width(config: Any) -> int:
    """Width of final states: that of the layers, but for models that project them (OPT-350m)."""
    size: int = getattr(config, "word_embed_proj_dim", config.hidden_size)
    return size


def auto_class(config: Any, *, decoder: bool = False, head: bool = False) -> Any:
    """The class of transformers that builds a model, with a ``head`` over words or without one.

    Of an encoder-decoder its encoder, where that stands by itself and ``decoder`` is not asked for.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    if head:
        return AutoModelForCausalLM
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


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_RIVAL = 0.1  # another list of as many modules with that share of the weights: no stack of layers
_POSITIONS = frozenset(  # names of tables of positions
    (
        *("position_embeddings", "position_embedding", "positions_embed", "pos_embeddings"),
        *("embed_positions", "wpe"),
    )
)


class Reached(Exception):
    """Ends a forward pass at a layer whose input is all that is wanted."""


def layer_stack(model: Any) -> tuple[str, nn.ModuleList]:
    """The dotted name of a model's layers, and the layers.

    They are the list of as many modules as its configuration has layers, and of all such lists the
    one that holds most weights.

    Raises:
        ConfigError: there is none, or what belongs to a layer is spread over several lists.
    """
    kind = type(model).__name__
    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    found: dict[str, nn.ModuleList] = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    sizes = {
        path: sum(parameter.numel() for parameter in layers.parameters())
        for path, layers in found.items()
        if not any(path != other and path.startswith(f"{other}.") for other in found)
    }
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
    return best, found[best]


def halves_of(model: Any) -> tuple[nn.Module, ...]:
    """Encoder and decoder of an encoder-decoder; any other model itself."""
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        return model.encoder, model.decoder
    return (model,)


def layers_of(model: Any) -> list[nn.Module]:
    """The layers of a transformer, of both halves of an encoder-decoder; none where none fit."""
    halves = halves_of(model)
    if len(halves) > 1:
        return [layer for half in halves for layer in layers_of(half)]
    if isinstance(getattr(model, "layers", None), nn.ModuleList):
        return list(model.layers)
    try:
        return list(layer_stack(model)[1])
    except ConfigError:
        return []


def check_cut(model_name: str, cut: int, num_layers: int) -> None:
    """Raise ConfigError unless ``0 <= cut < num_layers``."""
    if not 0 <= cut < num_layers:
        normed = "; the state after the last layer has passed the final norm"
        why = normed if cut == num_layers else ""
        raise ConfigError(
            f"layer {cut}: {model_name} has {num_layers} layers, so the cut must be between 0 "
            f"(nothing cached) and {num_layers - 1}{why}"
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


def longest_text(model: nn.Module, config: Any) -> int | None:
    """The most tokens of a text, special tokens included; None where nothing says.

    Learned from the model's own table of positions: RoBERTa and its kin begin behind the row of the
    padding token, so that they read two tokens less than their configuration names, and OPT keeps
    two rows more. The configuration is asked where there is no such table.
    """
    limits: list[int] = [table.weight.shape[0] - _first_row(table) for table in _tables(model)]
    if limits:
        return min(limits)
    limit = getattr(config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def verify_longest(model: Any, longest: int | None, name: str) -> None:
    """Let a model whose positions begin behind row 0 embed its longest text; no layer runs.

    Raises:
        ConfigError: its positions end before.
    """
    tables = [table for table in _tables(model) if _first_row(table)]
    if longest is None or not tables:
        return

    def stop(*_: Any) -> None:
        raise Reached

    handles = [table.register_forward_hook(stop) for table in tables]
    with suppress(ConfigError):  # where a table is not called, the first layer ends the trial
        handles.append(layer_stack(model)[1][0].register_forward_pre_hook(stop))
    word = 1 if getattr(model.config, "pad_token_id", None) == 0 else 0
    ids = torch.full((1, longest), word, device=next(model.parameters()).device)
    try:
        with suppress(Reached), torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids), **call_options(model))
    except (IndexError, RuntimeError) as error:
        if describe_memory_error(error) is not None:
            raise
        raise ConfigError(
            f"language model {name!r}: {type(model).__name__} should read {longest} tokens by its "
            "table of positions, and cannot; its positions are counted in an unknown way"
        ) from None
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def refuse_causal(model: Any, name: str) -> None:
    """Let the first of a few tokens be read beside two different last ones, padded and not.

    Raises:
        ConfigError: its state is the same, so it does not read what follows.
    """
    device = next(model.parameters()).device
    ids = torch.ones(2, 4, dtype=torch.int64, device=device)
    ids[1, 2] = 2  # the last token before padding
    for padding in (0, 1):  # without any, attention may compute without a mask
        mask = torch.ones_like(ids)
        mask[:, 3] = 1 - padding
        first = model(input_ids=ids, attention_mask=mask, **call_options(model))
        states = first.last_hidden_state[:, 0]
        if torch.equal(states[0], states[1]):
            raise ConfigError(
                f"language model {name!r}: bidirectional: {type(model).__name__} of transformers "
                "reads from left to right whatever its configuration says; set it to false"
            )


def _tables(model: nn.Module) -> list[Any]:
    """The tables of positions."""
    found: list[Any] = [
        module for name, module in model.named_modules() if name.rpartition(".")[2] in _POSITIONS
    ]
    return [table for table in found if getattr(getattr(table, "weight", None), "ndim", 0) == 2]


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
