"""Settings of RecSysLLM: backbone, data, masks, positions, tasks, training, measurements.

Every choice that the paper leaves open is one.

Torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from legos.config.model_schema import SystemModel, register_system
from legos.lm.settings import (
    Alpha,
    BackboneSettings,
    LanguageModelSource,
    LoraDropout,
    Rank,
    Targets,
    Trained,
)
from legos.settings import (
    CONTENT,
    MEASUREMENT,
    Count,
    LessMemory,
    Natural,
    NotNegative,
    OnlyWith,
    Positive,
    Settings,
)
from legos.systems.recsysllm.measure_settings import MeasureSettings

IntraMode = Literal["paper", "run", "glm"]
Share = Annotated[float, Field(gt=0, le=1)]
ItemText = Literal["title", "id", "codes", "title_and_codes"]
CODED = ("codes", "title_and_codes")
"""What stands for items where semantic codes are read."""


class PositionSettings(Settings):
    """The two position ids of every token, and what a training example consists of."""

    removed: ClassVar[Mapping[str, Any]] = {
        "intra_source": "automaton", "entities_in_prompt": True, "first_in_entity": 1,
        "single_token_entity": 1, "first_offset": True, "dead_prefix": "commit", "inter_base": 0,
    }  # fmt: skip
    intra_mode: IntraMode = "paper"
    """Numbering of tokens within a filled blank. `paper`: restart at 1 in every unit, where each
    plain token is a unit; `run`: consecutive plain tokens form one unit; `glm`: no restart."""
    prepend_cls: bool = False
    """Begin every example with [CLS], as GLM's tokenizer does; it counts as a position."""
    shuffle_spans: bool = False
    """Fill blanks in random order as GLM does; the paper keeps their order in time."""
    max_tokens: Count = 1024
    """Maximum tokens of Part A and Part B together (1024 in the paper)."""


class MaskingSettings(Settings):
    """Masking of documents with blanks."""

    removed: ClassVar[Mapping[str, Any]] = {"length_in": "tokens"}
    entity_weight: NotNegative = 0.5
    """Share of documents with entity-level blanks (GLM-10B's configuration; not in the paper)."""
    sentence_weight: NotNegative = 0.3
    """Share of documents with sentence-level blanks."""
    document_weight: NotNegative = 0.2
    """Share of documents with one long blank."""
    ratio: Share = 0.15
    """Share of tokens to mask at entity level."""
    sentence_ratio: Share = 0.15
    """Share of tokens to mask at sentence level."""
    mean_length: Positive = 3.0
    """Mean of the Poisson distribution of a blank's length."""
    max_length: Count = 39
    """Maximum length of a sampled blank; it may grow to the end of an entity."""
    whole_entities: bool = True
    """Mask entities as a whole (the paper); off: token by token, as in GLM."""
    tries: Count = 50
    """Maximum attempts per document at entity level to reach the share of masked tokens."""
    document_min: Share = 0.5
    """Minimum length of the long blank as a share of the document (the paper; 0.25 in GLM-10B)."""

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.entity_weight + self.sentence_weight + self.document_weight <= 0:
            raise ValueError("entity_weight, sentence_weight and document_weight are all 0")
        return self


