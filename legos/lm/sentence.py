"""What a sentence encoder makes of final states: pooling, Dense, LayerNorm, Normalize.

Computes what the modules of sentence-transformers of these names compute. States are packed, so
that it makes no difference on which side a tokenizer pads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from legos.blocks.packed import segment_max, segment_sum
from legos.data.ragged import Ragged
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.sentence_files import (
    MODULES,
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    SentenceFiles,
    Step,
    sentence_files,
)

_LEAST = 1e-9  # of a sum of weights, as sentence-transformers has it


class SentenceHead(nn.Module):
    """Final states of N texts -> their vectors.

    Args:
        files: what its folder says.
        width: E of the final states.

    Attributes:
        width: D of a vector.

    Raises:
        ConfigError: the files of its weights are damaged or do not fit each other.
    """

    def __init__(self, files: SentenceFiles, width: int) -> None:
        super().__init__()
        self.pooling = files.pooling
        self.width = len(files.pooling.modes) * width
        steps: list[nn.Module] = []
        for step in files.steps:
            steps.append(_module(step, self.width))
            self.width = step.outputs if isinstance(step, Dense) else self.width
        self.steps = nn.Sequential(*steps).eval()

    def forward(self, states: Tensor, offsets: Tensor, prompt: int = 0) -> Tensor:
        """Packed states ``(P, E)`` of texts at ``(N + 1,)`` offsets -> ``(N, D)``.

        Args:
            prompt: how many tokens at the start of each text are its prompt.
        """
        pooled: Tensor = self.steps(pool(states, offsets, self.pooling, prompt))
        return pooled


def shipped_files(language_model: LanguageModel) -> SentenceFiles:
    """What the files of a language model say of its vectors.

    Raises:
        ConfigError: they are no sentence encoder's, or one that cannot be read; or pooling leaves a
            prompt out, whose tokens an item's template does not know.
    """
    source = language_model.source
    located = None if source.random else language_model.located
    files = None if located is None or located.gguf else sentence_files(located.folder)
    if files is None:
        raise ConfigError(
            f"language model {language_model.name!r}: no {MODULES} beside it says how vectors are "
            "made; set another pooling"
        )
    if not files.pooling.include_prompt:
        raise ConfigError(
            f"language model {language_model.name!r}: its pooling leaves the prompt out; make its "
            "vectors with python -m process.item_vectors, and read them with fixed_vectors"
        )
    return files


def pool(states: Tensor, offsets: Tensor, pooling: Pooling, prompt: int = 0) -> Tensor:
    """Packed states ``(P, E)`` -> ``(N, M * E)`` of M modes; zeros for a text without tokens.

    A prompt that does not count leaves at least the last token of a text.
    """
    index = torch.arange(len(states), device=states.device)
    rows = Ragged(index, offsets).rows  # (P,)
    place = index - offsets[:-1][rows]  # in its text
    lengths = offsets.diff()
    begin = torch.zeros_like(lengths)
    if prompt and not pooling.include_prompt:
        begin = (lengths - 1).clamp(min=0, max=prompt)
    counted = place >= begin[rows]
    states = states.masked_fill(~counted[:, None], 0)
    found = [
        _pooled(mode, states, rows, offsets, begin, counted * (place + 1)) for mode in pooling.modes
    ]
    return torch.cat(found, -1)


def _pooled(
    mode: str, states: Tensor, rows: Tensor, offsets: Tensor, begin: Tensor, weights: Tensor
) -> Tensor:
    """One mode: ``(N, E)``; ``weights`` ``(P,)`` count from 1 and are 0 where nothing counts."""
    lengths = offsets.diff()
    if mode in ("cls", "lasttoken"):
        at = offsets[:-1] + begin if mode == "cls" else offsets[1:] - 1
        padded = torch.cat([states, states.new_zeros(1, states.shape[1])])
        return padded.index_select(0, at.where(lengths > 0, len(states)))
    if mode == "max":
        lowest = states.masked_fill(weights[:, None] == 0, -torch.inf)
        return segment_max(lowest, rows, offsets)
    share = weights if mode == "weightedmean" else weights.clamp(max=1)
    share = share.to(states.dtype)[:, None]
    total = segment_sum(share, rows, len(lengths)).clamp(min=_LEAST)
    summed = segment_sum(states * share, rows, len(lengths))
    return summed / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


class _Dense(nn.Module):
    def __init__(self, step: Dense) -> None:
        super().__init__()
        self.linear = nn.Linear(step.inputs, step.outputs, bias=step.bias)
        self.activation: nn.Module = getattr(nn, step.activation)()
        self.is_residual = step.residual
        if step.residual and step.inputs != step.outputs:
            self.residual = nn.Linear(step.inputs, step.outputs, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(N, inputs)`` -> ``(N, outputs)``."""
        found: Tensor = self.activation(self.linear(vectors))
        if not self.is_residual:
            return found
        return found + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class _LayerNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(N, D)`` -> the same shape."""
        found: Tensor = self.norm(vectors)
        return found


class _Normalize(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        """``(N, D)`` -> the same shape, rows of length 1."""
        return functional.normalize(vectors, dim=-1)


def _module(step: Step, width: int) -> nn.Module:
    """A step with its weights; ConfigError: it does not fit vectors of this width."""
    if isinstance(step, Normalize):
        return _Normalize()
    expects = step.inputs if isinstance(step, Dense) else step.width
    if expects != width:
        raise ConfigError(
            f"{step.weights.parent}: reads vectors of {expects} numbers, those before it have "
            f"{width}"
        )
    module = _LayerNorm(step.width) if isinstance(step, LayerNorm) else _Dense(step)
    _fill(module, _read(step.weights), step.weights)
    return module


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: damaged ({error})") from None


def _fill(module: nn.Module, stored: Mapping[str, Tensor], path: Path) -> None:
    """Weights into their places, as float32; ConfigError: other names or shapes."""
    own: dict[str, Any] = dict(module.named_parameters())
    for name, parameter in own.items():
        shape = tuple(stored[name].shape) if name in stored else None
        if shape != tuple(parameter.shape):
            what = "is missing" if shape is None else f"has shape {shape}"
            raise ConfigError(f"{path}: {name} {what}, expected {tuple(parameter.shape)}")
        parameter.data = stored[name].float()
    for name in stored.keys() - own.keys():
        raise ConfigError(f"{path}: {name} has no place; expected {', '.join(own)}")
