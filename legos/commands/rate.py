"""``legos rate``: the stars that a user would give an item, written by RecSysLLM."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from legos.commands.asking import AskingParser, print_json, run_asking

if TYPE_CHECKING:
    from legos.recommend.run import TrainedRun

_EXAMPLES = "  legos rate runs/amazon-beauty/recsysllm --user A1YJEY40YUW4SE --item B004756YJA"


def build_parser() -> AskingParser:
    """The options."""
    parser = AskingParser("rate", "Predict how many stars a user would give an item.", _EXAMPLES)
    parser.add_argument("--user", metavar="ID", help="a user of the data (default: a new user)")
    parser.add_argument("--item", required=True, metavar="ITEM", help="id of an item")
    return parser


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    return run_asking(build_parser(), words, _answer)


def _answer(run: TrainedRun, given: argparse.Namespace) -> None:
    stars = run.rate(given.user, given.item)
    if given.json:
        print_json({"user": given.user, "item": given.item, "stars": stars})
    else:
        print(f"{stars:.1f} of 5 stars by {given.user or 'a new user'} for {given.item}")
