"""The part of a pretrained model that reads text: one stack of layers without a head.

A multimodal model is read by its language model and an encoder-decoder by its encoder; every other
model is its own text model. ``legos.lm`` reads items with that part alone, so images, decoders and
their weights play no role for an item encoder.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from legos.errors import ConfigError

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
