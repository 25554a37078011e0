"""Command line: what users say of themselves, from a file into finished tables.

python -m process.user_fields --tables data/newsroom --profiles profiles.jsonl --text interests \
    --category region --number age --output data/newsroom-profiles
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from legos.command_line import CommandParser
from legos.data.ragged import Ragged
from legos.data.texts import plain_text
from legos.data.tokenizers import load_tokenizer
from legos.errors import DataError, nearest
from legos.files import atomic_folder, output_lock
from legos.progress import PlainConsole
from process.columns import ColumnReader
from process.command import run_cli
from process.derived import copy_of, kept_entries, refuse_nested, rewrite_unitok
from process.json_lines import Row, read_json_lines
from process.summary import describe_sources, finished_tables
from process.tokenization import Column, category_vocabulary, encode_content

DESCRIPTION = """\
Copy tables and give their users fields: topics, interests, a region, an age.

Each line of the file is a JSON object with "user_id" and the fields by name. A text is a string or
a list of strings. Users who are not in the file get empty texts, the unknown category and no
number; user encoder `profile` has a learned vector for them. Texts are tokenized by one of the
tables' own tokenizers, so items are not tokenized again. Unchanged files are linked, not copied.
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.user_fields``."""
    parser = CommandParser(
        "python -m process.user_fields",
        description=DESCRIPTION,
    )
    parser.add_argument("--tables", type=Path, required=True, help="finished tables")
    parser.add_argument("--profiles", type=Path, required=True, help="JSON lines, one per user")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new tables")
    parser.add_argument(
        "--text", action="append", default=[], metavar="FIELD", help="field of texts; repeatable"
    )
    parser.add_argument(
        "--category",
        action="append",
        default=[],
        metavar="FIELD",
        help="field of categories; repeatable",
    )
    parser.add_argument(
        "--number",
        action="append",
        default=[],
        metavar="FIELD",
        help="field of numbers; repeatable",
    )
    parser.add_argument(
        "--tokenizer",
        default="bert",
        metavar="NAME",
        help="name of the tables' tokenizer for the texts (default: %(default)s)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace existing tables made from other sources or settings",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Read profiles, encode them, write tables.

    Raises:
        DataError: of the arguments, the tables or the profiles.
    """
    add_user_fields(
        args.tables,
        args.profiles,
        args.output,
        texts=args.text,
        categories=args.category,
        numbers=args.number,
        tokenizer=args.tokenizer,
        force=args.force,
    )


def add_user_fields(
    tables: Path,
    profiles: Path,
    folder: Path,
    *,
    texts: Sequence[str],
    categories: Sequence[str],
    tokenizer: str,
    numbers: Sequence[str] = (),
    force: bool = False,
) -> dict[str, Any]:
    """Write a copy of tables whose users have fields, whole or not at all.

    Args:
        tables: finished tables.
        profiles: JSON lines.
        folder: where the copy goes.
        texts: fields to tokenize.
        categories: fields that become one id.
        tokenizer: a tokenizer of the tables.
        numbers: fields that stay numbers.
        force: replace finished tables of other sources or settings.

    Returns:
        The manifest; ``parent`` is the fingerprint of ``tables``.

    Raises:
        DataError: names the argument, or the line of the file, that is wrong.
    """
    refuse_nested(tables, folder)
    reader = ColumnReader(tables)
    kinds = dict.fromkeys(texts, "text") | dict.fromkeys(categories, "category")
    kinds |= dict.fromkeys(numbers, "number")
    _check_names(reader, [*texts, *categories, *numbers], tokenizer, named=bool(categories))
    users = reader.vocabulary("user_id")
    frame, unknown = read_profiles(profiles, users, kinds)
    origin = _describe(reader, profiles, kinds, tokenizer)
    with output_lock(folder):
        finished = finished_tables(folder, origin["settings"], origin["sources"], force=force)
        if finished is not None:
            return finished
        made = load_tokenizer(tables, reader.manifest, tokenizer)
        vocabularies = {name: category_vocabulary(frame[name].to_numpy()) for name in categories}
        columns = encode_content(frame, tuple(texts), vocabularies, {tokenizer: made})
        columns |= {name: Column(frame[name].to_numpy(np.float32)) for name in numbers}
        with atomic_folder(folder) as part:
            writer = copy_of(reader, part)
            writer.columns("users", columns)
            for name, entries in vocabularies.items():
                writer.vocabulary(name, entries)
            rewrite_unitok(part, reader, {"users": columns}, vocabularies, ["users"])
            manifest = writer.manifest(**kept_entries(reader) | origin)
    _print_summary(frame, columns, unknown, profiles)
    return manifest


