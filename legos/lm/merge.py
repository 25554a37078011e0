"""A trained, cut and adapted language model becomes a whole one again."""

from __future__ import annotations

from torch import nn

from legos.errors import ConfigError
from legos.lm.adapt import merge_lora
from legos.lm.cut import layers_below, placeholder_names
from legos.lm.layers import layer_stack
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
    left_out = placeholder_names(trained)
    tensors = {
        name: tensor for name, tensor in trained.state_dict().items() if name not in left_out
    }
    layers, cut = len(layer_stack(whole)[2]), len(layers_below(trained))
    kept = len(layer_stack(trained)[2]) - cut
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
