"""Settings of CLLM4Rec, and the presets `paper` and `public_code` that set all they differ in.

A key that is given wins over its preset. Torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from legos.config.model_schema import SystemModel, register_system
from legos.config.train_schema import LATER
from legos.lm.settings import Alpha, BackboneSettings, LanguageModelSource, Rank
from legos.settings import (
    CHOICE,
    CONTENT,
    NOTHING,
    Count,
    Dropout,
    LessMemory,
    NotNegative,
    Positive,
    Settings,
)

Preset = Literal["paper", "public_code"]
Reduction = Literal["paper", "public_code", "mean_unique"]
Share = Annotated[float, Field(gt=0, lt=1)]

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "wording": "paper",
        "score_first_main": True,
        "collaborative": {"reorder": True, "checkpoint": "last"},
        "content": {"dropout_in_finetuning": True, "checkpoint": "last"},
        "recommendation": {
            "target": "holdout",
            "reorder": True,
            "test_order": "sorted",
        },
        "mutual": {
            "reduction": "paper",
            "on_recommendation_targets": True,
            "user_twice_in_recommendation": False,
        },
        "shuffle": True,
    },
    "public_code": {
        "wording": "public_code",
        "score_first_main": False,
        "collaborative": {"reorder": False, "checkpoint": "training_loss"},
        "content": {"dropout_in_finetuning": False, "checkpoint": "training_loss"},
        "recommendation": {
            "target": "all_train",
            "reorder": True,
            "test_order": "random",
        },
        "mutual": {
            "reduction": "public_code",
            "on_recommendation_targets": False,
            "user_twice_in_recommendation": True,
        },
        "shuffle": False,
    },
}


class SoftPromptSettings(BackboneSettings):
    """What is made of the language model."""

    added: ClassVar[frozenset[str]] = BackboneSettings.added | {"soft_dropout", "user_dropout"}
    layers: Annotated[Count | None, LessMemory(5)] = None
    """It keeps so many layers and its last norm; null: all."""
    cut: Literal["end", "middle"] = "end"
    """Where the others are taken out; ``middle`` keeps as many first as last ones. On reviews
    SmolLM2 has 3.9 nats a token with its 30 layers, 6.6 with its first and last 8, 62 with its
    first and its last; with its first 2 16, and at a temperature of 4 7.4."""
    temperature: Positive = 1.0
    """Scores of words are divided by it: a model without its last layers is far too sure."""
    lora_rank: Rank = 16
    """r of LoRA."""
    lora_alpha: Alpha = 32.0
    """Adapters count alpha / r times."""
    soft_dropout: Dropout = 0.0
    """Of vectors of users and items where they are read, beside the language model's own dropout
    (0.1 in GPT-2 and T5, none in SmolLM2)."""
    user_dropout: Dropout = 0.0
    """Share of the users of a batch that training reads without their vectors: what a user's own
    token can learn by heart, the items beside it must say, too. Test prompts have all users."""
    row_tokens: Annotated[Count, LessMemory(4)] = 128
    """Sequences are packed into rows of this many tokens: attention costs its square."""


class TokenizerSettings(Settings):
    """How users and items are found in text."""

    strict: bool = False
    """Refuse what looks like a user or an item and is none; else it is text."""
    word_boundary: bool = False
    """Only where a word begins and ends; else user_1 is found in `superuser_1`."""


class CollaborativeSettings(Settings):
    """The language model of interactions."""

    added: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    reorder: bool = True
    """Stochastic item reordering: a fresh order of a user's items in every epoch."""
    checkpoint: Literal["last", "training_loss"] = "last"
    """Which collaborative tables finetuning starts from: the last, or those of the pretraining
    epoch with the lowest training loss, as in the public code."""


class ContentSettings(Settings):
    """The language model of texts."""

    enabled: bool = True
    """Off: LLM-CF."""
    kinds: tuple[str, ...] = ()
    """Texts that are read: `review` and `explanation` of training pairs, `title`, `brand`,
    `description`, `categories` of items as far as the data YAML names such a field, `content`: all
    its fields in one. None: every kind that the data have, but content."""
    main_leading_space: bool = True
    """Texts begin with a blank, as the public preprocessing writes them; its demo does not."""
    dropout_in_finetuning: Annotated[bool, LATER] = True
    """Off in the public code, which leaves the shared backbone in evaluation mode."""
    checkpoint: Literal["last", "valid", "training_loss"] = "last"
    """Which content tables finetuning starts from: the last, those of the pretraining epoch after
    which the item language model was best on the valid split, or those of the lowest training loss,
    compared across stages as in the public code."""


class RecommendationSettings(Settings):
    """Recommendation-oriented finetuning and prediction."""

    # exclude used to decide nothing
    added: ClassVar[frozenset[str]] = frozenset({"exclude", "test_orders"})
    mask_ratio: Share = 0.2
    """Share of a user's items that the prompt hides, at least one (0.2 in the public code)."""
    target: Literal["holdout", "all_train"] = "holdout"
    """What is to be predicted: the hidden items, or all items of the user."""
    reorder: bool = True
    """A fresh order of the prompt's items in every epoch; off: LLM-FixOrd."""
    test_order: Annotated[Literal["sorted", "random"], CHOICE] = "sorted"
    """Order of items in prompts at test time."""
    test_orders: Annotated[Count, CHOICE] = 1
    """Above one: prompts at test time list the items in this many random orders, and the
    log-probabilities are averaged, so that whichever item comes last has no extra weight."""
    exclude: Annotated[Literal["train", "train+valid"], CHOICE] = "train"
    """What is never recommended; `train+valid` makes `exp.evaluate.exclude` history+valid."""
    scoring: Annotated[Literal["recommendation", "next_item"], CHOICE] = "recommendation"
    """`next_item`: by the item language model after the history (LLM-PreRec)."""


