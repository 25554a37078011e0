"""What RecSysLLM asks of a language model, and any Hugging Face decoder made to answer it.

RecSysLLM, section 3.3, adds a table of intra-entity positions to GLM. A decoder with rotary
positions gets the same table, zero at first, beside its own positions: it begins as the model it
was, to the last bit.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn

from legos.errors import ConfigError, DataError
from legos.lm.adapt import choose_trained
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.word_model import keep_layers, word_model
from legos.systems.recsysllm.backbones.glm import GlmBackbone
from legos.systems.recsysllm.backbones.glm_files import GlmFiles
from legos.systems.recsysllm.positions import (
    NUM_APPENDED,
    Inputs,
    appended,
    attention_mask,
)
from legos.systems.recsysllm.settings import DecoderSettings

PositionMode = Literal["sequential", "glm"]
_log = logging.getLogger(__name__)


def new_cache() -> Any:
    """An empty key-value cache of transformers; both kinds of backbones take it."""
    from transformers import DynamicCache

    return DynamicCache()


class IntraTable(nn.Module):
    """Vectors of intra-entity positions, zero at first; those behind the last share it.

    As many rows as the longest entity has tokens and two are enough.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, width)
        nn.init.zeros_(self.table.weight)
        self._warned = False

    def forward(self, intra: Tensor) -> Tensor:
        """``(..., )`` int64 -> ``(..., D)``."""
        last = self.table.num_embeddings - 1
        if not self._warned and intra.device.type == "cpu" and int(intra.max()) > last:
            self._warned = True
            _log.warning(
                "intra-entity position %d: the table ends at %d, which stands for all beyond; "
                "raise max_intra", int(intra.max()), last,
            )  # fmt: skip
        vectors: Tensor = self.table(intra.clamp(max=last))
        return vectors


