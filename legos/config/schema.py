"""What the YAMLs of a run may say: a class a section, each key with its meaning.

The four YAMLs are the four parts of :class:`RunConfig`; those of data, embeddings and models
are in ``model_schema``, section ``exp`` is in ``exp_schema``, training in ``train_schema``. Unknown
keys are refused. Torch is not imported here; the bricks' own settings come from their registries
when a model section is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, SerializeAsAny, model_validator

from legos.config.compare_schema import ComparedModel
from legos.config.data_schema import DataConfig, EmbedConfig
from legos.config.document import Document
from legos.config.exp_schema import ExpConfig
from legos.config.fitting import refuse_other_training
from legos.config.model_schema import ModelConfig, SystemModel
from legos.config.search_schema import Range
from legos.config.training import settle_training
from legos.errors import ConfigError
from legos.settings import Settings


@dataclass(frozen=True)
class ComparedRow:
    """A row of a comparison's tables.

    Attributes:
        label: the model's name, with that of the token vectors where there are several.
        reference: label of the row that it is measured against; None for the first row, unless
            it names one.
        runs: one a seed.
        model: name of the model.
        ranges: settings that are searched for before it is compared, by dotted key.
    """

    label: str
    reference: str | None
    runs: tuple[RunConfig, ...]
    model: str = ""
    ranges: Mapping[str, Range] = field(default_factory=dict)


class RunConfig(Settings):
    """All of a run."""

    data: DataConfig
    """What to read."""
    model: SerializeAsAny[SystemModel]
    """Which bricks, or which system; for mode compare the first of `exp.compare.models`."""
    exp: ExpConfig
    """What to do."""
    embed: EmbedConfig
    """Which vectors tokens start from."""

    @property
    def bricks(self) -> ModelConfig:
        """The model as bricks.

        Raises:
            ConfigError: it is another system.
        """
        if not isinstance(self.model, ModelConfig):
            raise ConfigError(
                f"model {self.model.name} is a system of its own ({self.model.system}); what is "
                "asked for is made for models of bricks"
            )
        return self.model

    def rows(self) -> list[ComparedRow]:
        """A row for each model and embed of ``exp.compare``, models outside; else this run alone.

        ``against`` names a model: the reference is its row with the same token vectors. Without it
        the reference is the first row of all. A system that reads no token vectors has one row.
        """
        compare = self.exp.compare
        if compare is None:
            return [ComparedRow(self.model.name, None, (self,))]
        embeds = compare.embeds or (self.embed,)
        of_bricks = {entry.name for entry in compare.models if isinstance(entry, ModelConfig)}

        def label(name: str, embed: EmbedConfig) -> str:
            return f"{name} + {embed.name}" if len(embeds) > 1 and name in of_bricks else name

        first = label(compare.models[0].name, embeds[0])
        rows = []
        for entry in compare.models:
            for embed in embeds if entry.name in of_bricks else embeds[:1]:
                own = label(entry.name, embed)
                reference = label(entry.against, embed) if entry.against else first
                runs = tuple(
                    self._member(entry, embed, seed) for seed in entry.seeds or compare.seeds
                )
                against = None if reference == own else reference
                rows.append(ComparedRow(own, against, runs, entry.name, entry.ranges))
        return rows

    def runs(self) -> list[RunConfig]:
        """One ``train_test`` run for each model, embed and seed of a comparison; else this alone.

        A run is the same, run id included, as one started by itself.
        """
        return [run for row in self.rows() for run in row.runs]

    def _member(self, entry: ComparedModel, embed: EmbedConfig, seed: int) -> RunConfig:
        train = (entry.train or self.exp.train).model_copy(update={"seed": seed})
        exp = {"mode": "train_test", "compare": None, "train": train}
        return RunConfig(
            data=entry.data or self.data,
            model=entry.alone(),
            embed=embed,
            exp=self.exp.model_copy(update=exp),
        )

    @model_validator(mode="before")
    @classmethod
    def _one_training(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("model"), dict):
            value = deepcopy(value)
            settle_training(Document(value))
        return value

    @model_validator(mode="after")
    def _random_vectors_are_hidden_size_wide(self) -> Self:
        compare = self.exp.compare
        models = compare.models if compare else (self.model,)
        for embed in (compare.embeds if compare else ()) or (self.embed,):
            width = embed.embed_hidden_size
            for model in models:
                if not isinstance(model, ModelConfig) or "language_model" in model.needs:
                    continue  # the width of a language model is known where it is opened
                if embed.source == "random" and width not in (None, model.hidden_size):
                    raise ValueError(
                        f"embed.embed_hidden_size: {width}, but random vectors ({embed.name}) are "
                        f"model.hidden_size = {model.hidden_size} wide ({model.name}); "
                        "give the same or none"
                    )
        return self

    @model_validator(mode="after")
    def _training_fits_the_bricks(self) -> Self:
        for model in self.exp.compare.models if self.exp.compare else (self.model,):
            own = model.train if isinstance(model, ComparedModel) else None
            refuse_other_training(own or self.exp.train, model)
        return self

    @model_validator(mode="after")
    def _exclusions_agree(self) -> Self:
        if self.model.leaves_out_valid and self.exp.evaluate.exclude == "nothing":
            raise ValueError(
                f"exp.evaluate.exclude nothing, but model {self.model.name} never recommends what "
                "a user had in train and valid (model.recommendation.exclude train+valid); change "
                "one of them"
            )
        return self

    @model_validator(mode="after")
    def _one_set_of_impressions(self) -> Self:
        models = self.exp.compare.models if self.exp.compare else ()
        problems = [
            f"exp.compare.models.{index}.data.{key}: {model.data.name} has "
            f"{_shown(getattr(model.data, key))}, but {self.data.name} (--data) has "
            f"{_shown(getattr(self.data, key))}; rows of one table are measured on the same "
            "impressions"
            for index, model in enumerate(models)
            if model.data is not None
            for key in ("folder", "splits", "group_by")
            if not _same(getattr(model.data, key), getattr(self.data, key))
        ]
        if problems:
            raise ValueError("\n  ".join(problems))
        return self


def _same(one: Any, other: Any) -> bool:
    return one.resolve() == other.resolve() if isinstance(one, Path) else bool(one == other)


def _shown(value: Any) -> str:
    """A value of a data YAML as it stands there."""
    if isinstance(value, BaseModel):
        return ", ".join(f"{key}: {_shown(each)}" for key, each in value)
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)