def read_profiles(
    path: Path, users: Sequence[str], kinds: Mapping[str, str]
) -> tuple[pd.DataFrame, int]:
    """The fields of every user, "" or NaN where there is none, and how many lines name no user.

    Raises:
        DataError: the file is missing, or a line is not what it should be.
    """
    rows = {user: row for row, user in enumerate(users)}
    values = {
        name: np.full(len(users), np.nan if kind == "number" else "", dtype=object)
        for name, kind in kinds.items()
    }
    seen: dict[str, int] = {}
    found: set[str] = set()
    unknown = 0
    for line in read_json_lines([path], "reading profiles"):
        user = line.id("user_id")
        profile = {
            name: _number(line, name) if kind == "number" else _field(line, name)
            for name, kind in kinds.items()
        }
        if user in seen:
            raise DataError(
                f"{path}:{line.line}: user {user!r} stands on line {seen[user]} already"
            )
        seen[user] = line.line
        found.update(line.values)
        row = rows.get(user)
        if row is None:
            unknown += 1
            continue
        for name, value in profile.items():
            values[name][row] = value
    if seen and unknown == len(seen):
        raise DataError(f"{path}: none of its {len(seen):,} users is in the tables")
    for name in kinds:
        if name not in found:
            raise DataError(f"{path}: no line has {name!r}; {nearest(name, found - {'user_id'})}")
    return pd.DataFrame(values, dtype=object), unknown


def _field(line: Row, name: str) -> str:
    """What a user says in one field, "" where nothing."""
    value = line.values.get(name)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    if not isinstance(value, str | None):
        shown = json.dumps(value)[:60]
        raise DataError(f"{line.at}: {name!r} is {shown}, expected a string or a list of strings")
    return plain_text(value or "").strip()


def _number(line: Row, name: str) -> float:
    """A number of a user, NaN where nothing."""
    value = line.number(name)
    return np.nan if value is None else float(value)


def _describe(
    reader: ColumnReader, profiles: Path, kinds: Mapping[str, str], tokenizer: str
) -> dict[str, Any]:
    """What decides the new tables, as the manifest has it; earlier user fields stay."""
    parent = reader.manifest
    fields = {
        **parent.get("user_fields", {}),
        **{
            name: {"kind": kind} | ({"tokenizers": [tokenizer]} if kind == "text" else {})
            for name, kind in kinds.items()
        },
    }
    identity = {"parent": parent["fingerprint"], "user_fields": fields}
    sources = [*parent["sources"], *describe_sources([profiles])]
    return {**identity, "settings": parent["settings"] | identity, "sources": sources}


def _check_names(
    reader: ColumnReader, names: Sequence[str], tokenizer: str, *, named: bool
) -> None:
    if not names:
        raise DataError("no field named; give --text, --category or --number FIELD")
    taken = {column.split("@")[0] for column in reader.manifest["tables"]["users"]["columns"]}
    taken |= set(reader.manifest["vocabularies"]) if named else set()
    for name in names:
        if not name.isidentifier() or names.count(name) > 1:
            raise DataError(f"field {name!r}: letters, digits and '_' only, each name once")
        if name in taken:
            raise DataError(f"field {name!r}: the tables have a column or vocabulary of this name")
    if tokenizer not in reader.manifest["tokenizers"]:
        known = reader.manifest["tokenizers"]
        raise DataError(f"--tokenizer {tokenizer}: {nearest(tokenizer, known)}")


def _print_summary(
    frame: pd.DataFrame, columns: Mapping[str, Column], unknown: int, profiles: Path
) -> None:
    table = Table(title="user fields", title_justify="left", box=None)
    for heading in ("column", "users with it", "tokens p50/p99/max", "categories"):
        table.add_column(heading, justify="left" if heading == "column" else "right")
    for name, column in columns.items():
        said = frame[name.split("@")[0]]
        present = int(((said != "") & said.notna()).sum())
        lengths, kinds = "–", "–"
        if isinstance(column.values, Ragged):
            found = column.values.lengths[column.values.lengths > 0]
            if len(found):
                lengths = "/".join(f"{np.percentile(found, q):.0f}" for q in (50, 99, 100))
        elif column.vocabulary is not None:
            kinds = f"{len(np.unique(column.values[column.values > 0])):,}"
        table.add_row(name, f"{present:,} of {len(frame):,}", lengths, kinds)
    console = PlainConsole()
    console.print(table)
    if unknown:
        console.print(f"{profiles}: {unknown:,} lines of users that the tables do not have")


if __name__ == "__main__":
    run_cli(main, build_parser())
