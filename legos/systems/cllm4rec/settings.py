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
    """Adaptation of the language model."""

    added: ClassVar[frozenset[str]] = BackboneSettings.added | {"soft_dropout", "user_dropout"}
    layers: Annotated[Count | None, LessMemory(5)] = None
    """Number of layers to keep, with the last norm; null: all."""
    cut: Literal["end", "middle"] = "end"
    """Which layers to remove: `end` removes the last ones, `middle` keeps equally many first and
    last ones. Perplexity of SmolLM2 on reviews in nats per token: 30 layers 3.9; first 8 and last 8
    6.6; first and last 62; first 2 16, or 7.4 with temperature 4."""
    temperature: Positive = 1.0
    """Divide word scores by this; models without their last layers are overconfident."""
    lora_rank: Rank = 16
    """LoRA rank r."""
    lora_alpha: Alpha = 32.0
    """LoRA alpha; adapters are scaled by alpha / r."""
    soft_dropout: Dropout = 0.0
    """Dropout on the input vectors of users and items, in addition to the language model's own (0.1
    in GPT-2 and T5, none in SmolLM2)."""
    user_dropout: Dropout = 0.0
    """Share of a batch's users whose vectors are dropped in training, so that the model cannot rely
    on memorised user tokens alone. Test prompts keep all users."""
    row_tokens: Annotated[Count, LessMemory(4)] = 128
    """Tokens per packed row of sequences; the cost of attention grows with its square."""


class TokenizerSettings(Settings):
    """How users and items are recognised in text."""

    strict: bool = False
    """Refuse unknown users and items such as `user_999`; off: treat them as text."""
    word_boundary: bool = False
    """Match whole words only; off: `superuser_1` contains user_1."""


class CollaborativeSettings(Settings):
    """The language model of interactions."""

    added: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    reorder: bool = True
    """Stochastic item reordering: a fresh order of a user's items in every epoch."""
    checkpoint: Literal["last", "training_loss"] = "last"
    """Collaborative tables that finetuning starts from: those of the last pretraining epoch, or of
    the one with the lowest training loss, as in the public code."""


class ContentSettings(Settings):
    """The language model of texts."""

    enabled: bool = True
    """Train the language model of texts; off: LLM-CF."""
    kinds: tuple[str, ...] = ()
    """Kinds of text to read: `review` and `explanation` of training pairs; `title`, `brand`,
    `description` and `categories` of items, if the data YAML has a field of that name; `content`:
    all its fields in one text. Empty: every available kind except content."""
    main_leading_space: bool = True
    """Start texts with a space, like the public preprocessing (but not its demo)."""
    dropout_in_finetuning: Annotated[bool, LATER] = True
    """Apply dropout during finetuning. Off in the public code, which leaves the shared backbone in
    evaluation mode."""
    checkpoint: Literal["last", "valid", "training_loss"] = "last"
    """Content tables that finetuning starts from: those of the last pretraining epoch, of the epoch
    with the best item language model on the valid split, or of the lowest training loss, compared
    across stages as in the public code."""


class RecommendationSettings(Settings):
    """Recommendation-oriented finetuning and prediction."""

    # exclude used to decide nothing
    added: ClassVar[frozenset[str]] = frozenset({"exclude", "test_orders"})
    mask_ratio: Share = 0.2
    """Share of a user's items to hide from the prompt, at least one (0.2 in the public code)."""
    target: Literal["holdout", "all_train"] = "holdout"
    """Items to predict: the hidden items, or all items of the user."""
    reorder: bool = True
    """Shuffle the prompt's items anew in every epoch; off: LLM-FixOrd."""
    test_order: Annotated[Literal["sorted", "random"], CHOICE] = "sorted"
    """Order of items in prompts at test time."""
    test_orders: Annotated[Count, CHOICE] = 1
    """Number of random item orders to average log-probabilities over at test time, so that no item
    gains from coming last; 1: no averaging."""
    exclude: Annotated[Literal["train", "train+valid"], CHOICE] = "train"
    """Items never to recommend; `train+valid` sets `exp.evaluate.exclude` to history+valid."""
    scoring: Annotated[Literal["recommendation", "next_item"], CHOICE] = "recommendation"
    """`recommendation`: score with the recommendation prompt; `next_item`: with the item language
    model after the history (LLM-PreRec)."""


class MutualSettings(Settings):
    """Mutual regularisation of collaborative and content tables."""

    weight: NotNegative = 1.0
    """lambda_c (1 is best in the paper's grid; its meaning depends on the reduction)."""
    reduction: Reduction = "paper"
    """`paper`: weight / 2 times the sum over a batch, added to a summed log-likelihood;
    `public_code`: weight times that sum, added to a mean; `mean_unique`: weight times the mean over
    the distinct users and items of a batch, added to a mean, independent of batch size and
    popularity."""
    on_recommendation_targets: Annotated[bool, LATER] = True
    """Also regularise items hidden from the prompt in finetuning; no effect in the public code."""
    user_twice_in_recommendation: Annotated[bool, LATER] = False
    """Count the user of a recommendation prompt twice, because the prompt names it twice (public
    code)."""
    cold_items: bool = False
    """Also regularise items without train interactions, once per batch, so that knowledge from
    their texts reaches recommendation. The paper regularises only items with interactions."""
    prior: NotNegative = 0.0
    """lambda_l, precision of the prior on collaborative tables (0 in the paper's experiments)."""


class Cllm4RecConfig(Settings):
    """One CLLM4Rec."""

    added: ClassVar[frozenset[str]] = frozenset({"item_scale"})
    preset: Annotated[Preset, NOTHING] = "paper"
    """Defaults of all settings below in which the paper and its public code differ."""
    wording: Preset = "paper"
    """Wording of the prompts."""
    score_first_main: bool = True
    """Also predict the first token after a prompt, from the prompt's last."""
    soft_init: Literal["initializer_range", "token_table"] | Positive = "initializer_range"
    """Initial standard deviation of user and item vectors: `initializer_range` of the backbone (T5
    has none: that of its token table), that of its token table (1 in an untrained T5), or a
    number."""
    item_scale: Literal["auto", "none", "inverse_sqrt_width", "learned"] = "auto"
    """Scale of item scores: none; D^-.5, as T5 scales word scores; or a factor learned with the
    collaborative tables, starting from `auto`. `auto`: D^-.5 for language models with an encoder
    (T5), whose large vectors would start the softmax far from uniform; otherwise none."""
    max_length: Annotated[Count, LessMemory(3)] = 1024
    """Maximum tokens of a sequence. Longer prompts lose items, longer texts their end; suffixes are
    never cut."""
    tokenizer: TokenizerSettings = TokenizerSettings()
    """How users and items are recognised in text."""
    backbone: SoftPromptSettings = SoftPromptSettings()
    """Adaptation of the language model."""
    collaborative: CollaborativeSettings = CollaborativeSettings()
    """The language model of interactions."""
    content: ContentSettings = ContentSettings()
    """The language model of texts."""
    recommendation: Annotated[RecommendationSettings, LATER] = RecommendationSettings()
    """Recommendation-oriented finetuning and prediction."""
    mutual: MutualSettings = MutualSettings()
    """Mutual regularisation."""
    shuffle: bool = True
    """Shuffle users and texts in every epoch."""

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
    about="CLLM4Rec: user and item ID tokens inside a language model (WWW 2024)",
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
    """Training and scoring code."""
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
