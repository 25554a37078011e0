"""Tables that ``--check`` prints: parameters, memory, and the input of a system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.lm.adapt import trained_part
from legos.lm.footprint import Counted, Footprint, Way
from legos.reports.tables import print_table
from legos.terminal import shown_bytes
from legos.workplace.language_facts import TRAINED, language_rows

_WAYS: tuple[Way, ...] = ("DDP", "FSDP")


class Part(NamedTuple):
    """Parameters of one part of a model.

    Attributes:
        name: of the part.
        trained: numbers that training changes.
        frozen: numbers that it does not.
        bytes: their size.
    """

    name: str
    trained: int
    frozen: int
    bytes: int

    @classmethod
    def of(cls, name: str, found: Iterable[Counted]) -> Part:
        """Add up the parameters of a part."""
        known = list(found)
        trained = sum(each.numbers for each in known if each.parameter.requires_grad)
        numbers = sum(each.numbers for each in known)
        return cls(name, trained, numbers - trained, sum(each.bytes for each in known))


def parameters_table(title: str, parts: Sequence[Part]) -> Table:
    """Return a table with a line for each part and one for the total."""
    table = titled_table(title, "part", "trained", "frozen", "weights")
    whole = [sum(sizes) for sizes in zip(*(part[1:] for part in parts), strict=True)]
    for part in (*parts, Part("total", *whole)):
        table.add_row(part.name, *counts(part.trained, part.frozen), shown_bytes(part.bytes))
    return table


def print_memory(
    console: Console, title: str, footprint: Footprint, processes: Sequence[int]
) -> None:
    """Print memory per device, one line for each number of processes and way of sharing."""
    lines = [["processes", "parameters", "gradients", "optimizer", "activations", "total"]]
    lines[0] += ["checkpointed activations", "total"]
    for count in processes:
        for way in _WAYS[: 1 + footprint.shards] if count > 1 else (None,):
            needed = footprint.needed(count, way)
            shown = [f"{count} {way}" if way else f"{count}", *map(shown_bytes, needed[:3])]
            for activations in needed[3:]:
                known = "" if activations is not None else "more than "
                shown.append("?" if activations is None else shown_bytes(activations))
                shown.append(f"{known}{shown_bytes(sum(needed[:3]) + (activations or 0))}")
            lines.append(shown)
    print_table(console, f"\n{title}", lines)


def print_backbone(console: Console, model: Any, language: Any, parts: Sequence[Part]) -> None:
    """Print parameters of a system over a language model, and which of them are trained.

    Args:
        console: to print on.
        model: section of a system with a section ``backbone``.
        language: its language model.
        parts: the language model first.
    """
    console.print(parameters_table(f"{model.name} over {language.name}", list(parts)))
    own, layers = model.backbone, language.num_layers
    told = trained_part(own, kept=own.layers or layers, layers=layers, parameters=parts[0].trained)
    console.print(f"trained of {language.name}: {told}")


def print_read(console: Console, config: RunConfig, rows: Sequence[tuple[str, str]]) -> None:
    """Print the input of a system."""
    table = titled_table(f"input of {config.model.system} from {config.data.name}", "", "")
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)


def print_language(console: Console, config: RunConfig, tables: Tables | None) -> None:
    """Print facts about the language model, if there is one."""
    rows = language_rows(config, tables)
    if rows:
        table = titled_table("language model", "property", "value")
        for name, text in rows:
            if name != TRAINED:
                table.add_row(name, text)
        console.print(table)
    for name, text in rows:
        if name == TRAINED:  # outside the table, so that the line is not folded
            console.print(f"{name} part: {text}")


def titled_table(title: str, *columns: str) -> Table:
    """Return an empty table with a headline; columns of numbers are right-aligned."""
    title = f"\n{title}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        right = column in ("impressions", "candidates", "clicks", "entries", "length")
        right = right or column in ("tokens per item", "trained", "frozen", "weights", "in memory")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def counts(*numbers: int) -> list[str]:
    """Format numbers with separators."""
    return [f"{number:,}" for number in numbers]
