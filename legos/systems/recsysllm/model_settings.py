"""Settings of RecSysLLM as a system: its backbone, data, training and how it is measured.

Torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

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
    CHOICE,
    CONTENT,
    MEASUREMENT,
    NOTHING,
    WEIGHTS,
    Count,
    LessMemory,
    NotNegative,
    Positive,
    Seed,
    Settings,
)
from legos.systems.recsysllm.settings import (
    AROUND_ANSWER,
    MaskingSettings,
    PositionSettings,
    TaskSettings,
)

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
    bidirectional: bool = True
    """Part A sees all of itself; off: only what comes before, as the decoder was trained."""
    max_intra: Count | None = None
    """Rows of a decoder's table of intra-entity positions; null: as many as can occur."""

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
        told = super().told_in_ids()
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
            if self.attention == "eager":
                raise ValueError("attention eager: a GLM has sdpa alone; expected auto or sdpa")
            if self.train == "frozen":
                raise ValueError("train frozen: nothing of a GLM would be trained; expected lora")
        elif self.layout != "auto":
            raise ValueError(f"layout {self.layout}: of a GLM; expected auto, or kind glm")
        return self


class RatingModelSettings(Settings):
    """How a rating model is trained."""

    size: Count = 32
    """Width of the vectors."""
    hidden_sizes: tuple[Count, ...] = (32, 16)
    """Widths of the perceptron's hidden layers."""
    lr: Positive = 3e-3
    """Of Adam."""
    weight_decay: NotNegative = 0.02
    """Times half the squared length of the vectors and biases of a batch's ratings."""
    batch_size: Count = 512
    """Ratings a step."""
    epochs: Count = 30
    """The most passes."""
    patience: Count = 3
    """Passes without a lower error on the valid ratings before it stops."""


class MeasureSettings(Settings):
    """Which prompts are tried on how many users."""

    prompts: tuple[str, ...] = ()
    """Templates by name, a row each; none: of every family the held-out one and the last of the
    seen ones that ask the same."""
    beams: Annotated[Count, LessMemory(4)] = 20
    """Entities that a search over all items keeps in a test; cut-offs cannot be larger."""
    valid_beams: Annotated[Count, WEIGHTS] = 20
    """The same where epochs are compared."""
    users: Count | None = None
    """At most so many users or reviews a row of a test, drawn by `seed`; null: all."""
    valid_users: Annotated[Count | None, WEIGHTS] = None
    """The same where epochs are compared; null: all."""
    negatives: Count = 99
    """Wrong candidates beside the right one: those of split `test_<negatives>` where the tables
    have it, so that every model ranks the same; else drawn once by `seed` and frozen."""
    seed: Annotated[Seed, CHOICE] = 0
    """Of frozen candidates and of the draw of users: the same for all seeds of a run."""
    max_tokens: Count = 4096
    """The most tokens of a prompt that lists frozen candidates: 100 titles are some 1,800. Those of
    other prompts are those of training."""
    batch_size: Annotated[Count, NOTHING, LessMemory(3)] = 16
    """Prompts read at once; changes memory, not results."""
    mean_shrink: NotNegative = 5.0
    """Of the row of user and item means: so many ratings of the mean count beside their own."""
    rating_models: RatingModelSettings = RatingModelSettings()
    """How a test trains the rows that predict ratings from ids alone."""


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
