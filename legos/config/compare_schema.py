"""What section ``exp.compare`` may say: rows, seeds, how long each row is searched."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Self, cast

from pydantic import Field, SerializeAsAny, create_model, model_validator

from legos.config.data_schema import DataConfig, EmbedConfig
from legos.config.model_schema import SystemModel, registered_system, system_of
from legos.config.search_schema import SearchBudget
from legos.config.train_schema import TrainConfig
from legos.errors import nearest
from legos.settings import Name, Seed, Settings, refuse_repetition


class ComparedModel(SystemModel):
    """A row of a comparison: a model, optionally with its own data, training and seeds."""

    data: DataConfig | None = None
    """Data YAML over the same test impressions; null: the one on the command line."""
    against: Name | None = None
    """Reference row for significance stars and relative improvement; null: the first row."""
    train: TrainConfig | None = None
    """Overrides of `exp.train` for this row; null: none. The seed comes from the comparison."""
    seeds: Annotated[tuple[Seed, ...] | None, Field(min_length=1)] = None
    """Seeds, one run each; null: those of the comparison. One is enough for a deterministic
    method."""

    @classmethod
    def section_of(cls, value: Any) -> type[SystemModel]:
        """The row of the system that a mapping names."""
        if cls is not ComparedModel or not isinstance(value, dict):
            return cls
        return _compared(system_of(value).section)

    def alone(self) -> SystemModel:
        """Return the model without the keys of the row."""
        section = registered_system(self.system).section
        return section(**{key: getattr(self, key) for key in section.model_fields})


@cache
def _compared(section: type[SystemModel]) -> type[ComparedModel]:
    """A system's section with the keys of a row."""
    kind = section.model_fields["system"]
    made: Any = create_model(
        f"Compared{section.__name__}",
        __base__=(ComparedModel, section),
        __doc__=f"A row of a comparison. {section.__doc__}",
        system=(cast(Any, kind.annotation), kind),
    )
    return cast(type[ComparedModel], made)


class CompareConfig(Settings):
    """The runs of a comparison: models × embeds × seeds.

    A YAML names model and embed YAMLs; reading it puts their content here.
    """

    models: tuple[SerializeAsAny[ComparedModel], ...] = Field(min_length=1)
    """Model YAMLs, one row each."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1,)
    """Seeds, one run each; several give mean ± standard deviation."""
    embeds: tuple[EmbedConfig, ...] = ()
    """Embed YAMLs, one row per model and embed; none: the embed YAML of the run."""
    search: SearchBudget | None = None
    """Search budget of each row with `ranges`. The search uses the first seed; the best settings
    are then run with every seed. Null: no search."""
    curve: str | None = None
    """Dotted key of a number (`model.mutual.weight`, `exp.train.lr`): rows that differ only in it
    form a curve; other rows and baselines are horizontal lines. Null: no figure."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        refuse_repetition("model", [model.name for model in self.models])
        refuse_repetition("embed", [embed.name for embed in self.embeds])
        for seeds in (self.seeds, *(model.seeds or () for model in self.models)):
            refuse_repetition("seed", seeds)
        names = [model.name for model in self.models]
        for index, model in enumerate(self.models):
            key, others = f"models.{index}.against", [each for each in names if each != model.name]
            if model.against == model.name:
                raise ValueError(f"{key}: {model.name!r} is this row itself; name another row")
            if model.against is not None and model.against not in others:
                hint = nearest(model.against, others)
                raise ValueError(f"{key}: no row is called {model.against!r}; {hint}")
        return self