class MutualSettings(Settings):
    """Mutual regularisation of collaborative and content tables."""

    weight: NotNegative = 1.0
    """lambda_c (1 is best in the paper's grid; its meaning depends on the reduction)."""
    reduction: Reduction = "paper"
    """`paper`: weight / 2 times the sum over a batch beside a summed log-likelihood; `public_code`:
    weight times that sum beside a mean; `mean_unique`: weight times the mean over the distinct
    users and items of a batch beside a mean, so that neither batch size nor popularity counts."""
    on_recommendation_targets: Annotated[bool, LATER] = True
    """In finetuning, items hidden from the prompt count too; without effect in the public code."""
    user_twice_in_recommendation: Annotated[bool, LATER] = False
    """The recommendation prompt names its user twice, and the public code counts both."""
    cold_items: bool = False
    """Items without train interactions count once a batch too, so that what their texts taught
    reaches recommendation. In the paper only items that users interacted with are pulled."""
    prior: NotNegative = 0.0
    """lambda_l, precision of the prior of collaborative tables (0 in the paper's experiments)."""


class Cllm4RecConfig(Settings):
    """One CLLM4Rec."""

    added: ClassVar[frozenset[str]] = frozenset({"item_scale"})
    preset: Annotated[Preset, NOTHING] = "paper"
    """Sets everything below in which the paper and its public code differ and that is not given."""
    wording: Preset = "paper"
    """Sentences of prompts."""
    score_first_main: bool = True
    """Also predict the first token after a prompt, from the prompt's last."""
    soft_init: Literal["initializer_range", "token_table"] | Positive = "initializer_range"
    """Standard deviation of fresh users and items: the backbone's setting (where it has none, as
    T5, that of its token table), that of its token table (1 in a fresh T5), or a number."""
    item_scale: Literal["auto", "none", "inverse_sqrt_width", "learned"] = "auto"
    """What scores of items are multiplied by: nothing; D^-.5, as T5 does with those of words; a
    factor that learns with the collaborative tables. `auto`: D^-.5 where the language model has an
    encoder (T5), whose vectors are so large that a softmax of bare products begins far from
    uniform; else nothing. `learned` begins at that."""
    max_length: Annotated[Count, LessMemory(3)] = 1024
    """The most tokens of a sequence; prompts lose items, texts their end, suffixes nothing."""
    tokenizer: TokenizerSettings = TokenizerSettings()
    """How users and items are found in text."""
    backbone: SoftPromptSettings = SoftPromptSettings()
    """What is made of the language model."""
    collaborative: CollaborativeSettings = CollaborativeSettings()
    """The language model of interactions."""
    content: ContentSettings = ContentSettings()
    """The language model of texts."""
    recommendation: Annotated[RecommendationSettings, LATER] = RecommendationSettings()
    """Recommendation-oriented finetuning and prediction."""
    mutual: MutualSettings = MutualSettings()
    """Mutual regularisation."""
    shuffle: bool = True
    """Visit users and texts in a fresh order in every epoch."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        preset = value.get("preset", "paper")
        if not isinstance(preset, str) or preset not in PRESETS:
            return value  # pydantic names the choices
        return _merged(PRESETS[preset], value)


def _merged(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    result = {**defaults, **given}
    for key, default in defaults.items():
        found = result[key]
        if isinstance(default, dict) and isinstance(found, dict):
            result[key] = _merged(default, found)
    return result


@register_system(
    about="a language model with a token for every user and item (CLLM4Rec, WWW 2024)",
    runs="legos.systems.cllm4rec.system:Cllm4RecSystem",
    shows="legos.systems.cllm4rec.check:show_cllm4rec",
)
class Cllm4RecModel(Cllm4RecConfig, SystemModel):
    """CLLM4Rec over a language model (`config/model/cllm4rec.yaml`)."""

    training: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam",
        "lr": 1e-3,
        "batch_size": 160,
        "patience": 0,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "schedule": "constant",
        "clip": None,
    }
    former: ClassVar[Mapping[str, str]] = {
        "model.stages": "exp.train.stages",
        "model.stages.pretraining_lr": "exp.train.lr",
        "model.stages.batch_size": "exp.train.batch_size",
        "model.stages.patience": "exp.train.patience",
        "model.stages.shuffle": "model.shuffle",
        "model.backbone.lr": "exp.train.adapters_lr",
    }
    system: Literal["cllm4rec"] = "cllm4rec"
    """What trains and scores."""
    model: Annotated[LanguageModelSource, CONTENT]
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""

    @property
    def leaves_out_valid(self) -> bool:
        """As ``recommendation.exclude`` says."""
        return self.recommendation.exclude == "train+valid"

    @property
    def needs(self) -> frozenset[str]:
        """Stages, its own tokens, and adapters unless the language model is frozen."""
        learns = () if self.backbone.train == "frozen" else ("adapters",)
        return frozenset({"stages", "soft_tokens", *learns})
