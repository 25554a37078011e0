"""What of a backbone is trained: LoRA beside its linear layers, and what is new in it.

RecSysLLM, section 4.1.4: rank 8 on the fused query-key-value projection, the attention's output and
both layers of the MLP. A fused projection stays fused: three adapters are another model than one.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from legos.errors import ConfigError
from legos.lm.adapt import add_lora
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.backbones.glm import GlmBackbone

Preset = Literal["paper", "qkv"]
Backbone = GlmBackbone | DecoderBackbone
RANK, ALPHA, DROPOUT = 8, 16.0, 0.05  # rank of the paper; the others are not stated

_TARGETS: dict[Preset, tuple[tuple[str, ...], ...]] = {
    "paper": (
        ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),  # GLM
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),  # LLaMA
        ("c_attn", "c_proj", "c_fc"),  # GPT-2
        ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),  # OPT
    ),
    "qkv": (("query_key_value",), ("q_proj", "k_proj", "v_proj"), ("c_attn",)),
}


def add_preset(
    backbone: Backbone,
    preset: Preset,
    *,
    rank: int = RANK,
    alpha: float = ALPHA,
    dropout: float = DROPOUT,
) -> None:
    """Freeze a backbone, in place, but for LoRA adapters and what a decoder was given.

    GLM's tables of positions are pretrained and stay frozen (A19); a decoder's table of
    intra-entity positions and its five new tokens are trained.

    Raises:
        ConfigError: its linear layers are called otherwise.
    """
    inner: Any = backbone.transformer if isinstance(backbone, GlmBackbone) else backbone.model
    targets = preset_targets(inner, preset)
    backbone.requires_grad_(False)
    add_lora(inner, rank=rank, alpha=alpha, dropout=dropout, targets=targets)
    if isinstance(backbone, DecoderBackbone):
        backbone.intra.requires_grad_(True)
        backbone.new_tokens.requires_grad_(True)


def preset_targets(model: nn.Module, preset: Preset) -> tuple[str, ...]:
    """The names of a preset's linear layers in this model.

    Raises:
        ConfigError: none of the known sets of names.
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    for targets in _TARGETS[preset]:
        if names.issuperset(targets):
            return targets
    known = "; ".join(", ".join(targets) for targets in _TARGETS[preset])
    raise ConfigError(f"LoRA preset {preset!r}: {type(model).__name__} has none of {known}")
