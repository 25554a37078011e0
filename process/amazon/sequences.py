"""``sequences.tsv``: user, TAB, item ids with blanks between them, oldest first."""

from __future__ import annotations

from pathlib import Path

from legos.errors import DataError
from process.interactions.rows import Collector, Interactions
from process.tsv import read_blocks


def read_sequences(path: Path, known: frozenset[str] | None = None) -> Interactions:
    """Interactions without ratings and times, every user's in the order given.

    Args:
        path: the file.
        known: the items there are; None = any.

    Raises:
        DataError: a user without items or on two lines, an unknown item, or a line with another
            number of columns; names file and line.
    """
    collector = Collector(ordered=True)
    for block in read_blocks(path, ("user", "items")):
        for row, (user, items) in enumerate(
            zip(block.columns["user"], block.columns["items"], strict=True)
        ):
            if user in collector.users:
                raise DataError(f"{block.at(row)}: user {user!r} stands on an earlier line already")
            bought = items.split()
            if not user or not bought:
                raise DataError(
                    f"{block.at(row)}: {'no user' if not user else f'user {user!r} has no items'}"
                )
            for item in bought:
                if known is not None and item not in known:
                    raise DataError(f"{block.at(row)}: item {item!r} is not in items.jsonl")
                collector.add(user, item)
    return collector.done()