class DecoderBackbone(nn.Module):
    """Any causal decoder of transformers that takes ``inputs_embeds``, positions and 4-D masks.

    Args:
        model: with or without a language-modelling head; its attention must be sdpa or eager.
        max_intra: rows of the table of intra-entity positions.
        position_mode: ``sequential``: Part B continues Part A, positions are what the model was
            trained with; ``glm``: Part B stands at its mask, far from what it was trained with.
        seed: of the vectors of the five new tokens.

    Attributes:
        special: the five tokens behind its words.
        words: V, rows of its own token table.

    Raises:
        ConfigError: its head does more than a matrix product and a bias.
    """

    def __init__(
        self,
        model: Any,
        *,
        max_intra: int = 64,
        position_mode: PositionMode = "sequential",
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
            if getattr(model.config, name, None) not in (None, 1, 1.0):
                raise ConfigError(f"{type(model).__name__}: its head has {name}, which is left out")
        head = model.get_output_embeddings()
        table = model.get_input_embeddings().weight
        self.model = model if head is None else model.base_model
        self.head = None if head is None or head.weight is table else head
        self.words, self.width = table.shape
        self.position_mode = position_mode
        self.special = appended(self.words, pad=getattr(model.config, "pad_token_id", None) or 0)
        self.intra = IntraTable(max_intra, self.width)
        self.new_tokens = nn.Parameter(_around_mean(table.detach(), seed))

    @property
    def inner(self) -> Any:
        """The transformer itself, which has the layers."""
        return self.model

    @property
    def num_tokens(self) -> int:
        """V, tokens that its head scores."""
        return int(self.words) + NUM_APPENDED

    @property
    def token_table(self) -> Tensor:
        """``(V, D)`` vectors of words."""
        table: Tensor = self.model.get_input_embeddings().weight
        return table

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors of words and of the five new tokens: any shape -> the same and D.

        Raises:
            DataError: there is no such token (on the CPU; a GPU stops with an assertion).
        """
        flat = tokens.reshape(-1)
        if flat.device.type == "cpu" and flat.numel():
            low, high = torch.aminmax(flat)
            if int(low) < 0 or int(high) >= self.words + NUM_APPENDED:
                raise DataError(
                    f"token ids {int(low)} to {int(high)}: expected 0 to "
                    f"{self.words + NUM_APPENDED - 1}"
                )
        is_new = flat >= self.words
        vectors: Tensor = self.model.get_input_embeddings()(flat.masked_fill(is_new, 0))
        at = is_new.nonzero()[:, 0]
        new = self.new_tokens.to(vectors.dtype).index_select(0, flat[at] - self.words)
        return vectors.index_put((at,), new).view(*tokens.shape, self.width)

    def states(self, inputs: Inputs, mask: Tensor, cache: Any = None) -> Tensor:
        """Final states: R rows of W tokens, mask ``(R, 1, W, K)`` bool -> ``(R, W, D)``.

        With a key-value cache, which then holds these tokens too, K counts what it held before.
        """
        vectors = self.embed(inputs.tokens)
        vectors = vectors + self.intra(inputs.intra).to(vectors.dtype)
        kind = self.model.config._attn_implementation
        states: Tensor = self.model(
            inputs_embeds=vectors,
            position_ids=inputs.order if self.position_mode == "sequential" else inputs.inter,
            attention_mask=attention_mask(mask, kind, vectors.dtype),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states

    def logits(self, states: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., V)``: the words as the model scores them, then the new tokens."""
        words = self.head(states) if self.head is not None else states @ self.token_table.T
        return torch.cat([words, states @ self.new_tokens.to(states.dtype).T], -1)


def _around_mean(table: Tensor, seed: int) -> Tensor:
    """Vectors for new tokens: the mean of all words and a tenth of their spread."""
    values = table.float()
    mean, spread = values.mean(0), values.std(0)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(NUM_APPENDED, table.shape[1], generator=generator).to(mean.device)
    return mean + 0.1 * spread * noise


Backbone = GlmBackbone | DecoderBackbone


def open_language(
    source: LanguageModelSource, settings: DecoderSettings, *, seed: int, shapes_only: bool = False
) -> LanguageModel | GlmFiles:
    """The language model that settings name, by its kind; nothing of it is read yet.

    ``seed`` decides a GLM's fresh weights; ``shapes_only``: weights are never read.
    """
    if settings.kind == "decoder":
        return LanguageModel(source, settings, shapes_only=shapes_only)
    dtype, quantised = settings.dtype, settings.quantised
    return GlmFiles(source, layout=settings.layout, seed=seed, dtype=dtype, quantised=quantised)


def build_backbone(
    language: LanguageModel | GlmFiles,
    settings: DecoderSettings,
    *,
    max_intra: int,
    seed: int,
    shapes_only: bool = False,
) -> Backbone:
    """A language model that fills blanks, with what of it is trained, on the CPU.

    Args:
        max_intra: rows of a decoder's table of intra-entity positions.
        seed: of new tokens, adapters and random weights.
        shapes_only: without numbers, for counts.

    Raises:
        ConfigError: its files are missing or do not fit, it has fewer layers than are to be kept,
            reads in two halves, or its layers are called otherwise than a LoRA preset knows.
    """
    backbone: Backbone
    if isinstance(language, GlmFiles):
        pretrained = settings.init == "pretrained"
        backbone = language.skeleton() if shapes_only else language.backbone(pretrained=pretrained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(language, LanguageModel):
            backbone = _cut_decoder(word_model(language, settings.init), settings, max_intra, seed)
        choose_parts(backbone, settings)
    return backbone.eval()


def _cut_decoder(
    model: Any, settings: DecoderSettings, max_intra: int, seed: int
) -> DecoderBackbone:
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{type(model).__name__}: an encoder-decoder; recsysllm needs a decoder, such as GPT-2 "
            "or LLaMA"
        )
    if settings.layers is not None:
        keep_layers(model, settings.layers, cut=settings.cut)
    mode = settings.positions
    return DecoderBackbone(model, max_intra=max_intra, position_mode=mode, seed=seed)


def choose_parts(backbone: Backbone, settings: DecoderSettings) -> None:
    """Say what of a backbone is trained, in place.

    Without `train: full` GLM's tables of positions, which are pretrained, stay frozen; a decoder's
    table of intra-entity positions and its five new tokens are always trained.

    Raises:
        ConfigError: see :func:`legos.lm.adapt.choose_trained`.
    """
    backbone.requires_grad_(settings.train == "full")
    choose_trained(backbone.inner, settings)
    if isinstance(backbone, DecoderBackbone):
        backbone.intra.requires_grad_(True)
        backbone.new_tokens.requires_grad_(True)
