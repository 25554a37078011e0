"""What a model YAML may say: bricks, or another system that trains and scores as a whole.

Key ``system`` says which; without it a model is made of bricks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    ModelWrapValidatorHandler,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from legos.cllm4rec.settings import Cllm4RecConfig
from legos.config.checks import ItemEncoderChoice, PredictorChoice, UserEncoderChoice
from legos.config.data_schema import DataConfig
from legos.config.train_schema import TrainConfig
from legos.decides import CONTENT, NOTHING
from legos.errors import ConfigError, nearest
from legos.lm.source import LanguageModelSource
from legos.recsysllm.model_settings import RecsysllmConfig
from legos.registry import BrickConfig, PredictorConfig, UserEncoderConfig, refuse_unfit
from legos.settings import Count, Name, Settings

SYSTEMS: dict[str, str] = {
    "bricks": "an item encoder, a user encoder and a predictor, each by its name",
    "cllm4rec": "a language model with a token for every user and item (CLLM4Rec, WWW 2024)",
    "recsysllm": "a language model that fills blanks, trained on prompts (RecSysLLM, 2023)",
}
"""By name what it is."""


class SystemModel(Settings):
    """What every model YAML has; reading one gives the section of its system."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    """By system the section that is read instead of this one."""
    reads_other_tables: ClassVar[bool] = False
    """Whether a trained model can be measured on other tables than those it was trained on."""

    unread: ClassVar[Mapping[str, str | None]] = {}
    """Dotted keys of the data, embed and experiment YAMLs that this system does not read, sections
    for all below them; by key what it reads instead, "" for nothing, None for what it does read of
    an unread section. Giving one on a command line is an error (``legos.config.unread``)."""

    memory_keys: ClassVar[tuple[str, ...]] = ()
    """Dotted keys of the system's own section that need less memory when lowered, in the order in
    which to try them."""

    system: str = "bricks"
    """What trains and scores: `bricks`, or a model that is none of them (`--list system`)."""
    name: Annotated[Name, NOTHING]
    """Second folder below `exp.runs_folder`; rows of a results table are called so."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_system(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        chosen = cls.section_of(value)
        if chosen is cls:
            return handler(value)
        read: Any = chosen.model_validate(value)
        return read  # type: ignore[no-any-return]

    @classmethod
    def section_of(cls, value: Any) -> type[SystemModel]:
        """The section that judges a mapping: this one, or that of its system.

        Raises:
            ValidationError: there is no such system.
        """
        if not cls.sections or not isinstance(value, dict):
            return cls
        system = value.get("system", "bricks")
        if isinstance(system, str) and system in cls.sections:
            return cls.sections[system]
        message = f"unknown system {system!r}; {nearest(str(system), SYSTEMS)}"
        kind = PydanticCustomError("brick", "{message}", {"message": message})
        details = InitErrorDetails(type=kind, loc=("system",), input=system)
        raise ValidationError.from_exception_data("system", [details])

    def unread_settings(self) -> dict[str, str | None]:
        """Keys of its own section that its other settings leave without effect, as ``unread``."""
        return {}

    @classmethod
    def of(cls, model: SystemModel) -> Self:
        """A model as this kind of section.

        Raises:
            ConfigError: it is another system's.
        """
        if not isinstance(model, cls):
            system = cls.model_fields["system"].default
            raise ConfigError(f"model {model.name}: system {model.system}, expected {system}")
        return model


_ADAPTERS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
_READ_OF_TRAINING: dict[str, str | None] = {
    "exp.train.seed": None,
    "exp.train.metric": None,
    "exp.train.checkpoint_minutes": None,
    "exp.train.checkpoint_steps": None,
}


