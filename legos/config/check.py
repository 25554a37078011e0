"""Does a configuration fit the tables? What the manifest can tell before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from legos.config.comparison import comparison_runs
from legos.config.data_schema import DataConfig, FieldConfig
from legos.config.needs import reads_token_vectors
from legos.config.schema import EmbedConfig, RunConfig
from legos.errors import ConfigError, nearest

_NOT_SPLITS = ("items", "users", "histories")


def check_tables(config: RunConfig, manifest: Mapping[str, Any]) -> None:
    """Refuse columns, splits and vocabularies that the tables do not have.

    Args:
        config: the run.
        manifest: of the tables in ``config.data.folder``.

    Raises:
        ConfigError: all that does not fit, each with its dotted key and the nearest name.
    """
    compare = config.exp.compare
    read = {"data": config.data}
    for index, entry in enumerate(compare.models if compare else ()):
        if entry.data is not None:
            read[f"exp.compare.models.{index}.data"] = entry.data
    problems = []
    for section, data in read.items():
        problems += _fields(f"{section}.fields", "items", data.fields, manifest)
        problems += _fields(f"{section}.user_fields", "users", data.user_fields, manifest)
        problems += _splits(section, data, manifest)
        if data.generated_items is not None:
            key = f"{section}.generated_items.column"
            problems += _user_list(key, data.generated_items.column, manifest, items=True)
    for index, column in enumerate(config.exp.evaluate.user_columns):
        problems += _user_list(f"exp.evaluate.user_columns.{index}", column, manifest)
    for member in comparison_runs(config):
        if reads_token_vectors(member.model):
            problems += _vocabulary(member.embed, member.data, manifest)
    if problems:
        told = dict.fromkeys(problems)
        raise ConfigError("\n  ".join([f"{config.data.folder} does not fit:", *told]))


def _fields(
    section: str, table: str, fields: Sequence[FieldConfig], manifest: Mapping[str, Any]
) -> list[str]:
    columns = {
        name: column
        for name, column in manifest["tables"][table]["columns"].items()
        if name not in ("item_id", "user_id")
    }
    problems = []
    for index, field in enumerate(fields):
        key = f"{section}.{index}"
        if field.column not in columns:
            problems.append(
                f"{key}.column: {table} have no column {field.column!r}; "
                f"{nearest(field.column, columns)}"
            )
        elif field.length is not None and columns[field.column]["kind"] == "scalar":
            problems.append(f"{key}.length: {field.column!r} is a category and has no length")
    return problems


def _user_list(
    key: str, column: str, manifest: Mapping[str, Any], *, items: bool = False
) -> list[str]:
    """A list column of the users: of words, or only of items."""
    known = [
        name
        for name, described in manifest["tables"]["users"]["columns"].items()
        if described["kind"] == "list" and (not items or described["vocabulary"] == "item_id")
    ]
    if column in known:
        return []
    kind = "items that a model wrote" if items else "texts or items"
    hint = nearest(column, known) if known else "there are none"
    return [f"{key}: users have no column {column!r} of {kind}; {hint}"]


def _splits(section: str, data: DataConfig, manifest: Mapping[str, Any]) -> list[str]:
    known = [table for table in manifest["tables"] if table not in _NOT_SPLITS]
    chosen = {"train": data.splits.train, "valid": data.splits.valid}
    chosen |= {f"test.{index}": split for index, split in enumerate(data.splits.test)}
    return [
        f"{section}.splits.{key}: there is no split {split!r}; {nearest(split, known)}"
        for key, split in chosen.items()
        if split not in known
    ]


def _vocabulary(embed: EmbedConfig, data: DataConfig, manifest: Mapping[str, Any]) -> list[str]:
    read = {
        column["vocabulary"]
        for table, fields in (("items", data.fields), ("users", data.user_fields))
        for name, column in manifest["tables"][table]["columns"].items()
        if column["kind"] == "list" and name in {field.column for field in fields}
    }
    if embed.vocabulary is None or embed.vocabulary in read:
        return []
    return [
        f"embed.vocabulary: no field of {data.name} is tokenized by {embed.vocabulary!r} "
        f"({embed.name}); "
        f"{nearest(embed.vocabulary, read)}"
    ]
