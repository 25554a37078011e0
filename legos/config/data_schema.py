"""What a data YAML may say: which columns of which tables bricks read, and which splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from legos.config.checks import refuse_repetition
from legos.settings import CHOICE, NOTHING, WEIGHTS, Count, Name, Settings


class FieldConfig(Settings):
    """One item or user field that bricks read."""

    column: str = Field(min_length=1)
    """Column of its table: `title@bert` (a text and its tokenizer) or `category`."""
    name: str = Field("", pattern=r"^[A-Za-z0-9_]*$")
    """How bricks call it; by default the column without its tokenizer."""
    length: Count | None = None
    """A text keeps its first so many tokens; null: all. Not for categories."""
    prompt: str | None = None
    """What a language model reads before it; null: its name and a colon."""

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
    def _only_texts_have_a_length(self) -> Self:
        if self.length is not None and "@" not in self.column:
            raise ValueError(f"{self.column!r} has no tokenizer, so a length means nothing here")
        return self


class SplitsConfig(Settings):
    """Which table plays which part."""

    train: str = "train"
    """Its clicks are trained on; its impressions define what is cold."""
    valid: Annotated[str, WEIGHTS.from_phase("validation")] = "valid"
    """Early stopping watches it."""
    test: Annotated[tuple[str, ...], Field(min_length=1), NOTHING] = ("test",)
    """Measured once, at the end, with the best epoch's weights."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        refuse_repetition("split", (self.train, self.valid, *self.test))
        return self


class GeneratedItemsConfig(Settings):
    """Items that a language model wrote for single users, read as clicks of theirs (GENRE)."""

    column: str = Field(min_length=1)
    """Column of table `users`: `book_generator`, `book_chain`."""
    position: Literal["end", "start"] = "end"
    """Where in a history they stand: `end` is the newest click (ONCE)."""


class DataConfig(Settings):
    """What to read (`config/data/`)."""

    name: Annotated[Name, NOTHING]
    """First folder below `exp.runs_folder`."""
    folder: Annotated[Path, NOTHING]
    """Tables that `python -m process.<name>` wrote."""
    fields: tuple[FieldConfig, ...]
    """The item fields that bricks read, in the order they are concatenated; [] where items have
    none, for models that read ids, reviews or what users say of themselves."""
    prompt: str = ""
    """What a language model reads before the fields: `news article:` (ONCE)."""
    user_fields: tuple[FieldConfig, ...] = ()
    """Columns of table `users` that user encoder `profile` reads."""
    generated_items: GeneratedItemsConfig | None = None
    """What a model wrote, in its users' histories; never a candidate, never a negative."""
    history_length: Count
    """The most recent clicks that the user encoder sees."""
    group_by: Annotated[Literal["impression", "user"], CHOICE.from_phase("validation")] = (
        "impression"
    )
    """Metrics are means over impressions (the MIND protocol) or over users."""
    splits: SplitsConfig = SplitsConfig()
    """Which table plays which part."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        refuse_repetition("field", [field.name for field in self.fields])
        refuse_repetition("user field", [field.name for field in self.user_fields])
        return self


def refuse_other_impressions(shared: DataConfig, own: Mapping[str, DataConfig | None]) -> None:
    """Raise ValueError when a row of a comparison would be measured on other groups than the rest.

    Args:
        shared: the run's data.
        own: by name of the row, in order, its data; None: the run's.
    """
    problems = []
    for index, data in enumerate(own.values()):
        for key in ("folder", "splits", "group_by"):
            ours, theirs = getattr(shared, key), getattr(data or shared, key)
            if key == "folder":
                ours, theirs = ours.resolve(), theirs.resolve()
            if data is not None and ours != theirs:
                problems.append(
                    f"exp.compare.models.{index}.data.{key}: {data.name} has "
                    f"{_shown(getattr(data, key))}, but {shared.name} (--data) has "
                    f"{_shown(getattr(shared, key))}; rows of one table are measured on the same "
                    "impressions"
                )
    if problems:
        raise ValueError("\n  ".join(problems))


def _shown(value: Any) -> str:
    """A value of a data YAML as it stands there."""
    if isinstance(value, BaseModel):
        return ", ".join(f"{key}: {_shown(each)}" for key, each in value)
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)
