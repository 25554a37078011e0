"""A trained, cut and adapted language model becomes a whole one again."""

from __future__ import annotations

import re

from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.adapt import merge_lora
from legos.lm.cut import layer_stack
from legos.lm.load import LanguageModel


def whole_language_model(
    language_model: LanguageModel, trained: nn.Module, layer: int
) -> nn.Module:
    """All layers and embeddings: those below the cut of the original, the others as trained.

    Args:
        language_model: the original.
        trained: what an item encoder kept of it; its adapters are merged, in place.
        layer: at which it was cut; 0: not at all.

    Returns:
        A model without adapters, in evaluation mode, on the CPU, in the dtype of the original. A
        pooler is left out, since nothing trained it.

    Raises:
        ConfigError: ``trained`` is not what is left of that model above the cut.
    """
    merge_lora(trained)
    whole = language_model.load()
    tensors = _deeper(trained.state_dict(), _stack_name(trained), layer)
    expected, kept = len(layer_stack(whole)[2]) - layer, len(layer_stack(trained)[2])
    known = whole.state_dict()
    strange = [
        name
        for name, tensor in tensors.items()
        if name not in known or known[name].shape != tensor.shape
    ]
    if strange or kept != expected:
        what = f"; {strange[0]} does not fit" if strange else ""
        raise ConfigError(
            f"{language_model.name} cut at layer {layer} keeps {expected} layers, the trained "
            f"model has {kept}{what}"
        )
    whole.load_state_dict(tensors, strict=False)
    return whole.eval()


def _stack_name(model: nn.Module) -> str:
    """The dotted name of a model's layers."""
    layers = layer_stack(model)[2]
    names: list[str] = [name for name, module in model.named_modules() if module is layers]
    return names[0]


def _deeper(tensors: dict[str, Tensor], stack: str, layer: int) -> dict[str, Tensor]:
    """Tensors by the names they have where ``layer`` more layers lie below."""
    inside = re.compile(rf"{re.escape(stack)}\.(\d+)\.")

    def deeper(name: str) -> str:
        return inside.sub(lambda found: f"{stack}.{int(found[1]) + layer}.", name, count=1)

    return {deeper(name) if inside.match(name) else name: value for name, value in tensors.items()}