class HorizonSettings(Settings):
    """Time windows of a user's history for training documents."""

    removed: ClassVar[Mapping[str, Any]] = {"anchor": "random"}
    long_weight: NotNegative = 0.10
    """Share of documents over the whole history (the paper)."""
    medium_weight: NotNegative = 0.30
    """Share of documents over weeks and months (the paper)."""
    short_weight: NotNegative = 0.60
    """Share of documents over days (the paper)."""
    by: Literal["time", "count"] = "time"
    """Measure windows in days, or in events if timestamps are coarse or missing."""
    short_days: Positive = 7.0
    """Days of the short window."""
    medium_days: Positive = 90.0
    """Days of the medium window."""
    short_events: Count = 3
    """Events of the short window."""
    medium_events: Count = 10
    """Events of the medium window."""
    max_items: Count = 20
    """Maximum events of a document: the latest of a window, or random ones of the long window."""
    min_items: Count = 2
    """Minimum events of a window; with fewer, the next longer window is used."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.long_weight + self.medium_weight + self.short_weight <= 0:
            raise ValueError("long_weight, medium_weight and short_weight are all 0")
        if self.min_items > self.max_items:
            raise ValueError(f"min_items {self.min_items} is more than max_items {self.max_items}")
        return self


class DocumentSettings(Settings):
    """Details in training documents besides the items; prompts contain only the history."""

    attributes: bool = True
    """Add categories, numbers and short texts of the newest items."""
    reviews: Literal["texts", "stars", "nothing"] = "texts"
    """Add training reviews of the newest events: stars, headline and text, or `stars` only."""
    detailed: Natural = 3
    """Number of newest events with attributes and reviews."""
    max_review_words: Count = 60
    """Maximum words of a review; longer ones are cut."""


SplitName = Literal["train", "valid", "test"]
ReviewSplit = Literal["consistent", "p5"]
AROUND_ANSWER = 2
"""Extra tokens of a blank: the mask and [START]."""


class TaskSettings(Settings):
    """Training examples of the task families."""

    split: ReviewSplit = "consistent"
    """`consistent`: no training example contains reviews of held-out sequential pairs; `p5`: a
    random 80/10/10 split of all reviews as in P5, which leaks about 80 % of the sequential test
    pairs to the families with reviews."""
    item_text: ItemText = "title"
    """Text of an item: its title; `item_` and its number as in P5; semantic codes as words, `a12
    b200 c7` (LC-Rec: new tokens); or its title followed by its codes."""
    item_codes: Annotated[Path | None, CONTENT, OnlyWith("item_text", CODED)] = None
    """File of the codes (.npy or .safetensors), written by `python -m process.semantic_codes`."""
    explanations: Annotated[Path | None, CONTENT] = None
    """Published explanations as JSON lines, converted by `python -m process.explanations`; null:
    sentences mined by feature and opinion words, not comparable with published numbers."""
    max_name_words: Count = 30
    """Maximum words of a title; longer ones are cut, then duplicates are made unique."""
    features: bool = True
    """Prefix prompts with a sentence on the user (categories and numbers) and on the item in
    question (categories, numbers and short texts). Off: in neither prompts nor documents."""
    history: Literal["p5", "horizon"] = "p5"
    """Histories of training prompts. `p5`: start at one of the first 3 events and ask for one of
    the last 4, so that they are as long as in a test; `horizon`: ask for the last event of a window
    sampled as for documents."""
    max_past: Count = 20
    """Maximum events in a prompt, the newest ones."""
    predict_past: bool = False
    """Also predict every item of the history from its prefix, so that a prompt trains as many items
    as it lists. Needs causal attention and prompts without candidates."""
    horizons: HorizonSettings = HorizonSettings()
    """Time windows of training documents; use `by: count` if timestamps are missing."""
    documents: DocumentSettings = DocumentSettings()
    """Details in training documents besides the items."""
    num_negatives: tuple[Count, ...] = (19, 99)
    """Negatives per training prompt, one of these numbers at random (99 in P5, whose items are
    short ids). 100 titles take about 1,800 tokens: negatives beyond `max_tokens` are dropped, and a
    small catalogue may have fewer. The test candidates have their own number."""
    next_samples: Natural = 5
    """Next-item examples per user and epoch (P5)."""
    choose_samples: Natural = 5
    """Sequential examples with candidates, per user and epoch (P5)."""
    will_samples: Natural = 10
    """Sequential yes/no examples, per user and epoch (P5)."""
    direct_will_samples: Natural = 10
    """Direct yes/no examples, per user and epoch (P5)."""
    direct_choose_samples: Natural = 5
    """Direct examples with candidates, per user and epoch (P5)."""
    rating_jitter: NotNegative = 0.2
    """Standard deviation of noise added to training ratings, which are written to one decimal."""
    max_body_words: Count = 256
    """Maximum words of a review; longer ones are cut."""
    max_answer_tokens: Count = 64
    """Maximum tokens of an answer; longer sentences and headlines are cut. Items are never cut: a
    longer item raises the maximum."""
    max_tokens: Count = 1024
    """Maximum tokens of a prompt and its answer (1024 in the paper)."""
    mixture: Literal["data", "equal"] = "data"
    """Sampling of task families. `data`: in proportion to their examples, as in P5, where users
    give more of them than reviews; `equal`: uniformly. The weights below multiply these shares."""
    rating_weight: NotNegative = 1.0
    """Weight of the rating family; families without data are never sampled."""
    sequential_weight: NotNegative = 1.0
    """Weight of the sequential family."""
    explanation_weight: NotNegative = 1.0
    """Weight of the explanation family."""
    review_weight: NotNegative = 1.0
    """Weight of the review family."""
    direct_weight: NotNegative = 1.0
    """Weight of the direct family."""

    @field_validator("num_negatives", mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        """One number is a list of one."""
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _some_negatives(self) -> Self:
        if not self.num_negatives:
            raise ValueError("num_negatives: expected at least one number of negatives")
        return self

    @model_validator(mode="after")
    def _has_codes(self) -> Self:
        if self.item_text in CODED and self.item_codes is None:
            raise ValueError(
                f"item_text {self.item_text}: item_codes names no file; "
                "`python -m process.semantic_codes` writes one"
            )
        return self


_PRESETS = {"paper": ("linear",), "qkv": ("qkv",)}


class DecoderSettings(BackboneSettings):
    """Adaptation of the language model."""

    kind: Literal["decoder", "glm"] = "decoder"
    """`decoder`: any causal decoder of transformers; `glm`: GLM or ChatGLM-6B, which are trained to
    fill blanks and have two position ids per token."""
    layout: Literal["auto", "megatron", "hub", "chatglm"] = "auto"
    """File layout of a GLM's weights. `megatron`: shards; `hub`: as on the Hugging Face hub;
    `chatglm`: query, key and value of each head together; `auto`: detect."""
    layers: Annotated[Count | None, LessMemory(5)] = None
    """Number of layers a decoder keeps, with its last norm; null: all."""
    cut: Literal["end", "middle"] = "middle"
    """Which layers to remove: the last ones, or the middle ones."""
    train: Trained = "lora"
    """Trainable weights besides new tokens and positions: `frozen`: none; `lora`: adapters; `full`:
    all. `paper` and `qkv` mean LoRA with targets `linear` (section 4.1.4) and `qkv`."""
    lora_rank: Rank = 8
    """LoRA rank r (8 in the paper)."""
    lora_alpha: Alpha = 16.0
    """LoRA alpha; adapters are scaled by alpha / r (not in the paper)."""
    lora_dropout: LoraDropout = 0.05
    """Dropout on the adapters' input (not in the paper)."""
    lora_targets: Targets = ("linear",)
    """Linear layers with adapters: the last parts of their names; `qkv`; or `linear`, all of a
    block, as in the paper (section 4.1.4; a fused projection stays fused). Empty: queries and
    values."""
    positions: Literal["sequential", "glm"] = "sequential"
    """Positions of a decoder's Part B. `sequential`: continue after Part A, as in pretraining;
    `glm`: the position of its mask, as always in a GLM."""
    bidirectional: bool | None = None
    """Whether Part A attends to itself in both directions; null: as in pretraining, true for a GLM
    and false for a decoder."""
    max_intra: Count | None = None
    """Rows of a decoder's table of intra-entity positions; null: as many as needed."""

    @property
    def both_ways(self) -> bool:
        """Whether Part A sees all of itself."""
        return self.kind == "glm" if self.bidirectional is None else self.bidirectional

    @model_validator(mode="before")
    @classmethod
    def _read_preset(cls, value: Any) -> Any:
        """Replace ``train: paper`` and ``train: qkv`` by LoRA with their targets."""
        if not isinstance(value, dict) or value.get("train") not in _PRESETS:
            return value
        targets = _PRESETS[value["train"]]
        return {"lora_targets": targets, **value, "train": "lora"}

    def told_in_ids(self) -> dict[str, Any]:
        """Plain values; adapters of a preset by its name, as runs were hashed that had no other."""
        told = super().told_in_ids() | {"bidirectional": self.both_ways}
        targets = told.pop("lora_targets")
        if self.train != "lora":
            return told
        preset = next((name for name, each in _PRESETS.items() if each == self.lora_targets), None)
        return told | ({"train": preset} if preset else {"lora_targets": targets})

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.attention == "flash_attention_2":
            raise ValueError("attention flash_attention_2: supports no mask of queries by keys, "
                             "which blanks need; expected auto, sdpa or eager")  # fmt: skip
        if self.kind == "glm":
            for name, given in (("layers", self.layers), ("max_intra", self.max_intra)):
                if given is not None:
                    raise ValueError(f"{name} {given}: fixed for a GLM; expected null")
            if self.positions == "glm":
                raise ValueError("positions glm: only for decoders, a GLM has no other positions; "
                                 "remove it")  # fmt: skip
            if self.attention == "eager":
                raise ValueError("attention eager: a GLM has only sdpa; expected auto or sdpa")
            if self.train == "frozen":
                raise ValueError(
                    "train frozen: a GLM would have no trainable weights; expected lora"
                )
        elif self.layout != "auto":
            raise ValueError(f"layout {self.layout}: only for a GLM; expected auto, or kind glm")
        return self


