"""Lines that cannot be read: left out and counted by kind, refused when there are too many."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field

from legos.errors import DataError

MAX_BAD = 0.01
_FIRST = 10  # a file whose first lines are all bad is another kind of file
_SHOWN = 12


def add_max_bad(parser: argparse._ActionsContainer) -> None:
    """Add ``--max-bad``."""
    parser.add_argument(
        "--max-bad", type=_share, default=MAX_BAD, metavar="SHARE",
        help="stop if more than this share of lines cannot be read, 0 to 1; otherwise leave them "
        "out and count them by kind (default: %(default)s)",
    )  # fmt: skip


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a share from 0 to 1")
    return share


class BadLine(DataError):
    """A line that cannot be read.

    Args:
        at: ``file:line``.
        kind: what is wrong, the same words for every line of which it is true.
        message: what was found and what was expected.
    """

    def __init__(self, at: str, kind: str, message: str) -> None:
        super().__init__(f"{at}: {message}")
        self.at = at
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[type[BadLine], tuple[str, str, str]]:
        """Between processes it goes by what it was made of."""
        return BadLine, (self.at, self.kind, self.message)


@dataclass
class BadLines:
    """Counts for one set of files.

    Attributes:
        max_share: how large a share of lines may be bad, 0 to 1.
        lines: how many were read.
        kinds: bad lines by kind.
        first: the first bad line by kind.
        notes: lines that were read although they are odd, by what is odd.
    """

    max_share: float = MAX_BAD
    lines: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    first: dict[str, BadLine] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, error: BadLine, count: int = 1) -> None:
        """Count a bad line, or several of which this is the first.

        Raises:
            DataError: none of the first lines can be read; or most of very many cannot.
        """
        self.kinds[error.kind] += count
        self.first.setdefault(error.kind, error)
        bad = self.kinds.total()
        hopeless = bad == self.lines == _FIRST or (bad % 10_000 == 0 and 2 * bad > self.lines)
        if hopeless and self.max_share < 1:
            self._refuse()

    def check(self) -> None:
        """Say what was left out, once all lines are read.

        Raises:
            DataError: too many lines are bad; names the kinds, each with its first line.
        """
        if self.kinds.total() > self.max_share * self.lines:
            self._refuse()
        for row in self._table():
            print(f"left out: {row}", file=sys.stderr)

    def oddities(self) -> dict[str, int]:
        """Counts for the manifest; line numbers are not among them, they depend on the order."""
        left_out = {f"lines left out: {kind}": self.kinds[kind] for kind in sorted(self.kinds)}
        return left_out | {what: self.notes[what] for what in sorted(self.notes)}

    def _refuse(self) -> None:
        rows = self._table()
        share = self.kinds.total() / self.lines
        raise DataError(
            f"{self.kinds.total():,} of {self.lines:,} lines cannot be read ({share:.2%}, allowed "
            f"are {self.max_share:.2%}; --max-bad changes that):\n  " + "\n  ".join(rows)
        ) from None

    def _table(self) -> list[str]:
        rows = [
            f"{count:,} x {kind}; the first: {self.first[kind]}"
            for kind, count in self.kinds.most_common(_SHOWN)
        ]
        more = len(self.kinds) - len(rows)
        return [*rows, f"and {more} more kinds"] if more > 0 else rows
