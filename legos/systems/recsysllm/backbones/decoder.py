"""The backbone interface of RecSysLLM, and its implementation over Hugging Face decoders.

RecSysLLM, section 3.3, has a table of inter-positions and a table of intra-positions, both added to
the vectors of tokens. A decoder gets both beside its own positions, zero at first, and its new
tokens start from words with a like meaning: it begins as the model it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from legos.errors import ConfigError, DataError
from legos.lm.adapt import choose_trained
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.word_model import keep_layers, word_model
from legos.systems.recsysllm.backbones.glm import GlmBackbone, HeadRows
from legos.systems.recsysllm.backbones.glm_files import GlmFiles
from legos.systems.recsysllm.positions import (
    NUM_APPENDED,
    Inputs,
    appended,
    attention_mask,
)
from legos.systems.recsysllm.settings import DecoderSettings

PositionMode = Literal["sequential", "glm"]
_STARTS = ("___", ":", "\n")  # of masks, [START] and [END]
_log = logging.getLogger(__name__)


def new_cache() -> Any:
    """An empty key-value cache of transformers; both kinds of backbones take it."""
    from transformers import DynamicCache

    return DynamicCache()


class PositionRows(NamedTuple):
    """Rows of a decoder's tables of inter-positions and of intra-positions."""

    inter: int
    intra: int


_ROWS = PositionRows(inter=1024, intra=64)


class PositionTable(nn.Module):
    """Vectors of positions, zero at first; positions beyond the last row share it.

    Args:
        rows: as many as positions are trained.
        width: D.
        setting: that decides about rows: a warning names it; None: no warning.
    """

    def __init__(self, rows: int, width: int, *, setting: str | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, width)
        nn.init.zeros_(self.table.weight)
        self._setting, self._warned = setting, setting is None

    def forward(self, positions: Tensor) -> Tensor:
        """``(..., )`` int64 -> ``(..., D)``."""
        last = self.table.num_embeddings - 1
        if not self._warned and positions.device.type == "cpu" and int(positions.max()) > last:
            self._warned = True
            _log.warning(
                "position %d: the table ends at %d, which stands for all beyond; raise %s",
                int(positions.max()), last, self._setting,
            )  # fmt: skip
        vectors: Tensor = self.table(positions.clamp(max=last))
        return vectors

    def resized(self, rows: int) -> PositionTable:
        """A new table with this many rows, on the same device; it learns if this one does."""
        own = self.table.weight
        table = PositionTable(rows, own.shape[1], setting=self._setting).to(own.device)
        return table.requires_grad_(own.requires_grad)