class RecsysllmConfig(Settings):
    """One RecSysLLM."""

    backbone: DecoderSettings = DecoderSettings()
    """Adaptation of the language model."""
    positions: PositionSettings = PositionSettings()
    """The two position ids of every token."""
    masking: MaskingSettings = MaskingSettings()
    """Masking of documents with blanks."""
    tasks: TaskSettings = TaskSettings()
    """Training examples of the task families."""
    measure: Annotated[MeasureSettings, MEASUREMENT] = MeasureSettings()
    """Validation and test: prompts, users and search."""

    @model_validator(mode="after")
    def _answers_have_room(self) -> Self:
        if self.tasks.max_tokens <= self.tasks.max_answer_tokens + AROUND_ANSWER:
            raise ValueError(
                f"tasks.max_tokens {self.tasks.max_tokens}: expected more than "
                f"tasks.max_answer_tokens {self.tasks.max_answer_tokens} and {AROUND_ANSWER}"
            )
        if self.tasks.predict_past and self.backbone.both_ways:
            raise ValueError(
                "tasks.predict_past: bidirectional attention would show the items to "
                "predict; expected backbone.bidirectional false"
            )
        if self.positions.prepend_cls and self.backbone.kind == "decoder":
            raise ValueError("positions.prepend_cls: a decoder has no [CLS]; expected false")
        return self


