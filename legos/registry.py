"""The closed registries of bricks: a name in a YAML, its settings, its class.

A brick registers itself with a decorator that names its settings model; the family's package
imports every brick explicitly. There is no globbing, no dotted path in a YAML and no ``eval``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from legos import plugins
from legos.errors import ConfigError, nearest
from legos.settings import NOTHING, Mark, Settings, mark_of

Brick = TypeVar("Brick", bound=type)


class BrickConfig(Settings):
    """Settings of one brick as they stand in a YAML; unknown keys are refused."""

    name: str
    """Which brick; `python worker.py --list` prints the choices."""

    reads_texts_alone: ClassVar[bool] = False
    """Whether bricks inside it see no item field but texts."""


UserOutput = Literal[
    "vector", "vector_per_candidate", "interests", "interests_per_candidate", "sequence"
]
"""What a user encoder gives: ``(B, D)``, ``(B, C, D)``, ``(B, K, D)``, ``(B, C, K, D)``, or the
whole history ``(B, H, D)`` for a predictor that attends to it itself."""


class Cloze(NamedTuple):
    """Which clicks of a sequence training hides (``legos.data.cloze``).

    Attributes:
        probability: that a click is hidden; at least one of a sequence is.
        last_share: share of sequences of which the last click alone is hidden instead.
    """

    probability: float
    last_share: float


class UserEncoderConfig(BrickConfig):
    """Settings of a user encoder."""

    @property
    def output(self) -> UserOutput:
        """What it gives with these settings."""
        return "vector"

    @property
    def reads_prefixes(self) -> bool:
        """Whether it gives the user after every item at once (``legos.blocks.packed``)."""
        return False

    @property
    def cloze(self) -> Cloze | None:
        """What training hides of a sequence, for an encoder that fills blanks; None: nothing."""
        return None


class PredictorConfig(BrickConfig):
    """Settings of a predictor."""

    @property
    def accepts(self) -> frozenset[UserOutput]:
        """What it can score."""
        return frozenset({"vector", "vector_per_candidate"})

    @property
    def scores_catalogue(self) -> bool:
        """Whether its module scores all items at once (``legos.blocks.embedding``)."""
        return False

    @property
    def gives_cosines(self) -> bool:
        """Whether scores lie between -1 and 1, which loss ``cosine_contrastive`` is made for."""
        return False


Need = Literal["texts", "text_vectors", "times", "oracle"]


class BaselineConfig(BrickConfig):
    """Settings of a baseline."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    """What data must have: item texts, a language model's vectors of them, times of clicks, or the
    probability by which clicks were drawn."""
    knows_readers: ClassVar[bool] = True
    """Whether it goes by who clicked what with what."""

    @property
    def changed(self) -> dict[str, Any]:
        """Plain values by key of the settings that decide scores and are not as by default."""
        fields = type(self).model_fields
        return {
            key: value
            for key, value in self.model_dump(mode="json", exclude_defaults=True).items()
            if key != "name" and mark_of(fields[key], Mark) != NOTHING
        }

    @property
    def label(self) -> str:
        """What results and folders call it: ``ease``, with other settings ``ease,l2=500.0``."""
        return ",".join([self.name, *(f"{key}={value}" for key, value in self.changed.items())])


_OUTPUTS: dict[UserOutput, str] = {
    "vector": "one vector a user",
    "vector_per_candidate": "one vector a user and candidate",
    "interests": "several interest vectors a user",
    "interests_per_candidate": "several interest vectors a user and candidate",
    "sequence": "the whole history",
}


def refuse_unfit(user: UserEncoderConfig, predictor: PredictorConfig) -> None:
    """Raise ConfigError where a predictor cannot score what a user encoder gives."""
    if user.output not in predictor.accepts:
        accepted = " or ".join(
            _OUTPUTS[output] for output in _OUTPUTS if output in predictor.accepts
        )
        raise ConfigError(
            f"predictor {predictor.name} scores {accepted}, but user encoder {user.name} "
            f"gives {_OUTPUTS[user.output]}"
        )


class Registry:
    """One family of bricks.

    Args:
        family: how errors call a member, "item encoder".
        shipped: the package whose import registers the members that the toolkit ships.
    """

    def __init__(self, family: str, shipped: str = "") -> None:
        self.family, self.shipped = family, shipped
        self._bricks: dict[str, tuple[type[BrickConfig], type]] = {}

    def register(self, config: type[BrickConfig]) -> Callable[[Brick], Brick]:
        """Decorator that files a class under the ``name`` its settings model fixes.

        The class is constructed from these settings and, by keyword, from what the run gives it:
        ``def __init__(self, settings: CNNConfig, *, embeddings, hidden_size)``.

        Raises:
            TypeError: the settings fix no name, or one that is taken.
            ConfigError: the constructor has another form.
        """
        if plugins.register(config) is not None and self.shipped:
            import_module(self.shipped)  # a plug-in may come first, and must not take their names
        name = config.model_fields["name"].default
        if not isinstance(name, str) or name in self._bricks:
            raise TypeError(
                f"{config.__name__}.name must default to a new {self.family} name, not {name!r}"
            )

        def file(brick: Brick) -> Brick:
            _refuse_other_form(brick, config)
            self._bricks[name] = (config, brick)
            return brick

        return file

    def names(self) -> list[str]:
        """All names in alphabetical order."""
        return sorted(self._bricks)

    def config(self, name: str) -> type[BrickConfig]:
        """The settings model of a brick."""
        return self._bricks[name][0]

    def brick(self, name: str) -> type:
        """The class of a brick."""
        return self._bricks[name][1]

    def describe(self, name: str) -> str:
        """First sentence of a brick's module docstring, for ``--list``."""
        text = sys.modules[self.brick(name).__module__].__doc__ or ""
        return " ".join(text.strip().split("\n\n")[0].split())

    def validate(self, value: Any) -> BrickConfig:
        """Turn the mapping of a YAML into the settings of the brick it names (for pydantic).

        Raises:
            ValidationError: the name is missing or unknown, or a key is wrong.
        """
        if isinstance(value, BrickConfig):
            return value
        if not isinstance(value, dict):
            raise self._error("", value, f"expected a mapping with a name, found {value!r}")
        name = value.get("name")
        if name is None:
            raise self._error("name", value, f"missing; {nearest('', self._bricks)}")
        if name not in self._bricks:
            message = f"unknown {self.family} {name!r}; {nearest(str(name), self._bricks)}"
            raise self._error("name", name, message)
        return self._bricks[name][0].model_validate(value)

    def _error(self, key: str, value: Any, message: str) -> ValidationError:
        kind = PydanticCustomError("brick", "{message}", {"message": message})
        details = InitErrorDetails(type=kind, loc=(key,) if key else (), input=value)
        return ValidationError.from_exception_data(self.family, [details])


