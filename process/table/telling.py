"""What was read and how: a few lines on the screen, and all of it as tables in a report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from legos.data.honesty import read_honesty
from legos.progress import PlainConsole
from process.summary import print_summary
from process.table.fields import Field
from process.table.languages import Choice
from process.table.reading import Reading
from process.table.roles import MEANS
from process.table.rows import Rows
from process.table.values import listed

REPORT = "report.txt"
_MOST_COLUMNS = 40  # that the screen has of a file


def tell_columns(reading: Reading, console: Console) -> None:
    """Print in a line or two a file what each column was taken for, and what to look at."""
    table = _pairs("columns")
    for label, roles in reading.events.roles.items():
        parts = [f"{role} {column}" for role, column in roles.items()]
        if reading.events.forms and "time" in roles:
            usual = max(reading.events.forms, key=reading.events.forms.__getitem__)
            parts = [f"{p} ({usual})" if p.startswith("time ") else p for p in parts]
        if unread := [name for name in reading.events.unread if name not in roles.values()]:
            parts.append(f"not read: {listed(unread)}")
        table.add_row(label, " · ".join(parts))
    for rows in filter(None, (reading.items, reading.users)):
        what = "items" if rows is reading.items else "users"
        table.add_row(rows.label, " · ".join([f"{what[:-1]} {rows.column}", *_short(rows)]))
    if len(reading.kinds) > 1 or any(weight != 1 for _, weight in reading.kinds.values()):
        kinds = [
            f"{kind} {count:,}" + (f" (weight {weight})" if weight else " (left out)")
            for kind, (count, weight) in reading.kinds.items()
        ]
        table.add_row("kinds of events", " · ".join(kinds))
    console.print(table)
    for note in reading.notes:
        console.print(f"note: {note}")
    if not reading.events.forms and not reading.has_lists and not reading.options.ordered:
        console.print(
            "warning: no column says when, so a hash orders a user's events and the last one is "
            "any; --time COLUMN names the times, --ordered says that the lines are in order"
        )


def tell_result(manifest: Mapping[str, Any], output: Path, console: Console) -> None:
    """Print what the tables hold, what was left out, warnings, and where more is."""
    summary = manifest["summary"]
    table = _pairs(f"{manifest['name']}: {summary['items']:,} items, {summary['users']:,} users")
    splits = [f"{name} {split['impressions']:,}" for name, split in summary["splits"].items()]
    table.add_row("impressions", " · ".join(splits))
    table.add_row("split", manifest["split_rule"].partition(";")[0])
    for what, count in manifest["oddities"].items():
        if count:
            table.add_row("counted", f"{what}: {count:,}")
    console.print(table)
    honesty = read_honesty(manifest)
    for warning in honesty.warnings if honesty else ():
        console.print(f"warning: {warning.text}")
    console.print(f"all that was measured: {shlex.quote(str(output / REPORT))}, or --verbose")


def report(
    manifest: Mapping[str, Any], reading: Reading | None = None, choice: Choice | None = None
) -> str:
    """All tables about what was read and made of it, as the text of a file."""
    console = PlainConsole(file=StringIO(), width=120)
    if reading is not None:
        tell_reading(reading, console)
    if choice is not None:
        tell_tokenizers(choice, console)
    print_summary(manifest, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _short(rows: Rows) -> Iterator[str]:
    kept = [field for field in rows.fields if field.kind != "left out"]
    for field in kept[:_MOST_COLUMNS]:
        own = "" if field.name == field.column else f" (from {field.column})"
        yield f"{field.name}{own} {field.kind}"
    if len(kept) > _MOST_COLUMNS:
        yield f"and {len(kept) - _MOST_COLUMNS:,} more fields"
    lost = [f"{field.column} ({field.why})" for field in rows.fields if field.kind == "left out"]
    if lost:
        yield f"left out: {listed(lost)}"


def _pairs(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def tell_reading(reading: Reading, console: Console) -> None:
    """Columns and what they were taken for, kinds of events, forms of times, notes."""
    table = _table("columns of the events", "column", "taken for", "in")
    for label, roles in reading.events.roles.items():
        for role, column in roles.items():
            table.add_row(column, f"{role}: {MEANS[role]}", label)
    console.print(table)
    if reading.events.unread:
        console.print(f"not read: {listed(list(reading.events.unread))}", highlight=False)
    forms = reading.events.forms
    if forms:
        usual = max(forms, key=forms.__getitem__)
        console.print(f"times: {usual} ({forms[usual]:,} of them)", highlight=False)
    else:
        console.print(
            "times: none, so a seeded hash of user and item orders a user's events, unless "
            "--ordered says that the lines are in their order",
            highlight=False,
        )
    if len(reading.kinds) > 1 or any(weight != 1 for _, weight in reading.kinds.values()):
        table = _table("kinds of events", "kind", "events", "train impressions of each")
        for kind, (count, weight) in reading.kinds.items():
            table.add_row(kind, f"{count:,}", str(weight) if weight else "0, left out")
        console.print(table)
    _fields("items", reading.items, console)
    if reading.users is not None:
        _fields("users", reading.users, console)
    for note in reading.notes:
        console.print(f"note: {note}", highlight=False)


def tell_tokenizers(choice: Choice, console: Console) -> None:
    """How well each tokenizer knows each field."""
    if not choice.coverage:
        return
    table = _table("tokenizers", "field", "tokenizer", "tokens a text", "[UNK]")
    for name, fields in choice.coverage.items():
        for field, found in fields.items():
            table.add_row(field, name, f"{found.tokens:.1f}", f"{found.unknown:.1f} %")
    console.print(table)
    if choice.note:
        console.print(f"note: {choice.note}", highlight=False)


def _fields(what: str, rows: Rows, console: Console) -> None:
    table = _table(f"columns of the {what}", "column", "field", "kind", "since", "for example")
    table.add_row(rows.column, f"{what[:-1]}_id", "id", "", rows.ids[0])
    for field in rows.fields:
        kept = field.kind != "left out"
        table.add_row(
            field.column, field.name if kept else "", field.kind, field.why, _example(field, rows)
        )
    console.print(table)


def _example(field: Field, rows: Rows) -> str:
    if field.kind == "left out":
        return ""
    found: Sequence[object] = rows.values[field.name].tolist()
    value = next((each for each in found if each == each and each != ""), "")
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head)
    return table
