"""Settings of RecSysLLM: its backbone, data, masks, positions, tasks, training and measuring.

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
    Positive,
    Settings,
)
from legos.systems.recsysllm.measure_settings import MeasureSettings

IntraMode = Literal["paper", "run", "glm"]
Share = Annotated[float, Field(gt=0, le=1)]


class PositionSettings(Settings):
    """The two position ids of every token, and what a training example consists of."""

    removed: ClassVar[Mapping[str, Any]] = {
        "intra_source": "automaton", "entities_in_prompt": True, "first_in_entity": 1,
        "single_token_entity": 1, "first_offset": True, "dead_prefix": "commit", "inter_base": 0,
    }  # fmt: skip
    intra_mode: IntraMode = "paper"
    """How tokens of a filled blank are numbered: `paper`: every unit anew from 1, plain tokens are
    units of their own; `run`: consecutive plain tokens are one unit; `glm`: counted through."""
    prepend_cls: bool = False
    """Begin every example with [CLS], as GLM's tokenizer does; it counts as a position."""
    shuffle_spans: bool = False
    """Fill blanks in random order as GLM does; the paper keeps their order in time."""
    max_tokens: Count = 1024
    """The most tokens of Part A and Part B together (1024 in the paper)."""


class MaskingSettings(Settings):
    """Which blanks are cut into documents."""

    removed: ClassVar[Mapping[str, Any]] = {"length_in": "tokens"}
    entity_weight: NotNegative = 0.5
    """Share of documents with entity-level blanks (GLM-10B's configuration; the paper: silent)."""
    sentence_weight: NotNegative = 0.3
    """Share with sentence-level blanks."""
    document_weight: NotNegative = 0.2
    """Share with one long blank."""
    ratio: Share = 0.15
    """Entity level: blanks are added until this share of the tokens is masked."""
    sentence_ratio: Share = 0.15
    """The same at sentence level."""
    mean_length: Positive = 3.0
    """Mean of the Poisson distribution of a blank's length."""
    max_length: Count = 39
    """The longest blank that is drawn; it may grow to the end of an entity."""
    whole_entities: bool = True
    """An entity is masked as a whole or not at all (the paper); off: token by token, as in GLM."""
    tries: Count = 50
    """Draws of a document at entity level before what was found is enough."""
    document_min: Share = 0.5
    """Shortest long blank as a share of the document (the paper; 0.25 in GLM-10B)."""

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.entity_weight + self.sentence_weight + self.document_weight <= 0:
            raise ValueError("entity_weight, sentence_weight and document_weight are all 0")
        return self


