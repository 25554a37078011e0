"""What a model YAML may say: bricks, or another system that trains and scores as a whole.

Key ``system`` says which; without it a model is made of bricks. Systems register themselves where
their settings are; ``legos.systems`` imports all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import (
    ModelWrapValidatorHandler,
    SerializeAsAny,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from legos.config.checks import ItemEncoderChoice, PredictorChoice, UserEncoderChoice
from legos.config.data_schema import DataConfig
from legos.config.train_schema import TrainConfig
from legos.errors import ConfigError, nearest
from legos.registry import BrickConfig, PredictorConfig, UserEncoderConfig, refuse_unfit
from legos.settings import NOTHING, Count, Name, Settings

Section = TypeVar("Section", bound="SystemModel")

READ_OF_TRAINING: Mapping[str, str | None] = {
    "exp.train.acc_batch": None,
    "exp.train.seed": None,
    "exp.train.metric": None,
    "exp.train.checkpoint_minutes": None,
    "exp.train.checkpoint_steps": None,
}
"""Keys of `exp.train` that systems with settings of their own for training read, too: a part of
``SystemModel.unread``."""


class SystemModel(Settings):
    """What every model YAML has; reading one gives the section of its system."""

    reads_other_tables: ClassVar[bool] = False
    """Whether a trained model can be measured on other tables than those it was trained on."""

    unread: ClassVar[Mapping[str, str | None]] = {}
    """Dotted keys of the data, embed and experiment YAMLs that this system does not read, sections
    for all below them; by key what it reads instead, "" for nothing, None for what it does read of
    an unread section. Giving one on a command line is an error (``legos.config.unread``)."""

    read_later: ClassVar[Mapping[str, Any]] = {}
    """Dotted keys that this system came to read when it already had runs, and the values at which
    run ids leave them out."""

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
        if cls not in (SystemModel, ComparedModel) or not isinstance(value, dict):
            return cls
        system, known = value.get("system", "bricks"), systems()
        if isinstance(system, str) and system in known:
            return known[system].section if cls is SystemModel else known[system].compared
        message = f"unknown system {system!r}; {nearest(str(system), known)}"
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


class ModelConfig(SystemModel):
    """Which bricks (`config/model/`)."""

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


class ComparedModel(SystemModel):
    """A model, its own data where it has any, and the row it is measured against."""

    data: DataConfig | None = None
    """A data YAML over the same test impressions; null: that of the command line."""
    against: Name | None = None
    """Row that stars and relative improvement refer to; null: the first."""
    train: TrainConfig | None = None
    """Its own training, over the keys of `exp.train`; null: that. The seed is the comparison's."""

    def alone(self) -> SystemModel:
        """The model as its own YAML says it."""
        section = systems()[self.system].section
        return section(**{key: getattr(self, key) for key in section.model_fields})


@dataclass(frozen=True)
class RegisteredSystem:
    """What trains and scores models as a whole.

    Attributes:
        about: what it is, for ``--list``.
        section: what a model YAML may say of it.
        compared: the same as a row of a comparison.
        runs: ``module:name`` of what makes a ``legos.systems.protocol.System`` of a workplace.
        shows: ``module:name`` of what ``--check`` prints of a workplace without weights; it is
            called with the workplace, a console, and whether its data are new.
    """

    about: str
    section: type[SystemModel]
    compared: type[ComparedModel]
    runs: str
    shows: str


_SYSTEMS: dict[str, RegisteredSystem] = {}


def register_system(
    *, about: str, runs: str, shows: str
) -> Callable[[type[Section]], type[Section]]:
    """Decorator that files a section under the name that its key ``system`` fixes.

    Args:
        about: what it is.
        runs: as in :class:`RegisteredSystem`.
        shows: the same.
    """

    def file(section: type[Section]) -> type[Section]:
        system = section.model_fields["system"]
        name = system.default
        if name in _SYSTEMS:
            raise TypeError(f"{section.__name__}.system must default to a new name, not {name!r}")
        compared: Any = create_model(
            f"Compared{section.__name__}",
            __base__=(ComparedModel, section),
            __doc__=f"A row of a comparison. {section.__doc__}",
            system=(cast(Any, system.annotation), system),
        )
        _SYSTEMS[name] = RegisteredSystem(about, section, compared, runs, shows)
        return section

    return file


def systems() -> Mapping[str, RegisteredSystem]:
    """Every system by its name."""
    import_module("legos.systems")
    return _SYSTEMS
