"""``worker.py --list``: every brick, system, model and YAML, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from legos.config.checks import bricks
from legos.config.locations import CONFIG_FOLDER, FAMILIES, KINDS, headline, yaml_files
from legos.config.models import models
from legos.errors import ConfigError, nearest
from legos.progress import PlainConsole

_SYSTEM = "system"


_WIDE = 400  # columns of a line that no terminal shows


def list_families(families: Sequence[str], console: Console | None = None) -> None:
    """Print tables of each family asked for; of all of them when none is, models first.

    Args:
        families: names, as after ``--list``.
        console: to print on; None: standard output, in whole lines where it is no terminal.

    Raises:
        ConfigError: there is no such family; the message names the nearest.
    """
    known = ("model", _SYSTEM, *FAMILIES, *(kind for kind in KINDS if kind != "model"))
    for family in families:
        if family not in known:
            raise ConfigError(f"--list {family}: no such family; {nearest(family, known)}")
    console = console or PlainConsole()
    if not console.is_terminal:
        console.width = _WIDE
    tables = (table for family in families or known for table in _tables(family))
    for place, table in enumerate(tables):
        if place:
            console.print()
        console.print(table)


def _tables(family: str) -> Iterator[Table]:
    if family == "model":
        yield from _models()
        return
    if family in FAMILIES:
        registry = bricks(family)
        head = f"{family}: {registry.family}s, by the name that --{family} or a model gives"
        lines = {name: registry.describe(name) for name in registry.names()}
    elif family == _SYSTEM:
        from legos.config.model_schema import systems

        head = "system: what trains and scores a model, by the name that key system gives"
        lines = {name: known.about for name, known in sorted(systems().items())}
    else:
        head = f"{family}: YAMLs in config/{family}/"
        folder = CONFIG_FOLDER / family
        files = yaml_files(folder)
        lines = {str(path.relative_to(folder).with_suffix("")): headline(path) for path in files}
    table = _table(head, 2)
    for name, text in lines.items():
        table.add_row(name, text)
    yield table


def _models() -> Iterator[Table]:
    """A table a group: published models first, then their variants."""
    found = models().values()
    for group in dict.fromkeys(model.group for model in found):
        table = _table(f"model: {group}", 3)
        members = [model for model in found if model.group == group]
        for model in sorted(members, key=lambda model: not model.paper):
            table.add_row(
                model.name, " · ".join(model.bricks.values()), model.paper or model.description
            )
        yield table


def _table(head: str, columns: int) -> Table:
    table = Table(title=head, title_justify="left", title_style="bold", box=None)
    table.show_header = False
    table.padding = (0, 0, 0, 2)
    for column in range(columns):
        table.add_column(no_wrap=column == 0, overflow="fold")
    return table
