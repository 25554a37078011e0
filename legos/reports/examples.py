"""What a run recommends to a few readers: kept in its folder, shown where a run ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from legos.files import write_json
from legos.records import Record, check_record, read_json
from legos.reports.next_step import next_command
from legos.reports.tables import SCREEN
from legos.runs.passes import short_trainings, trainings_in
from legos.terminal import as_started

_FILE = "recommendations.json"
_HINT = "delete it; the report works without it"


class ShownItem(Record):
    """An item of a list.

    Attributes:
        item: its raw id.
        title: what it is called; its id where nothing says.
        clicked: the reader clicked it in the impression.
    """

    item: str
    title: str
    clicked: bool = False


class ShownReader(Record):
    """A reader, the newest clicks before an impression (the newest first), and the best items."""

    user: str
    read: list[ShownItem]
    top: list[ShownItem]


class Examples(Record):
    """Some readers of a test split."""

    split: str
    readers: list[ShownReader]


def write_examples(folder: Path, examples: Examples) -> None:
    """Keep them in the folder of a run."""
    write_json(folder / _FILE, examples.model_dump(mode="json"))


def read_examples(folder: Path) -> Examples | None:
    """Those of a run; None where there are none.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    return check_record(read_json(path, hint=_HINT), Examples, str(path), hint=_HINT)


_SHOWN = 3  # readers at the end of a run


def show_end(
    console: Console, folder: Path, run: Path, verdicts: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Print what a run recommends to some readers, where its report is, and what to type next.

    Args:
        console: to print on.
        folder: with the report; of the run, or of the comparison that it is the best of.
        run: the trained run.
        verdicts: on it, by split.
    """
    examples = read_examples(run)
    if examples is not None:
        print_readers(console, examples, count=_SHOWN)
    report = folder / "report.html"
    where = report if report.is_file() else folder
    console.print(f"report: {where}", markup=False, highlight=False, soft_wrap=True)
    following = as_started(next_command(run, verdicts))
    if short_trainings(trainings_in({run.name: run})):
        serve = as_started(next_command(run, ()))
        following = f"train longer; {serve} shows the model as it is"
    console.print(f"next:   {following}", markup=False, highlight=False, soft_wrap=True)


def print_readers(console: Console, examples: Examples, *, count: int) -> None:
    """Print what some readers read and get, three lines each; a ✓ marks what they then clicked."""
    for reader in examples.readers[:count]:
        head = f"{reader.user[:16]} read"
        for label, items in (
            (head, reader.read[:3]),
            ("gets", reader.top[:3]),
            ("", reader.top[3:]),
        ):
            text = _titles(items, SCREEN - len(head) - 2)
            line = f"{label:>{len(head)}}  {text}".rstrip()
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _titles(items: Sequence[ShownItem], room: int) -> str:
    """Titles side by side; each is cut to its share of the room."""
    separator = " · "
    share = (room - len(separator) * (len(items) - 1)) // max(1, len(items))
    return separator.join(_cut(each, max(share, 8)) for each in items)[:room]


def _cut(item: ShownItem, width: int) -> str:
    mark = "✓ " if item.clicked else ""
    title = " ".join(item.title.split())
    room = width - len(mark)
    return mark + (title if len(title) <= room else title[: room - 1] + "…")
