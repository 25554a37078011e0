"""What a data YAML and an embed YAML may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from legos.data.numbers import Treatment
from legos.lm.settings import LanguageModelSource
from legos.settings import (
    CHOICE,
    CONTENT,
    NOTHING,
    WEIGHTS,
    AskedFor,
    Count,
    Dropout,
    Name,
    Settings,
    refuse_repetition,
)

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
        """Read a bare column name as a field; by default the field is named after its column."""
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
