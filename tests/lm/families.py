"""Small random models of every family that can be cut."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from torch import nn

from legos.lm.load import LanguageModel
from legos.lm.locate import packaged

LAYERS = 4
_SMALL = {
    "vocab_size": 97,
    "hidden_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", {"pad_token_id": 1}),
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
    "glm": ("Glm", {"num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0}),
    "opt": ("OPT", {"ffn_dim": 32, "word_embed_proj_dim": 16}),
    "opt_projected": ("OPT", {"ffn_dim": 32, "word_embed_proj_dim": 8}),
    "gpt2": ("GPT2", {}),
}
FAMILIES = tuple(_KINDS)


def small_model(family: str, *, seed: int = 0, **options: Any) -> nn.Module:
    """A random model in evaluation mode; the same seed gives the same weights."""
    prefix, more = _KINDS[family]
    config = getattr(transformers, f"{prefix}Config")(**{**_SMALL, **more, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(transformers, f"{prefix}Model")(config)
    return model.eval()


@cache
def smollm2() -> LanguageModel:
    """The packaged SmolLM2; transformers reads its GGUF file for five seconds."""
    return LanguageModel(packaged("smollm2"))