class HorizonSettings(Settings):
    """Which part of a user's past a training document tells."""

    removed: ClassVar[Mapping[str, Any]] = {"anchor": "random"}
    long_weight: NotNegative = 0.10
    """Share of documents over the whole past (the paper)."""
    medium_weight: NotNegative = 0.30
    """Share over weeks and months (the paper)."""
    short_weight: NotNegative = 0.60
    """Share over days (the paper)."""
    by: Literal["time", "count"] = "time"
    """Windows in days, or in numbers of events where times are coarse or unknown."""
    short_days: Positive = 7.0
    """The short window."""
    medium_days: Positive = 90.0
    """The medium window."""
    short_events: Count = 3
    """The short window in events."""
    medium_events: Count = 10
    """The medium window in events."""
    max_items: Count = 20
    """The most events of a document; of a longer window the latest, of the long one any."""
    min_items: Count = 2
    """With fewer the next longer window is taken."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.long_weight + self.medium_weight + self.short_weight <= 0:
            raise ValueError("long_weight, medium_weight and short_weight are all 0")
        if self.min_items > self.max_items:
            raise ValueError(f"min_items {self.min_items} is more than max_items {self.max_items}")
        return self


class DocumentSettings(Settings):
    """What documents tell of a past beside its items; prompts have the history alone."""

    attributes: bool = True
    """Of the newest items their categories, numbers and short texts, as far as tables have them."""
    reviews: Literal["texts", "stars", "nothing"] = "texts"
    """Of the newest events, from training reviews: stars, headline and review; `stars` alone."""
    detailed: Natural = 3
    """So many of the newest events are told with these."""
    max_review_words: Count = 60
    """Longer reviews lose their ends."""


SplitName = Literal["train", "valid", "test"]
ReviewSplit = Literal["consistent", "p5"]
AROUND_ANSWER = 2
"""Tokens of a blank besides its own: the mask, [START]."""


class TaskSettings(Settings):
    """Which examples are made, and of what."""

    split: ReviewSplit = "consistent"
    """`consistent`: reviews of held-out pairs of the sequences are in no training example; `p5`:
    80/10/10 of all reviews at random as P5 did, which shows about 80 % of the sequential test pairs
    to the families with reviews."""
    item_text: Literal["title", "id"] = "title"
    """What stands for an item: its title, or `item_` and its number as in P5."""
    explanations: Annotated[Path | None, CONTENT] = None
    """Published explanations as JSON lines, made of a pickle by `python -m process.explanations`;
    null: sentences found by feature and opinion words, not comparable with published numbers."""
    max_name_words: Count = 30
    """Longer titles are cut, before equal ones are told apart."""
    features: bool = True
    """A sentence on what tables know of the user (categories and numbers of table users) and of the
    one item that is asked about (its categories, numbers and short texts) stands before a prompt;
    off: neither in prompts nor in documents."""
    history: Literal["p5", "horizon"] = "p5"
    """Of prompts in training. `p5`: one of the last 4 training events is asked for, after a start
    among the first 3, so that they are as long as those of a test; `horizon`: the last event of a
    window that is drawn as those of documents are."""
    max_past: Count = 20
    """The most events that a prompt tells of, the newest."""
    predict_past: bool = False
    """In training every item of a past is predicted, too, from what stands before it: a prompt then
    teaches as many items as it tells of. For a prompt that is read one way and lists no candidates.
    """
    horizons: HorizonSettings = HorizonSettings()
    """Windows of the past that documents tell of; `by: count` where times are unknown."""
    documents: DocumentSettings = DocumentSettings()
    """What documents tell of a past beside its items."""
    num_negatives: tuple[Count, ...] = (19, 99)
    """Wrong candidates beside the right one in a training prompt, one of these numbers in each (99
    in P5, whose items are short ids). 100 titles are some 1,800 tokens: of more than `max_tokens`
    has room for, wrong ones are dropped; of a small catalogue there are as many as are left. Frozen
    candidates of valid and test have a number of their own."""
    next_samples: Natural = 5
    """Next-item examples of a user and epoch (P5)."""
    choose_samples: Natural = 5
    """Sequential examples with candidates (P5)."""
    will_samples: Natural = 10
    """Sequential examples of yes or no (P5)."""
    direct_will_samples: Natural = 10
    """Direct examples of yes or no (P5)."""
    direct_choose_samples: Natural = 5
    """Direct examples with candidates (P5)."""
    rating_jitter: NotNegative = 0.2
    """Standard deviation of the noise on training ratings, which are written with one decimal."""
    max_body_words: Count = 256
    """Longer reviews lose their ends."""
    max_answer_tokens: Count = 64
    """Longer sentences and headlines lose their ends; items never do: where one is longer, its
    tokens are the most."""
    max_tokens: Count = 1024
    """The most tokens of a prompt and its answer (1024 in the paper)."""
    mixture: Literal["data", "equal"] = "data"
    """How often a family comes. `data`: in proportion to its examples, as in P5, where users make
    more of them than reviews; `equal`: all the same. Weights come on top."""
    rating_weight: NotNegative = 1.0
    """The family comes so much more often; families without data never do."""
    sequential_weight: NotNegative = 1.0
    """The same."""
    explanation_weight: NotNegative = 1.0
    """The same."""
    review_weight: NotNegative = 1.0
    """The same."""
    direct_weight: NotNegative = 1.0
    """The same."""

    @field_validator("num_negatives", mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        """One number is a list of one."""
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _some_negatives(self) -> Self:
        if not self.num_negatives:
            raise ValueError("num_negatives: expected at least one number of wrong candidates")
        return self


_PRESETS = {"paper": ("linear",), "qkv": ("qkv",)}


class DecoderSettings(BackboneSettings):
    """What is made of the language model."""

    kind: Literal["decoder", "glm"] = "decoder"
    """`decoder`: any causal decoder of transformers; `glm`: GLM or ChatGLM-6B, which are made for
    blanks and have two positions of their own."""
    layout: Literal["auto", "megatron", "hub", "chatglm"] = "auto"
    """How the weights of a GLM lie: `megatron`: in shards; `hub`: as on the Hugging Face hub;
    `chatglm`: query, key and value of each head together; `auto`: as they look."""
    layers: Annotated[Count | None, LessMemory(5)] = None
    """A decoder keeps so many layers and its last norm; null: all."""
    cut: Literal["end", "middle"] = "middle"
    """Where the others are taken out."""
    train: Trained = "lora"
    """What of it is trained beside new tokens and positions: nothing, LoRA adapters, or all.
    `paper` and `qkv` are LoRA with targets `linear` (section 4.1.4) and `qkv`."""
    lora_rank: Rank = 8
    """r (8 in the paper)."""
    lora_alpha: Alpha = 16.0
    """Adapters count alpha / r times (the paper: silent)."""
    lora_dropout: LoraDropout = 0.05
    """On their input (the paper: silent)."""
    lora_targets: Targets = ("linear",)
    """Linear layers with adapters: by the last parts of their names; `qkv`; `linear`: all of a
    block, as in the paper (section 4.1.4: a fused projection stays fused); none: queries, values.
    """
    positions: Literal["sequential", "glm"] = "sequential"
    """Of a decoder. `sequential`: Part B continues Part A, as it was trained; `glm`: it stands at
    its mask, as it always does in a GLM."""
    bidirectional: bool | None = None
    """Part A sees all of itself, or only what comes before; null: as the language model was
    trained, true for a GLM and false for a decoder."""
    max_intra: Count | None = None
    """Rows of a decoder's table of intra-entity positions; null: as many as can occur."""

    @property
    def both_ways(self) -> bool:
        """Whether Part A sees all of itself."""
        return self.kind == "glm" if self.bidirectional is None else self.bidirectional

    @model_validator(mode="before")
    @classmethod
    def _read_preset(cls, value: Any) -> Any:
        """``train: paper`` and ``train: qkv`` name adapters by where they stand."""
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
            raise ValueError("attention flash_attention_2: takes no mask of queries by keys, which "
                             "blanks need; expected auto, sdpa or eager")  # fmt: skip
        if self.kind == "glm":
            for name, given in (("layers", self.layers), ("max_intra", self.max_intra)):
                if given is not None:
                    raise ValueError(f"{name} {given}: a GLM keeps its own; expected null")
            if self.positions == "glm":
                raise ValueError("positions glm: is about decoders, a GLM has no other positions; "
                                 "expected to be left out")  # fmt: skip
            if self.attention == "eager":
                raise ValueError("attention eager: a GLM has sdpa alone; expected auto or sdpa")
            if self.train == "frozen":
                raise ValueError("train frozen: nothing of a GLM would be trained; expected lora")
        elif self.layout != "auto":
            raise ValueError(f"layout {self.layout}: of a GLM; expected auto, or kind glm")
        return self


