"""What a model YAML may say: bricks, or another system that trains and scores as a whole.

Key ``system`` says which; without it a model is made of bricks.
"""

from __future__ import annotations

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
    system: Literal["cllm4rec"] = "cllm4rec"
    """What trains and scores."""
    model: Annotated[LanguageModelSource, CONTENT]
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""


class RecsysllmModel(RecsysllmConfig, SystemModel):
    """RecSysLLM over a language model (`config/model/recsysllm.yaml`)."""

    sections: ClassVar[dict[str, type[SystemModel]]] = {}
    reads_other_tables: ClassVar[bool] = True
    system: Literal["recsysllm"] = "recsysllm"
    """What trains and scores."""
    model: Annotated[LanguageModelSource, CONTENT]
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""


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
