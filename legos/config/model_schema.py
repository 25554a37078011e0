"""What data, embed and model YAMLs may say, and comparisons of them.

A model is made of bricks, or another system trains and scores it as a whole: key ``system`` says
which. Systems register themselves where their settings are; ``legos.systems`` says where that is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
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
from legos.config.search_schema import Range
from legos.config.train_schema import GRADIENTS
from legos.data.numbers import Treatment
from legos.errors import ConfigError, nearest
from legos.lm.settings import LanguageModelSource
from legos.registry import (
    BrickConfig,
    PredictorConfig,
    UserEncoderConfig,
    brick_class,
    bricks,
    bricks_in,
    refuse_unfit,
)
from legos.settings import (
    CHOICE,
    CONTENT,
    NOTHING,
    TRAINED_OR_TESTED,
    WEIGHTS,
    AskedFor,
    Count,
    Dropout,
    Name,
    Settings,
    refuse_repetition,
)

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


TOKEN_VECTORS = frozenset({"embeddings", "profile_embeddings"})
"""Constructor arguments of bricks that read the embed YAML's token vectors."""

_OWN = "the language model's own token vectors"
_TOKEN_VECTORS = AskedFor(
    TOKEN_VECTORS, {"language_model": _OWN, "soft_tokens": _OWN, "prompts": _OWN}
)
_WIDTH = AskedFor(
    TOKEN_VECTORS | {"language_model"},
    {"clicks": "model.hidden_size", "soft_tokens": _OWN, "prompts": _OWN},
)


class FieldConfig(Settings):
    """One item or user field that bricks read."""

    added: ClassVar[frozenset[str]] = frozenset({"number", "buckets"})

    column: str = Field(min_length=1)
    """Column of its table: `title@bert` (a text and its tokenizer) or `category`."""
    name: str = Field("", pattern=r"^[A-Za-z0-9_]*$")
    """Name used by bricks; default: the column without its tokenizer."""
    length: Count | None = None
    """Maximum tokens of a text; null: no limit. Not for categories."""
    prompt: str | None = None
    """Text that a language model reads before the field; null: the field's name and a colon."""
    number: Treatment | None = None
    """Encoding of a number (price, age). `standardised`: a learned vector times its z-score;
    `projected`: a linear layer over the z-score; `bucketed`: a learned vector per quantile bucket.
    Mean and quantiles come from the training split. Null: the field is not a number."""
    buckets: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Number of quantile buckets for `bucketed` (null: 10); missing values get an extra bucket."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """A bare column name stands for a field; the name follows from the column."""
        if isinstance(value, str):
            value = {"column": value}
        if isinstance(value, dict) and isinstance(value.get("column"), str):
            value = {**value, "name": value.get("name") or value["column"].split("@")[0]}
        return value

    @model_validator(mode="after")
    def _buckets_of_what_is_bucketed(self) -> Self:
        if self.number is not None and "@" in self.column:
            raise ValueError(
                f"{self.column!r} is a text; number {self.number} applies only to numbers"
            )
        if self.number != "bucketed" and self.buckets is not None:
            raise ValueError(f"{self.column!r}: buckets needs number: bucketed")
        return self

    @model_validator(mode="after")
    def _only_texts_have_a_length(self) -> Self:
        if self.length is not None and "@" not in self.column:
            raise ValueError(f"{self.column!r} has no tokenizer; length applies only to texts")
        return self


class SplitsConfig(Settings):
    """The tables to train, validate and test on."""

    train: str = "train"
    """Training split; its impressions also define cold items and users."""
    valid: Annotated[str, WEIGHTS.from_phase("validation")] = "valid"
    """Validation split, used for early stopping."""
    test: Annotated[tuple[str, ...], Field(min_length=1), NOTHING] = ("test",)
    """Test splits, measured once at the end with the weights of the best epoch."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        refuse_repetition("split", (self.train, self.valid, *self.test))
        return self


class GeneratedItemsConfig(Settings):
    """Items that a language model generated per user, read as that user's clicks (GENRE)."""

    column: str = Field(min_length=1)
    """Column of table `users`: `book_generator`, `book_chain`."""
    position: Literal["end", "start"] = "end"
    """Position in the history: `end` places them after the newest click (ONCE)."""


class DataConfig(Settings):
    """What to read (`config/data/`)."""

    name: Annotated[Name, NOTHING]
    """Name of the data set; also the first folder below `exp.runs_folder`."""
    folder: Annotated[Path, NOTHING]
    """Folder of tables written by `python -m process.<name>`."""
    fields: tuple[FieldConfig, ...]
    """Item fields that bricks read, in order of concatenation; [] for models that read only ids,
    reviews or user profiles."""
    prompt: str = ""
    """Text that a language model reads before the fields: `news article:` (ONCE)."""
    user_fields: tuple[FieldConfig, ...] = ()
    """Columns of table `users` that user encoder `profile` reads."""
    generated_items: GeneratedItemsConfig | None = None
    """Generated items in their users' histories; never candidates or negatives."""
    history_length: Count
    """Number of most recent clicks that the user encoder reads."""
    group_by: Annotated[Literal["impression", "user"], CHOICE.from_phase("validation")] = (
        "impression"
    )
    """Average metrics over impressions (the MIND protocol) or over users."""
    splits: SplitsConfig = SplitsConfig()
    """The tables to train, validate and test on."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        refuse_repetition("field", [field.name for field in self.fields])
        refuse_repetition("user field", [field.name for field in self.user_fields])
        return self


class EmbedConfig(Settings):
    """Which vectors tokens start from (`config/embed/`)."""

    name: Annotated[Name, NOTHING]
    """Name in results tables."""
    source: Annotated[
        Literal["random", "language_model", "token_table", "text_file"], _TOKEN_VECTORS
    ]
    """`random`: trained from scratch; `language_model`: its token table; `token_table`: a file
    written by `exp.mode: embed`; `text_file`: one word with its vector per line (GloVe)."""
    path: Annotated[LanguageModelSource | str | None, CONTENT, _TOKEN_VECTORS] = None
    """Language model (a name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file),
    or the file to read."""
    vocabulary: Annotated[str | None, _TOKEN_VECTORS] = None
    """Tokenizer whose tokens get these vectors; null: the tokenizers of all text fields."""
    embed_hidden_size: Annotated[Count | None, NOTHING, _WIDTH] = None
    """E, the width of the vectors; null: as in the file. A different width is an error."""
    item_vectors: Annotated[Path | None, CONTENT, AskedFor(frozenset({"item_vectors"}))] = None
    """Vectors of whole items that item encoder `fixed_vectors` reads: .npy or .safetensors."""
    user_vectors: Annotated[Path | None, CONTENT, AskedFor(frozenset({"user_vectors"}))] = None
    """Vectors of whole users that user encoder `user_vectors` reads: .npy or .safetensors."""
    item_codes: Annotated[Path | None, CONTENT, AskedFor(frozenset({"item_codes"}))] = None
    """Semantic codes of items that item encoder `semantic_codes` reads: .npy or .safetensors."""
    frozen: Annotated[bool, _TOKEN_VECTORS] = True
    """Freeze the vectors; the projection to hidden_size is always trained."""
    dropout: Annotated[Dropout, _TOKEN_VECTORS] = 0.0
    """Dropout rate on token, category and number vectors."""

    @model_validator(mode="after")
    def _path_where_needed(self) -> Self:
        if self.source == "random" and self.path is not None:
            raise ValueError("source random reads no path; remove it or change the source")
        if self.source != "random" and not self.path:
            raise ValueError(f"source {self.source} needs a path")
        return self


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
