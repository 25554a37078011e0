"""``legos similar``: items like an item, by the cosine of item vectors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from legos.commands.asking import (
    AskingParser,
    listed,
    positive,
    print_frame,
    print_json,
    run_asking,
    with_title,
)

if TYPE_CHECKING:
    from legos.recommend.run import TrainedRun

_EXAMPLES = """\
  legos similar runs/shop sku-1 --k 5
  legos similar runs/shop/naml sku-1 --json"""


def build_parser() -> AskingParser:
    """The options."""
    parser = AskingParser(
        "similar", "Print the most similar items, by cosine of item vectors.", _EXAMPLES
    )
    parser.add_argument("item", metavar="ITEM", help="id of an item")
    parser.add_argument("--k", type=positive, default=10, help="number of items (10)")
    return parser


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    return run_asking(build_parser(), words, _answer)


def _answer(run: TrainedRun, given: argparse.Namespace) -> None:
    found = run.similar(given.item, given.k)
    if given.json:
        print_json({"item": given.item, "items": listed(found)})
    else:
        print_frame(f"{run.name}: similar to {with_title(run, given.item)}", found)