class DecoderBackbone(nn.Module):
    """Any causal decoder of transformers that takes ``inputs_embeds``, positions and 4-D masks.

    Args:
        model: with or without a language-modelling head; its attention must be sdpa or eager.
        rows: of both tables of positions; the defaults suit 1,024 tokens.
        position_mode: ``sequential``: Part B continues Part A, positions are what the model was
            trained with; ``glm``: Part B stands at its mask, far from what it was trained with.
        starts: word that each new token starts from, in the order of ``special``; None: as the
            mean of all words.
        seed: of what is added to that mean.

    Attributes:
        special: the five tokens behind its words.
        words: number of rows of its own token table.

    Raises:
        ConfigError: its head does more than a matrix product and a bias.
    """

    def __init__(
        self,
        model: Any,
        *,
        rows: PositionRows = _ROWS,
        position_mode: PositionMode = "sequential",
        starts: Sequence[int | None] = (None,) * NUM_APPENDED,
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
        self.inter = PositionTable(rows.inter, self.width)
        self.intra = PositionTable(rows.intra, self.width, setting="max_intra")
        self.end_start = starts[-1]
        self.new_tokens = nn.Parameter(
            _first_vectors(self.token_table, self.word_scores, starts, seed)
        )

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

    @property
    def word_scores(self) -> Tensor:
        """The head over words ``(V, D)``."""
        weight: Tensor = self.token_table if self.head is None else self.head.weight
        return weight

    @property
    def ends(self) -> list[int]:
        """Tokens that close a freely generated blank.

        [END], and as long as that is still the word it started from, that word and the model's own
        ends of text, since nothing has taught it [END] yet.
        """
        own, start = self.new_tokens[-1], self.end_start
        if start is None or not torch.equal(own, self.word_scores[start].to(own.dtype)):
            return [self.special.end]
        eos = getattr(self.model.config, "eos_token_id", None)
        closing = eos if isinstance(eos, list) else [] if eos is None else [eos]
        return [self.special.end, start, *closing]

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
        positions = self.inter(inputs.inter) + self.intra(inputs.intra)
        vectors = vectors + positions.to(vectors.dtype)
        kind = self.model.config._attn_implementation
        states: Tensor = self.model(
            inputs_embeds=vectors,
            position_ids=inputs.order if self.position_mode == "sequential" else inputs.inter,
            attention_mask=attention_mask(mask, kind, vectors.dtype),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states

    def head_rows(self) -> HeadRows:
        """The rows that :meth:`logits` multiplies states with."""
        bias = None if self.head is None else self.head.bias
        return HeadRows(self.word_scores, bias, self.new_tokens[-1])

    def logits(self, states: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., V + 5)``: the words as the model scores them, then [END].

        Masks and [START] are never written: they have -inf, and take nothing from the words.
        """
        words = self.head(states) if self.head is not None else states @ self.token_table.T
        end = states @ self.new_tokens[-1].to(states.dtype)
        never = words.new_full((*end.shape, NUM_APPENDED - 1), -torch.inf)
        return torch.cat([words, never, end[..., None]], -1)


def _first_vectors(
    table: Tensor, scores: Tensor, starts: Sequence[int | None], seed: int
) -> Tensor:
    """``(5, D)`` initial vectors of new tokens, for reading and (of [END]) for scoring.

    Without a word: the mean of all words and a tenth of their spread.
    """
    values = table.detach().float()
    mean, spread = values.mean(0), values.std(0)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(NUM_APPENDED, table.shape[1], generator=generator).to(mean.device)
    vectors = mean + 0.1 * spread * noise
    for number, word in enumerate(starts):
        if word is not None:
            source = scores if number == NUM_APPENDED - 1 else table
            vectors[number] = source[word].detach()
    return vectors


def start_words(language: LanguageModel) -> list[int | None]:
    """Words that the five new tokens start from: a gap for masks, a colon, the end of a line.

    Of texts that are several tokens the last one counts; None where there is no such token, or no
    tokenizer.
    """
    if not language.has_tokenizer:
        return [None] * NUM_APPENDED
    encoded = (language.tokenizer.encode(text, add_special_tokens=False).ids for text in _STARTS)
    gap, colon, line = (ids[-1] if ids else None for ids in encoded)
    return [gap, gap, gap, colon, line]


Backbone = GlmBackbone | DecoderBackbone


def open_language(
    source: LanguageModelSource, settings: DecoderSettings, *, seed: int, shapes_only: bool = False
) -> LanguageModel | GlmFiles:
    """The language model of some settings, by its kind; no file is read yet.

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
    rows: PositionRows,
    seed: int,
    shapes_only: bool = False,
) -> Backbone:
    """Build a language model that fills blanks, with its trained weights chosen, on the CPU.

    Args:
        rows: of a decoder's tables of positions.
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
            model = word_model(language, settings.init)
            starts = start_words(language)
            backbone = _cut_decoder(model, settings, rows, starts, seed)
        choose_parts(backbone, settings)
    return backbone.eval()


def _cut_decoder(
    model: Any,
    settings: DecoderSettings,
    rows: PositionRows,
    starts: Sequence[int | None],
    seed: int,
) -> DecoderBackbone:
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{type(model).__name__}: an encoder-decoder; recsysllm needs a decoder, such as GPT-2 "
            "or LLaMA"
        )
    if settings.layers is not None:
        keep_layers(model, settings.layers, cut=settings.cut)
    mode = settings.positions
    return DecoderBackbone(model, rows=rows, position_mode=mode, starts=starts, seed=seed)


def choose_parts(backbone: Backbone, settings: DecoderSettings) -> None:
    """Choose the trained weights of a backbone, in place.

    Without `train: full` GLM's tables of positions, which are pretrained, stay frozen; a decoder's
    tables of positions and its five new tokens are always trained.

    Raises:
        ConfigError: see :func:`legos.lm.adapt.choose_trained`.
    """
    backbone.requires_grad_(settings.train == "full")
    choose_trained(backbone.inner, settings)
    if isinstance(backbone, DecoderBackbone):
        backbone.inter.requires_grad_(True)
        backbone.intra.requires_grad_(True)
        backbone.new_tokens.requires_grad_(True)
