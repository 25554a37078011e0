"""What of a backbone is trained: adapters or all of the language model, and what is new in it.

RecSysLLM, section 4.1.4: rank 8 on the fused query-key-value projection, the attention's output and
both layers of the MLP. A fused projection stays fused: three adapters are another model than one.
"""

from __future__ import annotations

from typing import Any

from legos.lm.adapt import choose_trained
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.backbones.glm import GlmBackbone
from legos.systems.recsysllm.model_settings import DecoderSettings

Backbone = GlmBackbone | DecoderBackbone


def choose_parts(backbone: Backbone, settings: DecoderSettings) -> None:
    """Say what of a backbone is trained, in place.

    Without `train: full` GLM's tables of positions, which are pretrained, stay frozen; a decoder's
    table of intra-entity positions and its five new tokens are always trained.

    Raises:
        ConfigError: see :func:`legos.lm.adapt.choose_trained`.
    """
    inner: Any = backbone.transformer if isinstance(backbone, GlmBackbone) else backbone.model
    backbone.requires_grad_(settings.trained == "full")
    choose_trained(inner, settings)
    if isinstance(backbone, DecoderBackbone):
        backbone.intra.requires_grad_(True)
        backbone.new_tokens.requires_grad_(True)
