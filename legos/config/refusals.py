"""What a valid configuration is refused for: settings that nothing reads, columns that lack.

What a key of the schema is read for stands in its mark (:mod:`legos.settings`); what a model has
follows from its bricks and settings, or its system says it (``SystemModel.needs``). Shipped YAMLs
serve all systems and may say what one of them does not read; a command line may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from legos.config.data_schema import TOKEN_VECTORS, DataConfig, EmbedConfig, FieldConfig
from legos.config.document import Document, leaves, texts, value_at
from legos.config.model_schema import ModelConfig, SystemModel, reads_token_vectors
from legos.config.overrides import Arguments
from legos.config.references import referenced_variables
from legos.config.schema import RunConfig
from legos.config.yaml_files import is_shipped, shown
from legos.data.numbers import Treatment
from legos.errors import ConfigError, nearest
from legos.lm.settings import LanguageModelSource
from legos.registry import bricks_in
from legos.settings import AskedFor, InModes, mark_of, unread_settings

_MOST_NAMED = 8
_NOT_SPLITS = ("items", "users", "histories")
_NUMBER = ("scalar", "float32", None)


def unread_keys(config: RunConfig) -> dict[str, str]:
    """Dotted keys that a single run does not read, sections for all below them.

    Returns:
        By key what is read instead, "" where nothing is.
    """
    return {
        key: instead
        for prefix in ("exp", "embed", "model")
        for key, instead in unread_settings(getattr(config, prefix), prefix, config.model.read_for)
    }


def _asked_for() -> Iterator[tuple[str, frozenset[str]]]:
    """Keys of the embed YAML, and what a brick that reads one is built from."""
    for key, field in EmbedConfig.model_fields.items():
        if (mark := mark_of(field, AskedFor)) is not None:
            yield key, mark.things


def refuse_unread_given(arguments: Arguments, document: Document, config: RunConfig) -> list[str]:
    """Refuse what a command line gives, or a user's model YAML trains by, and no model reads.

    Args:
        arguments: of the command line.
        document: the sections before references are resolved, which say what a variable fills.
        config: the run.

    Returns:
        Notices: of keys that the mode does not read, and of keys of the user's own YAMLs that the
        model does not.

    Raises:
        ConfigError: all such options, each with what is read instead.
    """
    members = {member.model.name: member for member in config.runs()}
    unread = {name: unread_keys(member) for name, member in members.items()}
    problems, notices = [], []
    saved = {shown(Path(file)) for file in arguments.config.values()}  # says everything
    model = document.place(("model",))  # a file, without a line
    given = _given(arguments, document)
    if model not in {"", *saved} and not is_shipped(model):
        for path, place in document.places.items():
            is_value = not isinstance(value_at(document.data, path), dict)
            if path[:2] == ("exp", "train") and place.rpartition(":")[0] == model and is_value:
                given[place] = [".".join(path)]
    for option, keys in given.items():
        if option == "--embed" and any(map(_reads_embed, members.values())):
            continue
        told = [_instead(key, config, unread) for key in keys]
        if told and None not in told:
            problems.append(_problem(option, keys[0], told[0] or "", config))
        elif option[0] == "-" and all(modes := [_other_modes(key, config) for key in keys]):
            if config.exp.mode == "cache":
                notices.append(f"{option} has no effect: mode cache does not read {keys[0]}")
            elif len(modes[0]) == 1:
                problems.append(
                    f"{option}: only mode {modes[0][0]} reads {keys[0]}, this is mode "
                    f"{config.exp.mode}; give --exp.mode {modes[0][0]}, or leave it out"
                )
    if problems:
        raise ConfigError("\n".join(problems))
    return notices + _own_yamls(document, config, unread, saved)


def _given(arguments: Arguments, document: Document) -> dict[str, list[str]]:
    """By option of the command line the dotted keys that it fills."""
    given = {f"--{'.'.join(path)}": [".".join(key) for key, _ in leaves(value, path)]
             for path, value in arguments.dotted.items()}  # fmt: skip
    for path, text in texts(document.data):
        for name in referenced_variables(text) & arguments.variables.keys():
            given.setdefault(f"--{name}", []).append(".".join(path))
    if "embed" in arguments.yamls:
        given["--embed"] = ["embed.source"]
    return given


def _other_modes(key: str, config: RunConfig) -> tuple[str, ...]:
    """The modes that read a key, as its section's mark or its own says; () if this one does."""
    kind, *names = key.split(".")
    section = getattr(config, kind)
    for name in names:
        field = type(section).model_fields.get(name) if isinstance(section, BaseModel) else None
        if field is None:
            return ()
        if (mark := mark_of(field, InModes)) is not None and config.exp.mode not in mark.modes:
            return mark.modes
        section = getattr(section, name)
    return ()


def _instead(key: str, config: RunConfig, unread: Mapping[str, Mapping[str, str]]) -> str | None:
    """What is read instead of a key that no model reads; None where one reads it."""
    rows = list(unread)
    parts = key.split(".")
    if parts[:2] == ["exp", "compare"] and len(parts) > 4:
        if parts[2] == "models" and config.exp.compare is not None:
            rows = [config.exp.compare.models[int(parts[3])].name]
            own = {"train": "exp.train", "data": "data"}.get(parts[4], f"model.{parts[4]}")
            key = ".".join([own, *parts[5:]])
        elif parts[2] == "embeds":
            key = ".".join(["embed", *parts[4:]])
    told = [nearest_rule(key, unread[row]) for row in rows]
    return None if None in told else told[0]


