"""GLM: a transformer made for filling blanks, with two position ids; and ChatGLM's variant.

Du et al., "GLM: General language model pretraining with autoregressive blank infilling", ACL 2022.
Layers normalise their input (pre-LN); tables of both positions are learned and both added. ChatGLM
has no tables: the first half of every head is rotated by the inter-, the second by the
intra-position; its residual path carries the normalised input, scaled. Names of parameters are
those of the published checkpoints. transformers' ``glm`` is another model.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from legos.blocks.dropout import Dropout
from legos.errors import ConfigError
from legos.settings import Settings
from legos.systems.recsysllm.positions import GLM_GPT2, Inputs, SpecialTokens, attention_mask


class GlmConfig(Settings):
    """The shape of a GLM."""

    model_type: Literal["glm_infill"] = "glm_infill"
    """Not transformers' own ``glm``."""
    num_layers: PositiveInt
    """L, number of layers."""
    hidden_size: PositiveInt
    """D, hidden size."""
    num_heads: PositiveInt
    """Attention heads."""
    vocab_size: PositiveInt = 50_304
    """Rows of the token table: the tokens of GPT-2 and GLM, padded to a multiple of 128."""
    max_positions: PositiveInt = 1024
    """Maximum position; the position tables have one more row."""
    inner_size: PositiveInt | None = None
    """Hidden size of the MLP; null: 4 D."""
    position_encoding: Literal["learned", "rope2d"] = "learned"
    """`learned` (GLM) or `rope2d` (ChatGLM)."""
    tied_head: bool = True
    """Score tokens with the token table; ChatGLM has a separate output table."""
    scaled_residual: bool = False
    """Scale the residual, the normalised input, by sqrt(2 L) (ChatGLM)."""
    layer_norm_eps: PositiveFloat = 1e-5
    """Epsilon of layer norms."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout of embeddings, attention and sublayer outputs."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        size, rest = divmod(self.hidden_size, self.num_heads)
        if rest or (self.position_encoding == "rope2d" and size % 4):
            raise ValueError(
                f"hidden_size {self.hidden_size}: not divisible into {self.num_heads} heads"
                + (" of a multiple of 4" if self.position_encoding == "rope2d" else "")
            )
        return self


SHAPES: dict[str, dict[str, Any]] = {
    "glm-base": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "max_positions": 512},
    "glm-large": {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "max_positions": 512},
    "glm-515m": {"num_layers": 30, "hidden_size": 1152, "num_heads": 18, "max_positions": 512},
    "glm-2b": {"num_layers": 36, "hidden_size": 2048, "num_heads": 32},
    "glm-10b": {"num_layers": 48, "hidden_size": 4096, "num_heads": 64},
    "chatglm-6b": {
        "num_layers": 28,
        "hidden_size": 4096,
        "num_heads": 32,
        "vocab_size": 130_528,
        "max_positions": 2048,
        "position_encoding": "rope2d",
        "tied_head": False,
        "scaled_residual": True,
    },
}
"""Of published models; base, large and 515M have BERT's vocabulary (give ``vocab_size``)."""


class HeadRows(NamedTuple):
    """What states are multiplied with to score tokens.

    Attributes:
        weight: ``(V, D)``.
        bias: ``(V,)``; None: nothing is added.
        end: ``(D,)`` of [END] where it is not among the V; it is the last of all tokens then.
    """

    weight: Tensor
    bias: Tensor | None
    end: Tensor | None