class RecsysllmConfig(Settings):
    """One RecSysLLM."""

    backbone: DecoderSettings = DecoderSettings()
    """What is made of the language model."""
    positions: PositionSettings = PositionSettings()
    """The two position ids of every token."""
    masking: MaskingSettings = MaskingSettings()
    """Blanks of histories."""
    tasks: TaskSettings = TaskSettings()
    """Which examples are made, and of what."""
    measure: Annotated[MeasureSettings, MEASUREMENT] = MeasureSettings()
    """Which prompts are tried on how many users."""

    @model_validator(mode="after")
    def _answers_have_room(self) -> Self:
        if self.tasks.max_tokens <= self.tasks.max_answer_tokens + AROUND_ANSWER:
            raise ValueError(
                f"tasks.max_tokens {self.tasks.max_tokens}: expected more than "
                f"tasks.max_answer_tokens {self.tasks.max_answer_tokens} and {AROUND_ANSWER}"
            )
        if self.tasks.predict_past and self.backbone.both_ways:
            raise ValueError(
                "tasks.predict_past: a prompt that is read both ways shows what is to be "
                "predicted; expected backbone.bidirectional false"
            )
        if self.positions.prepend_cls and self.backbone.kind == "decoder":
            raise ValueError("positions.prepend_cls: a decoder has no [CLS]; expected false")
        return self


@register_system(
    about="a language model that fills blanks, trained on prompts (RecSysLLM, 2023)",
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
    """What trains and scores."""
    model: Annotated[LanguageModelSource, CONTENT]
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""

    @property
    def needs(self) -> frozenset[str]:
        """Prompts, its own tokens, and adapters unless the language model is frozen."""
        learns = () if self.backbone.train == "frozen" else ("adapters",)
        return frozenset({"prompts", "epochs", "soft_tokens", *learns})
