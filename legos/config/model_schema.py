"""What a model YAML may say, and the registry of systems.

A model is made of bricks, or another system trains and scores it as a whole: key ``system`` says
which. Systems register themselves where their settings are; ``legos.systems`` says where that is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from legos import plugins
from legos.config.data_schema import TOKEN_VECTORS
from legos.config.search_schema import Range
from legos.config.train_schema import GRADIENTS
from legos.errors import ConfigError, nearest
from legos.registry import (
    BrickConfig,
    PredictorConfig,
    UserEncoderConfig,
    brick_class,
    bricks,
    bricks_in,
    refuse_unfit,
)
from legos.settings import NOTHING, TRAINED_OR_TESTED, Count, Name, Settings

Section = TypeVar("Section", bound="SystemModel")
_AS_EVER: dict[str, Any] = {"acc_batch": 1, "adapters_lr": None, "soft_tokens_lr": None}


def renamed(key: str, names: Mapping[str, str]) -> str:
    """Return a dotted key with its longest prefix in ``names`` replaced by the new name."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        first = ".".join(parts[:length])
        if first in names:
            return ".".join([names[first], *parts[length:]])
    return key


class SystemModel(Settings):
    """Settings common to all model YAMLs; validation returns the section of the chosen system."""

    reads_other_tables: ClassVar[bool] = False
    """Whether a trained model can be measured on other tables than those it was trained on."""

    training: ClassVar[Mapping[str, Any]] = {}
    """Keys of `exp.train` that have other defaults for this system."""

    former: ClassVar[Mapping[str, str]] = {}
    """Former dotted keys (or sections), as in finished runs and older YAMLs, to their present
    names. Run ids are computed from the former ones."""

    of_lists: ClassVar[frozenset[str]] = frozenset()
    """Dotted keys that decide a measurement and how a trained model makes lists, too."""

    by_gradients: ClassVar[bool] = True
    """Whether the system trains by gradient steps and so reads the settings of an optimizer."""

    system: str = "bricks"
    """Training and scoring code: `bricks`, or another system (`--list system`)."""
    name: Annotated[Name, NOTHING]
    """Name in results tables; also the second folder below `exp.runs_folder`."""
    ranges: Annotated[dict[str, Range], NOTHING] = Field(default_factory=dict)
    """Default search ranges by dotted key (`model.user.dropout`, `exp.train.lr`), used by a search
    without `exp.search.ranges` and by rows of a comparison."""

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
        if cls is not SystemModel or not isinstance(value, dict):
            return cls
        return system_of(value).section

    @property
    def needs(self) -> frozenset[str]:
        """What it has that settings are read for (:class:`legos.settings.AskedFor`)."""
        return frozenset()

    @property
    def read_for(self) -> frozenset[str]:
        """All that settings may be read for: what it needs, and its gradient steps."""
        return self.needs | GRADIENTS if self.by_gradients else self.needs

    @property
    def baseline_label(self) -> str | None:
        """What results call the baseline that it is; None: it is none."""
        return None

    @property
    def leaves_out_valid(self) -> bool:
        """Whether it never recommends what a user clicked in the valid split, in no ranking."""
        return False

    @classmethod
    def as_in_runs(cls, found: Mapping[str, Any]) -> dict[str, Any]:
        """Settings by the keys of finished runs, without those that had none and are as ever.

        Args:
            found: by dotted key.
        """
        if not cls.former:
            return dict(found)
        as_ever = {f"exp.train.{key}": value for key, value in {**_AS_EVER, **cls.training}.items()}
        for key in cls.former.values():
            as_ever.pop(key, None)
        before = {new: old for old, new in cls.former.items()}
        return {
            renamed(key, before): value
            for key, value in found.items()
            if (key, value) not in as_ever.items()
        }

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


def _brick(family: str) -> BeforeValidator:
    return BeforeValidator(lambda value: bricks(family).validate(value))


class ModelConfig(SystemModel):
    """Which bricks (`config/model/`)."""

    system: Literal["bricks"] = "bricks"
    """Training and scoring code; `--list system` shows the other systems."""
    hidden_size: Annotated[Count, TRAINED_OR_TESTED] = 64
    """D, the width of item and user vectors (64 in ONCE)."""
    item: SerializeAsAny[Annotated[BrickConfig, _brick("item")]]
    """The item encoder: maps an item's content to a vector."""
    user: Annotated[SerializeAsAny[Annotated[UserEncoderConfig, _brick("user")]], TRAINED_OR_TESTED]
    """The user encoder: maps the item vectors of a history to a user vector."""
    predictor: Annotated[
        SerializeAsAny[Annotated[PredictorConfig, _brick("predictor")]], TRAINED_OR_TESTED
    ]
    """The predictor: maps user and candidate vectors to scores."""

    @model_validator(mode="after")
    def _bricks_fit_together(self) -> Self:
        refuse_unfit(self.user, self.predictor)
        return self

    @property
    def needs(self) -> frozenset[str]:
        """Clicks, and what its bricks are built from: ``embeddings``, ``language_model``, ..."""
        found = {"clicks", "epochs"}
        for _, brick in bricks_in(self):
            if (kind := brick_class(brick)) is not None:
                found |= _arguments(kind)
            if getattr(brick, "train", "frozen") != "frozen":
                found.add("item")
        return frozenset(found)


@cache
def _arguments(brick: type) -> frozenset[str]:
    return frozenset(inspect.signature(brick).parameters)


def reads_token_vectors(model: SystemModel) -> bool:
    """Whether the embed YAML's token vectors are a part of a model.

    A language model as item encoder reads its own.
    """
    return isinstance(model, ModelConfig) and bool(TOKEN_VECTORS & model.needs)


@dataclass(frozen=True)
class RegisteredSystem:
    """What trains and scores models as a whole.

    Attributes:
        about: what it is, for ``--list``.
        section: what a model YAML may say of it.
        runs: ``module:name`` of what makes a ``legos.systems.protocol.System`` of a workplace.
        shows: ``module:name`` of what ``--check`` prints of a workplace without weights; it is
            called with the workplace, a console, and whether its data are new.
    """

    about: str
    section: type[SystemModel]
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
        name = section.model_fields["system"].default
        of_plugin = plugins.register(section) is not None
        if name in _SYSTEMS or (of_plugin and name in _shipped()):
            raise TypeError(f"{section.__name__}.system must default to a new name, not {name!r}")
        _SYSTEMS[name] = RegisteredSystem(about, section, runs, shows)
        return section

    return file


def systems() -> list[str]:
    """The name of every system, those of installed plug-ins included."""
    plugins.load_installed()
    return sorted({*_shipped(), *_SYSTEMS})


def _shipped() -> dict[str, str]:
    """By name of each system of the toolkit the module that registers it."""
    found: dict[str, str] = import_module("legos.systems").SYSTEMS
    return found


def registered_system(name: str) -> RegisteredSystem:
    """A system by its name; the settings of no other are imported."""
    if name not in _SYSTEMS:
        import_module(_shipped()[name])
    return _SYSTEMS[name]


def system_of(value: Mapping[str, Any]) -> RegisteredSystem:
    """The system that a model section names.

    Raises:
        ValidationError: there is none of this name.
    """
    name, known = value.get("system", "bricks"), systems()
    if name in known:
        return registered_system(name)
    message = f"unknown system {name!r}; {nearest(str(name), known)}"
    kind = PydanticCustomError("brick", "{message}", {"message": message})
    details = InitErrorDetails(type=kind, loc=("system",), input=name)
    raise ValidationError.from_exception_data("system", [details])
