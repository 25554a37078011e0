"""What was read and how, as tables on the screen, before the tables of the data set."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from process.table.fields import Field
from process.table.languages import Choice
from process.table.reading import Reading
from process.table.roles import MEANS
from process.table.rows import Rows
from process.table.values import listed


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