class GlmBackbone(nn.Module):
    """A GLM with random weights; ConfigError: a special token is not in its vocabulary."""

    def __init__(self, config: GlmConfig, special: SpecialTokens = GLM_GPT2) -> None:
        super().__init__()
        self.config, self.special = config, special
        ids = [special.mask, special.sentence_mask, special.document_mask, special.start]
        if max(*ids, special.end, special.pad, special.cls or 0) >= config.vocab_size:
            raise ConfigError(f"vocab_size {config.vocab_size}: too small for {special}")
        self.width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.transformer = _Transformer(config)
        self.lm_head = (
            None
            if config.tied_head
            else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        )
        self.apply(self._init)
        for name, parameter in self.named_parameters():
            if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.num_layers))

    @staticmethod
    def _init(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @property
    def inner(self) -> Any:
        """The transformer itself, which has the layers."""
        return self.transformer

    @property
    def num_tokens(self) -> int:
        """See :class:`legos.systems.recsysllm.backbones.decoder.DecoderBackbone`."""
        return self.config.vocab_size

    @property
    def ends(self) -> list[int]:
        """See :class:`legos.systems.recsysllm.backbones.decoder.DecoderBackbone`."""
        return [self.special.end]

    def states(self, inputs: Inputs, mask: Tensor, cache: Any = None) -> Tensor:
        """See :class:`legos.systems.recsysllm.backbones.decoder.DecoderBackbone`."""
        mask = attention_mask(mask, "sdpa", torch.float32)
        vectors = self.word_embeddings(inputs.tokens)
        states: Tensor = self.transformer(vectors, inputs.inter, inputs.intra, mask, cache)
        return states

    def head_rows(self) -> HeadRows:
        """See :class:`legos.systems.recsysllm.backbones.decoder.DecoderBackbone`."""
        head = self.word_embeddings if self.lm_head is None else self.lm_head
        return HeadRows(head.weight, None, None)

    def logits(self, states: Tensor) -> Tensor:
        """See :class:`legos.systems.recsysllm.backbones.decoder.DecoderBackbone`."""
        if self.lm_head is None:
            return states @ self.word_embeddings.weight.T
        scores: Tensor = self.lm_head(states)
        return scores


class _Transformer(nn.Module):
    def __init__(self, config: GlmConfig) -> None:
        super().__init__()
        self.learned = config.position_encoding == "learned"
        if self.learned:
            rows = config.max_positions + 1
            self.position_embeddings = nn.Embedding(rows, config.hidden_size)
            self.block_position_embeddings = nn.Embedding(rows, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config, layer) for layer in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.rotated = config.hidden_size // config.num_heads // 2  # of a head, by each position
        self.checkpointing: dict[str, Any] | None = None

    def gradient_checkpointing_enable(self, options: dict[str, Any]) -> None:
        """Compute activations of layers twice in training; options of torch's ``checkpoint``."""
        self.checkpointing = options

    def forward(
        self, vectors: Tensor, inter: Tensor, intra: Tensor, mask: Tensor, cache: Any
    ) -> Tensor:
        rotations = None
        if self.learned:
            vectors = vectors + self.position_embeddings(inter)
            vectors = vectors + self.block_position_embeddings(intra)
        else:
            both = [_rotation(ids, self.rotated, vectors.dtype) for ids in (inter, intra)]
            rotations = (torch.stack([c for c, _ in both]), torch.stack([s for _, s in both]))
        states = self.dropout(vectors)
        twice = self.checkpointing if self.training and cache is None else None
        for layer in self.layers:
            if twice is None:
                states = layer(states, mask, rotations, cache)
            else:
                states = checkpoint(layer, states, mask, rotations, cache, **twice)
        final: Tensor = self.final_layernorm(states)
        return final


class _Layer(nn.Module):
    def __init__(self, config: GlmConfig, number: int) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.input_layernorm = nn.LayerNorm(width, eps=eps)
        self.attention = _Attention(config, number)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=eps)
        self.mlp = _Mlp(config)
        self.dropout = Dropout(config.dropout)
        self.scale = math.sqrt(2 * config.num_layers) if config.scaled_residual else None

    def forward(
        self, states: Tensor, mask: Tensor, rotations: tuple[Tensor, Tensor] | None, cache: Any
    ) -> Tensor:
        normed = self.input_layernorm(states)
        kept = states if self.scale is None else normed * self.scale
        states = kept + self.dropout(self.attention(normed, mask, rotations, cache))
        normed = self.post_attention_layernorm(states)
        kept = states if self.scale is None else normed * self.scale
        result: Tensor = kept + self.dropout(self.mlp(normed))
        return result


class _Attention(nn.Module):
    def __init__(self, config: GlmConfig, number: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.number, self.num_heads, self.rate = number, config.num_heads, config.dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(
        self, states: Tensor, mask: Tensor, rotations: tuple[Tensor, Tensor] | None, cache: Any
    ) -> Tensor:
        rows, count, width = states.shape
        fused = self.query_key_value(states).view(rows, count, 3, self.num_heads, -1)
        query, key, value = fused.permute(2, 0, 3, 1, 4)  # (R, heads, W, D / heads) each
        if rotations is not None:
            query, key = _rotate(query, *rotations), _rotate(key, *rotations)
        if cache is not None:
            key, value = cache.update(key, value, self.number)
        rate = self.rate if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, mask, rate)
        result: Tensor = self.dense(mixed.transpose(1, 2).reshape(rows, count, width))
        return result


class _Mlp(nn.Module):
    def __init__(self, config: GlmConfig) -> None:
        super().__init__()
        inner = config.inner_size or 4 * config.hidden_size
        self.dense_h_to_4h = nn.Linear(config.hidden_size, inner)
        self.dense_4h_to_h = nn.Linear(inner, config.hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        inner = functional.gelu(self.dense_h_to_4h(states), approximate="tanh")
        result: Tensor = self.dense_4h_to_h(inner)
        return result


def _rotation(ids: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines: ids ``(R, W)`` -> ``(R, 1, W, size)`` each."""
    step = torch.arange(0, size, 2, device=ids.device, dtype=torch.float32) / size
    angles = ids[:, None, :, None].float() * 10_000.0**-step  # (R, 1, W, size / 2)
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotate(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Half of each head by each position: ``(R, heads, W, 2 * size)``."""
    halves = []
    for half, cosine, sine in zip(heads.chunk(2, -1), cosines, sines, strict=True):
        first, second = half.chunk(2, -1)
        halves.append(half * cosine + torch.cat([-second, first], -1) * sine)
    return torch.cat(halves, -1)
