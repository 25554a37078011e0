"""The tables that ``python -m process.genre`` prints."""

from __future__ import annotations

from rich.table import Table


def two_columns(title: str) -> Table:
    """Names and numbers."""
    return plain_table(title, "what", "number")


def plain_table(title: str, first: str, *others: str) -> Table:
    """A table without lines; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", box=None)
    table.add_column(first, justify="left", no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right")
    return table
