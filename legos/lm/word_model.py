"""Whole language models: with what predicts words, with fewer layers, or put together again."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from legos.errors import ConfigError
from legos.lm.adapt import merge_lora
from legos.lm.audit import LoadReport
from legos.lm.cut import layers_below, placeholder_names
from legos.lm.load import LanguageModel
from legos.lm.text_model import auto_class, layer_stack
from legos.lm.weight_files import rows_of, sampled_rows, stored_tensors

MAX_LOGITS = 2**24  # that a loss over words holds at once: 64 MB
_HEADS = ("lm_head.weight", "embed_out.weight", "decoder.weight")  # over words


def word_model(language: LanguageModel, init: Literal["pretrained", "random"]) -> Any:
    """A language model with what predicts its words, on the CPU; of shapes alone without weights.

    Where its head is its token table there is no other head; ``random``: the same shape with fresh
    weights, drawn from torch's generator.

    Raises:
        ConfigError: its files are missing or cannot be read.
    """
    own_head = _has_own_head(language.config)
    kind = auto_class(language.config, decoder=True, head=own_head)
    if language.shapes_only:
        return language.instance(kind=kind)
    if init == "random":
        return language.finished(language.fresh(kind))
    if own_head and not language.source.random:
        return language.load(head=True)
    model = language.load(decoder=True)
    _refuse_other_head(language, model)
    return model


def audit_word_model(
    language: LanguageModel, init: Literal["pretrained", "random"]
) -> LoadReport | None:
    """Audit what :func:`word_model` would load, by headers alone; None where nothing is loaded."""
    if init == "random":
        return None
    return language.audit(head=_has_own_head(language.config), decoder=True)


def keep_layers(model: Any, count: int, *, cut: Literal["end", "middle"] = "end") -> None:
    """Keep so many layers of a model and its last norm, in place; of an encoder-decoder, of both.

    ``cut`` says where the others are taken out; ``middle`` keeps as many first as last ones.

    Raises:
        ConfigError: it has fewer.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        for stack in (model.encoder, model.decoder):
            stack.block = _kept(stack.block, count, model, cut)
            stack.config.num_layers = count
        model.config.num_layers = model.config.num_decoder_layers = count
        return
    path, layers = layer_stack(model.base_model)
    model.base_model.set_submodule(path, _kept(layers, count, model, cut))
    model.config.num_hidden_layers = count
    types = getattr(model.config, "layer_types", None)
    if types:
        numbers = _numbers(len(types), count, cut)
        model.config.layer_types = [types[number] for number in numbers]


def _kept(
    layers: nn.ModuleList, count: int, model: nn.Module, cut: Literal["end", "middle"]
) -> nn.ModuleList:
    if count > len(layers):
        raise ConfigError(
            f"backbone.layers: {count}, but {type(model).__name__} has {len(layers)}; "
            f"expected 1 to {len(layers)}"
        )
    kept = nn.ModuleList(layers[number] for number in _numbers(len(layers), count, cut))
    for number, layer in enumerate(kept):
        for part in layer.modules():  # a key-value cache finds a layer by its number
            if hasattr(part, "layer_idx"):
                part.layer_idx = number  # type: ignore[assignment]
    return kept


def _numbers(total: int, count: int, cut: Literal["end", "middle"]) -> list[int]:
    first = count if cut == "end" else count - count // 2
    return [*range(first), *range(total - (count - first), total)]


def _refuse_other_head(language: LanguageModel, model: Any) -> None:
    """Raise ConfigError for a head in the files that ``config.json`` says is the token table."""
    if language.report is None or language.located.gguf is not None:
        return
    table = model.get_input_embeddings().weight
    stored = stored_tensors(language.located.folder)
    heads = [
        stored[name]
        for name in language.report.unused
        if name.endswith(_HEADS) and name in stored and stored[name].shape == tuple(table.shape)
    ]
    for head, rows in sampled_rows(heads):
        if not torch.equal(rows.to(table.dtype), rows_of(table)):
            raise ConfigError(
                f"language model {language.name!r} ({language.located.folder}): its files hold a "
                f"head over words ({head.name}) that differs from the token table, its config.json "
                "says that they are one (tie_word_embeddings); set it to false"
            )


def _has_own_head(config: Any) -> bool:
    return not getattr(config, "tie_word_embeddings", True) and not config.is_encoder_decoder


def whole_language_model(
    language_model: LanguageModel, trained: nn.Module, layer: int
) -> nn.Module:
    """All layers and embeddings: those below the cut of the original, the others as trained.

    Args:
        language_model: the original, whose dtype the model has.
        trained: what an item encoder kept of it; its adapters are merged, in place.
        layer: at which it was cut; 0: not at all.

    Raises:
        ConfigError: ``trained`` is not what is left of that model above the cut.
    """
    merge_lora(trained)
    whole = language_model.load()
    tensors = trained.state_dict()
    for name in placeholder_names(trained):
        del tensors[name]
    layers, cut = len(layer_stack(whole)[1]), len(layers_below(trained))
    kept = len(layer_stack(trained)[1]) - cut
    known = whole.state_dict()
    strange = [
        name
        for name, tensor in tensors.items()
        if name not in known or known[name].shape != tensor.shape
    ]
    if strange or cut != layer or kept != layers - layer:
        what = f"; {strange[0]} does not fit" if strange else ""
        raise ConfigError(
            f"{language_model.name} cut at layer {layer} keeps {layers - layer} layers, the "
            f"trained model has {kept}{what}"
        )
    whole.load_state_dict(tensors, strict=False)
    return whole.eval()