def nearest_rule(key: str, rules: Mapping[str, str]) -> str | None:
    """What the longest rule of :func:`unread_keys` that holds for a key says; None: it is read."""
    matching = [rule for rule in rules if key == rule or key.startswith(f"{rule}.")]
    return rules[max(matching, key=len)] if matching else None


def _reads_embed(config: RunConfig) -> bool:
    """Whether a run reads anything of its embed YAML, or has no reason to object to it."""
    embed, model = config.embed, config.model
    if _asks_for_nothing(embed):
        return True
    if not isinstance(model, ModelConfig):
        return False
    needed = model.needs
    if any(things & needed for key, things in _asked_for() if getattr(embed, key)):
        return True
    own = [getattr(each, "model", None) for _, each in bricks_in(model)]
    return (
        embed.source == "language_model" and LanguageModelSource.model_validate(embed.path) in own
    )


def _asks_for_nothing(embed: EmbedConfig) -> bool:
    return embed.source == "random" and not any(
        getattr(embed, key) for key, things in _asked_for() if things != TOKEN_VECTORS
    )


def _problem(option: str, key: str, instead: str, config: RunConfig) -> str:
    if option == "--embed":
        key = "its vectors"
    names = dict.fromkeys(_called(member.model) for member in config.runs())
    who = " and ".join(names)
    read = f"; it reads {instead}" if instead else ""
    fills = "" if option in (f"--{key}", "--embed") else f" fills {key}, which"
    what = f"{fills} is read by nothing in {who}" if fills else f" is not read by {who}"
    return f"{option}:{what}{read}"


def _called(model: SystemModel) -> str:
    return f"model {model.name}" if isinstance(model, ModelConfig) else f"system {model.system}"


def _own_yamls(
    document: Document,
    config: RunConfig,
    unread: Mapping[str, Mapping[str, str]],
    without: set[str],
) -> list[str]:
    """A notice for each of the user's own YAMLs that says what no model reads."""
    found: dict[str, list[str]] = {}
    shipped: dict[str, bool] = {"": True} | dict.fromkeys(without, True)
    for path, place in document.places.items():
        if path[0] not in ("exp", "embed") or path[:2] == ("exp", "compare"):
            continue
        file = place.rpartition(":")[0]
        if file not in shipped:
            shipped[file] = is_shipped(file)
        if shipped[file] or isinstance(value_at(document.data, path), dict | list):
            continue
        key = ".".join(path)
        if _instead(key, config, unread) is not None:
            found.setdefault(file, []).append(key)
    return [
        f"{file}: no effect, {_called(config.model)} does not read: "
        f"{', '.join(keys[:_MOST_NAMED])}{', ...' if len(keys) > _MOST_NAMED else ''}"
        for file, keys in found.items()
        if any(not key.startswith("embed.") for key in keys)
    ]


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
    for member in config.runs():
        if reads_token_vectors(member.model):
            problems += _vocabulary(member.embed, member.data, manifest)
        problems += _category_bias(member)
    if problems:
        told = dict.fromkeys(problems)
        raise ConfigError("\n  ".join([f"{config.data.folder} does not match:", *told]))


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
            name = field.column.split("@")[0]
            is_number = name in columns and _is_number(columns[name])
            hint = f"it is a number, write column: {name}" if is_number else ""
            problems.append(
                f"{key}.column: {table} have no column {field.column!r}; "
                f"{hint or nearest(field.column, columns)}"
            )
        elif field.length is not None and columns[field.column]["kind"] == "scalar":
            problems.append(
                f"{key}.length: {field.column!r} is a category; length applies only to texts"
            )
        elif (is_number := _is_number(columns[field.column])) and field.number is None:
            choices = ", ".join(get_args(Treatment))
            problems.append(
                f"{key}.number: missing, {field.column!r} is a number; choose from: {choices}"
            )
        elif field.number is not None and not is_number:
            problems.append(f"{key}.number: {field.column!r} is not a number; remove it")
        elif columns[field.column]["vocabulary"] is None and not is_number:
            problems.append(f"{key}.column: {field.column!r} is not a text, category or number")
    return problems


def _is_number(column: Mapping[str, Any]) -> bool:
    return (column["kind"], column["dtype"], column["vocabulary"]) == _NUMBER


def _category_bias(member: RunConfig) -> list[str]:
    """A similarity of categories needs a category."""
    numbers = {field.name for field in member.data.fields if field.number is not None}
    return [
        f"model.{key}.category_bias: {bias!r} is a number, not a category"
        for key, brick in bricks_in(member.model)
        if (bias := getattr(brick, "category_bias", None)) in numbers
    ]


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
    kind = "generated items" if items else "texts or items"
    hint = nearest(column, known) if known else "there is none"
    return [f"{key}: users have no column {column!r} of {kind}; {hint}"]


def _splits(section: str, data: DataConfig, manifest: Mapping[str, Any]) -> list[str]:
    known = [table for table in manifest["tables"] if table not in _NOT_SPLITS]
    chosen = {"train": data.splits.train, "valid": data.splits.valid}
    chosen |= {f"test.{index}": split for index, split in enumerate(data.splits.test)}
    return [
        f"{section}.splits.{key}: no split {split!r}; {nearest(split, known)}"
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