class ModelConfig(SystemModel):
    """Which bricks (`config/model/`)."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    system: Literal["bricks"] = "bricks"
    """What trains and scores; `--list system` has the others."""
    hidden_size: Count = 64
    """D, the width of item and user vectors (64 in ONCE)."""
    item: SerializeAsAny[Annotated[BrickConfig, ItemEncoderChoice]]
    """The item encoder: content to a vector."""
    user: SerializeAsAny[Annotated[UserEncoderConfig, UserEncoderChoice]]
    """The user encoder: the vectors of a history to a vector."""
    predictor: SerializeAsAny[Annotated[PredictorConfig, PredictorChoice]]
    """The predictor: user and candidate vectors to scores."""

    @model_validator(mode="after")
    def _bricks_fit_together(self) -> Self:
        refuse_unfit(self.user, self.predictor)
        return self


class Cllm4RecModel(Cllm4RecConfig, SystemModel):
    """CLLM4Rec over a language model (`config/model/cllm4rec.yaml`)."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    unread: ClassVar[Mapping[str, str | None]] = {
        **_READ_OF_TRAINING,
        "exp.train": "model.stages",
        "exp.train.lr": "model.stages.pretraining_lr and finetuning_lr (--pretraining_lr, "
        "--finetuning_lr)",
        "exp.train.item_lr": "model.backbone.lr",
        "exp.train.epochs": "model.stages.warmup_epochs, pretraining_epochs and finetuning_epochs "
        "(--warmup_epochs, --pretraining_epochs, --finetuning_epochs)",
        "exp.train.batch_size": "model.stages.batch_size (--rows_per_step)",
        "exp.train.patience": "model.stages.patience (--patience)",
        "exp.train.epoch_batch": "model.stages.collaborative_steps, content_steps and "
        "recommendation_steps",
        "exp.evaluate.fast_eval": "",
        "exp.cache": "exp.cache.token_folder",
        "exp.cache.token_folder": None,
        "embed": "the language model's own token vectors",
    }
    memory_keys: ClassVar[tuple[str, ...]] = (
        "model.stages.batch_size",
        "model.max_length",
        "model.backbone.row_tokens",
        "model.backbone.layers",
    )
    system: Literal["cllm4rec"] = "cllm4rec"
    """What trains and scores."""
    model: Annotated[LanguageModelSource, CONTENT]
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""

    def unread_settings(self) -> dict[str, str | None]:
        """Settings of adapters where there are none, and of what learns where nothing does."""
        kind, keys = self.backbone.train, [f"model.backbone.{key}" for key in _ADAPTERS]
        found: dict[str, str | None] = {}
        if kind != "lora":
            found = dict.fromkeys(keys, f"it with model.backbone.train lora alone, not {kind}")
        if kind == "frozen":
            found["model.backbone.lr"] = "model.stages.pretraining_lr and finetuning_lr"
        return found


class RecsysllmModel(RecsysllmConfig, SystemModel):
    """RecSysLLM over a language model (`config/model/recsysllm.yaml`)."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    reads_other_tables: ClassVar[bool] = True
    unread: ClassVar[Mapping[str, str | None]] = {
        **_READ_OF_TRAINING,
        "exp.train": "model.training",
        "exp.train.lr": "model.training.lr (--peak_lr)",
        "exp.train.item_lr": "model.training.lr (--peak_lr)",
        "exp.train.epochs": "model.training.epochs (--epochs)",
        "exp.train.epoch_batch": "model.training.epoch_steps (--epoch_steps)",
        "exp.train.batch_size": "model.training.batch_size (--examples_per_step)",
        "exp.train.patience": "model.training.patience (--patience)",
        "exp.train.weight_decay": "model.training.weight_decay",
        "exp.train.warmup": "model.training.warmup",
        "exp.train.schedule": "model.training.schedule",
        "exp.train.clip": "model.training.clip_norm",
        "exp.evaluate.fast_eval": "",
        "exp.cache": "exp.cache.candidate_folder",
        "exp.cache.candidate_folder": None,
        "embed": "the language model's own token vectors",
    }
    memory_keys: ClassVar[tuple[str, ...]] = (
        "model.training.batch_tokens",
        "model.training.batch_size",
        "model.measure.batch_size",
        "model.measure.beams",
        "model.backbone.layers",
    )
    system: Literal["recsysllm"] = "recsysllm"
    """What trains and scores."""
    model: Annotated[LanguageModelSource, CONTENT]
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""

    def unread_settings(self) -> dict[str, str | None]:
        """Settings of adapters where everything is trained without them."""
        if self.backbone.train != "full":
            return {}
        keys = [f"model.backbone.{key}" for key in _ADAPTERS[:3]]
        return dict.fromkeys(keys, "it with adapters alone (model.backbone.train paper or qkv)")


class ComparedModel(SystemModel):
    """A model, its own data where it has any, and the row it is measured against."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    data: DataConfig | None = None
    """A data YAML over the same test impressions; null: that of the command line."""
    against: Name | None = None
    """Row that stars and relative improvement refer to; null: the first."""
    train: TrainConfig | None = None
    """Its own training, over the keys of `exp.train`; null: that. The seed is the comparison's."""

    def alone(self) -> SystemModel:
        """The model as its own YAML says it."""
        section = SystemModel.sections[self.system]
        return section(**{key: getattr(self, key) for key in section.model_fields})


class ComparedBricks(ComparedModel, ModelConfig):
    """Bricks in a comparison."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    system: Literal["bricks"] = "bricks"
    """What trains and scores."""


class ComparedCllm4Rec(ComparedModel, Cllm4RecModel):
    """CLLM4Rec in a comparison."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    system: Literal["cllm4rec"] = "cllm4rec"
    """What trains and scores."""


class ComparedRecsysllm(ComparedModel, RecsysllmModel):
    """RecSysLLM in a comparison."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    system: Literal["recsysllm"] = "recsysllm"
    """What trains and scores."""


SystemModel.sections = {
    "bricks": ModelConfig,
    "cllm4rec": Cllm4RecModel,
    "recsysllm": RecsysllmModel,
}
ComparedModel.sections = {
    "bricks": ComparedBricks,
    "cllm4rec": ComparedCllm4Rec,
    "recsysllm": ComparedRecsysllm,
}
