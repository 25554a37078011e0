"""What ``--check`` prints of a model: its parameters, and the language model it stands on."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.terminal import shown_bytes
from legos.workplace.language_facts import TRAINED, language_rows, language_table

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Part:
    """Parameters of one part of a model.

    Attributes:
        name: of the part.
        trained: numbers that training changes.
        frozen: numbers that it does not.
    """

    name: str
    trained: int
    frozen: int


def parameters_table(title: str, parts: list[Part]) -> Table:
    """A line for each part and one for all."""
    table = titled_table(title, "part", "trained", "frozen", "weights")
    whole = Part("all", sum(part.trained for part in parts), sum(part.frozen for part in parts))
    for part in (*parts, whole):
        size = _FLOAT * (part.trained + part.frozen)
        table.add_row(part.name, *counts(part.trained, part.frozen), shown_bytes(size))
    return table


def print_language(console: Console, config: RunConfig, tables: Tables | None) -> None:
    """Print what is known of the language model, where there is one."""
    rows = language_rows(config, tables)
    if rows:
        told = [row for row in rows if row[0] != TRAINED]
        console.print(language_table(told, titled_table("language model", "what", "how much")))
    for name, text in rows:
        if name == TRAINED:  # in one line, which no table folds
            console.print(f"{name}: {text}")


def titled_table(title: str, *columns: str) -> Table:
    """An empty table with a headline; columns of numbers stand on the right."""
    title = f"\n{title}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        right = column in ("impressions", "candidates", "clicks", "entries", "length")
        right = right or column in ("tokens an item", "trained", "frozen", "weights", "in memory")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def counts(*numbers: int) -> list[str]:
    """Numbers with separators."""
    return [f"{number:,}" for number in numbers]
