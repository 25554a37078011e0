"""DIRE (ONCE, WSDM 2024): a language model with cached lower layers and trained upper layers.

Liu et al., "ONCE: Boosting Content-based Recommendation with Both Open- and Closed-source Large
Language Models", WSDM 2024, section 3 (DIRE): the final states of an item's tokens go through a
linear layer to hidden_size and additive attention. With a BERT it is PLM-NR (Wu et al., SIGIR
2021). The published code resumes one layer too high; here layer k resumes at layer k exactly.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.packed import MOST_BUCKETS, PackedTokens, in_length_buckets, segment_mean
from legos.data.items import ItemBatch
from legos.data.ragged import Ragged
from legos.lm.adapt import choose_trained
from legos.lm.cut import cut_below, forward_above
from legos.lm.load import LanguageModel
from legos.lm.locate import packaged
from legos.lm.sentence import SentenceHead, shipped_files
from legos.lm.settings import (
    LARGEST_RANK,
    Alpha,
    Dtype,
    LanguageModelSource,
    LoadSettings,
    LoraDropout,
    Trained,
    TuningSettings,
)
from legos.lm.states import TOKENS, layer_name
from legos.lm.text_model import call_options, padding_id
from legos.registry import BrickConfig, item_encoders
from legos.settings import CONTENT

ONCE_RANK = 32


class LanguageModelSettings(LoadSettings, BrickConfig):
    """Settings shared by the encoders over a language model."""

    model: Annotated[LanguageModelSource, CONTENT] = Field(
        default_factory=lambda: packaged("minilm")
    )
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""
    cache_dtype: Dtype | None = None
    """Of cached hidden states; null: that of the weights, so that nothing is lost."""
    prompts: bool = True
    """Read the prompts of the data YAML before an item and its fields."""
    prompt_name: str | None = None
    """A prompt of a sentence encoder, which stands before all of that; null: none."""
    bidirectional: bool = False
    """Let every token of a decoder read every other one, as LLM2Vec does."""

    added: ClassVar[frozenset[str]] = frozenset({"prompt_name", "bidirectional"})

    @property
    def stored_dtype(self) -> Dtype:
        """Dtype of cached hidden states."""
        return self.cache_dtype or self.dtype


def once_switches(settings: dict[str, Any]) -> dict[str, Any]:
    """``lora``, ``lora_r`` and ``frozen``, as ONCE says it, become ``train`` and ``lora_rank``.

    A ``train`` or ``lora_rank`` beside them wins: it is given for one model, they for all.

    Raises:
        ValidationError: one of them is no such value.
    """
    given = {"lora": None, "lora_r": ONCE_RANK, "frozen": False} | settings
    switch, rank, frozen = given.pop("lora"), given.pop("lora_r"), given.pop("frozen")
    expected = {
        "lora": (switch is None or _whole(switch, 0), "0 (off), 1 (on) or a rank"),
        "lora_r": (_whole(rank, 1), "a rank"),
        "frozen": (frozen in (True, False, "true", "false"), "true or false"),
    }
    for key, (is_one, what) in expected.items():
        if not is_one:
            most = "" if key == "frozen" else f", at most {LARGEST_RANK:,}"
            message = f"expected {what}{most}, found {settings[key]!r}"
            kind = PydanticCustomError("brick", "{message}", {"message": message})
            details = InitErrorDetails(type=kind, loc=(key,), input=settings[key])
            raise ValidationError.from_exception_data("language_model", [details])
    frozen = frozen in (True, "true")
    if switch is None:
        switch = 0 if frozen or not {"lora", "lora_r"} & settings.keys() else 1
    rank = int(switch) if switch > 1 else rank
    if "train" in given:
        return {"lora_rank": rank if given["train"] == "lora" else 0, **given}
    rank = given.get("lora_rank", rank if switch else 0)
    if frozen and rank:
        raise ValueError(f"frozen and lora_rank {rank}: LoRA is a way of training")
    return {**given, "train": "frozen" if frozen else "lora" if rank else "full", "lora_rank": rank}


def _whole(value: Any, least: int) -> bool:
    return type(value) in (int, bool) and least <= value <= LARGEST_RANK


class LanguageModelConfig(TuningSettings, LanguageModelSettings):
    name: Literal["language_model"] = "language_model"
    layer: int = 0
    """Layers below are computed once and cached; 0: no cache; -1: all but the last."""
    train: Trained = "full"
    """What of the kept layers is trained: nothing, LoRA adapters, or all. `lora`, `lora_r` and
    `frozen` say it as ONCE does: `lora` 0: full; 1: with rank `lora_r`, 32; more: with this rank;
    null: with LoRA unless `frozen`. A `lora_rank` alone means LoRA, 0: full."""
    lora_rank: int = Field(0, ge=0, le=LARGEST_RANK)
    """Rank r of LoRA; 0 without."""
    lora_alpha: Alpha = 128.0
    """Adapters count alpha / r times (128 in ONCE)."""
    lora_dropout: LoraDropout = 0.1
    """Rate on the adapters' input (0.1 in ONCE)."""
    pooling: Literal["attention", "mean", "first", "last", "shipped"] = "attention"
    """Additive attention (ONCE), mean of tokens, first token (BERT's CLS), last one, or what the
    files of a sentence encoder say, Dense heads and normalisation included."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer."""
    normalise: bool = False
    """Layer norm over the final states first (not in ONCE): LLaMA-like states are large."""

    @model_validator(mode="before")
    @classmethod
    def _read_switches(cls, value: Any) -> Any:
        return once_switches(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _a_rank_with_lora_alone(self) -> Self:
        if bool(self.lora_rank) != (self.train == "lora"):
            raise ValueError(f"train {self.train}: lora_rank {self.lora_rank} is of LoRA alone")
        return self

    def told_in_ids(self) -> dict[str, Any]:
        """Plain values; what is trained by the keys of earlier runs."""
        told = super().told_in_ids()
        return told | {"frozen": told.pop("train") == "frozen"}


@item_encoders.register(LanguageModelConfig)
class LanguageModelEncoder(nn.Module):
    """Language model over token ids or cached states, linear layer, pooling.

    Args:
        language_model: to be loaded, cut and adapted; like the items it was prepared with
            ``model``, ``dtype``, ``cache_dtype``, ``prompts`` and ``quantised`` of the settings.

    Attributes:
        most_calls: of the language model in a forward pass; 1: exactly one.
    """

    def __init__(
        self, settings: LanguageModelConfig, *, language_model: LanguageModel, hidden_size: int
    ) -> None:
        super().__init__()
        self.frozen, self.pooling = settings.train == "frozen", settings.pooling
        self.most_calls = MOST_BUCKETS
        model = language_model.instance()
        self.reads = TOKENS
        if settings.layer:
            cut = language_model.layer(settings.layer)
            cut_below(
                model, cut, like=language_model.twin(cut) if language_model.shapes_only else None
            )
            self.reads = layer_name(cut)
        choose_trained(model, settings)
        marked: Any = model
        marked.is_language_model = True  # it learns at item_lr
        marked.fingerprint = (
            "" if language_model.shapes_only else language_model.fingerprint
        )  # of what a checkpoint leaves out
        self.language_model = model
        self.options = call_options(model)
        self.padding = padding_id(model)
        self.width = width = language_model.output_width
        self.norm = nn.LayerNorm(width) if settings.normalise else nn.Identity()
        self.head: SentenceHead | None = None
        if settings.pooling == "shipped":
            head: Any = SentenceHead(shipped_files(language_model), width)
            head.is_language_model = True
            self.head = head.requires_grad_(settings.train == "full")
            width = head.width
        self.project = nn.Linear(width, hidden_size)
        self.attention = (
            AdditiveAttention(hidden_size, settings.attention_size)
            if settings.pooling == "attention"
            else None
        )

    def train(self, mode: bool = True) -> Self:
        """Training mode; a frozen language model stays without dropout."""
        super().train(mode)
        if self.frozen:
            self.language_model.eval()
        return self

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``."""
        read = items.read(self.reads).to(self.project.weight.device)
        values = read.values if read.values.dim() == 2 else read.values[:, None]  # (P, E) or (P, 1)
        index = torch.arange(len(values), device=values.device)
        tokens = PackedTokens(values, Ragged(index, read.offsets))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if len(values) or self.most_calls == 1:
                states = in_length_buckets(self._above, tokens, self.most_calls)  # (P, E)
            else:
                states = self.project.weight.new_zeros(0, self.width)
        states = self.norm(states.to(self.project.weight.dtype))
        if self.attention is not None:
            return self.attention.packed(self.project(states), tokens.rows, len(items))
        vectors: Tensor = self.project(self._pooled(states, tokens))
        return vectors

    def _above(self, values: Tensor, mask: Tensor) -> Tensor:
        """The kept layers: ids ``(n, T, 1)`` or states ``(n, T, E)`` -> ``(n, T, E)``."""
        if values.is_floating_point():
            weight = next(self.language_model.parameters())
            dtype = weight.dtype if weight.is_floating_point() else values.dtype  # not if quantised
            return forward_above(self.language_model, values.to(dtype), mask, self.options)
        ids = values.squeeze(-1).masked_fill(~mask, self.padding)
        output: Any = self.language_model(input_ids=ids, attention_mask=mask.long(), **self.options)
        states: Tensor = output.last_hidden_state
        return states

    def _pooled(self, states: Tensor, tokens: PackedTokens) -> Tensor:
        """``(P, E)`` -> ``(N, E)``, zeros for an item without tokens; or what the head makes."""
        if self.head is not None:
            vectors: Tensor = self.head(states, tokens.offsets)
            return vectors
        if self.pooling == "mean":
            return segment_mean(states, tokens.rows, tokens.offsets)
        empty = tokens.numbers.lengths == 0
        place = tokens.offsets[:-1] if self.pooling == "first" else tokens.offsets[1:] - 1
        padded = torch.cat([states, states.new_zeros(1, states.shape[1])])
        return padded.index_select(0, place.where(~empty, len(states)))
