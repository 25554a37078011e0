"""``legos explain``: clicks that support an item, and a sentence if the model writes text."""

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

_ABOUT = """\
Print how much each click of a history supports an item, by leaving out one click at a time.
RecSysLLM also writes a sentence that explains the item to the user."""
_EXAMPLES = """\
  legos explain runs/shop --user u17 --item sku-4
  legos explain runs/shop --history sku-1 sku-9 --item sku-4 --json"""


def build_parser() -> AskingParser:
    """The options."""
    parser = AskingParser("explain", _ABOUT, _EXAMPLES)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="ID", help="a user of the data")
    who.add_argument("--history", nargs="+", metavar="ITEM", help="history of a new user")
    parser.add_argument("--item", required=True, metavar="ITEM", help="id of an item")
    parser.add_argument("--k", type=positive, default=10, help="number of clicks to show (10)")
    return parser


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    return run_asking(build_parser(), words, _answer)


def _answer(run: TrainedRun, given: argparse.Namespace) -> None:
    reasons = run.reasons(given.item, given.user, history=given.history).head(given.k)
    sentence = run.explain(given.user, given.item) if run.writes else None
    if given.json:
        answer = {"item": given.item, "user": given.user, "clicks": listed(reasons)}
        print_json(answer if sentence is None else {**answer, "sentence": sentence})
        return
    if sentence is not None:
        print(sentence)
    print_frame(f"{run.name}: clicks that support {with_title(run, given.item)}", reasons)