@register_system(
    about="RecSysLLM: a language model that fills blanks, trained on prompts (2023)",
    runs="legos.systems.recsysllm.system:RecsysllmSystem",
    shows="legos.systems.recsysllm.check:show_recsysllm",
)
class RecsysllmModel(RecsysllmConfig, SystemModel):
    """RecSysLLM over a language model (`config/model/recsysllm.yaml`)."""

    reads_other_tables: ClassVar[bool] = True
    of_lists: ClassVar[frozenset[str]] = frozenset(
        f"model.measure.{key}" for key in ("search", "most_read", "beams", "max_tokens", "ratings")
    )
    training: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw",
        "lr": 1e-5,  # the paper
        "epochs": 10,  # this and all below: P5
        "batch_size": 64,
        "patience": 0,
        "weight_decay": 0.01,
        "warmup": 0.05,
        "schedule": "linear",
        "clip": 1.0,
    }
    former: ClassVar[Mapping[str, str]] = {
        **{f"model.training.{key}": f"exp.train.{key}" for key in (
            "infill_share", "epochs", "epoch_steps", "batch_size", "batch_tokens", "lr",
            "schedule", "warmup", "weight_decay", "reduction", "patience",
        )},
        "model.training.clip_norm": "exp.train.clip",
    }  # fmt: skip
    system: Literal["recsysllm"] = "recsysllm"
    """Training and scoring code."""
    model: Annotated[LanguageModelSource, CONTENT]
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""

    @property
    def needs(self) -> frozenset[str]:
        """Prompts, its own tokens, and adapters unless the language model is frozen."""
        learns = () if self.backbone.train == "frozen" else ("adapters",)
        return frozenset({"prompts", "epochs", "soft_tokens", *learns})