def _refuse_other_form(brick: type, config: type[BrickConfig]) -> None:
    """Raise ConfigError where a constructor does not take settings, then keywords alone."""
    found = inspect.signature(brick)
    names, kinds = list(found.parameters), [each.kind for each in found.parameters.values()]
    if names[:1] == ["settings"] and set(kinds[1:]) <= {inspect.Parameter.KEYWORD_ONLY}:
        return
    raise ConfigError(
        f"{brick.__module__}.{brick.__name__}{found}: a brick is built from its settings object; "
        f"write __init__(self, settings: {config.__name__}, *, ...), where the dots name what the "
        "run gives (docs/add-a-lego.md), and read settings.NAME instead of an argument a setting"
    )


item_encoders = Registry("item encoder", "legos.item")
user_encoders = Registry("user encoder", "legos.user")
predictors = Registry("predictor", "legos.predictor")
baselines = Registry("baseline", "legos.baselines")
_REGISTRIES = {
    "item": item_encoders,
    "user": user_encoders,
    "predictor": predictors,
    "baseline": baselines,
}


def bricks(family: str) -> Registry:
    """The filled registry of "item", "user", "predictor" or "baseline", plug-ins included."""
    registry = _REGISTRIES[family]
    import_module(registry.shipped)
    plugins.load_installed()
    return registry


def brick_class(settings: BrickConfig) -> type | None:
    """The class that settings are registered with; None: with none."""
    for registry in map(bricks, _REGISTRIES):
        name = settings.name
        if name in registry.names() and registry.config(name) is type(settings):
            return registry.brick(name)
    return None


def bricks_in(section: BaseModel, path: str = "") -> Iterator[tuple[str, BrickConfig]]:
    """Yield dotted key and settings of every brick in a section, those inside bricks included."""
    for name, value in section:
        key = f"{path}.{name}" if path else name
        if isinstance(value, BrickConfig):
            yield key, value
        if isinstance(value, BaseModel):
            yield from bricks_in(value, key)


def read_baseline(value: Any) -> BaselineConfig:
    """Settings of a baseline that a YAML names alone (``ease``) or as a mapping with its name.

    Raises:
        ValidationError: the name is missing or unknown, or a key is wrong.
    """
    found = bricks("baseline").validate({"name": value} if isinstance(value, str) else value)
    assert isinstance(found, BaselineConfig)  # noqa: S101 - what the registry holds
    return found
