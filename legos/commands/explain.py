"""``legos explain``: the clicks that speak for an item, and a sentence where a model writes one."""

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
Print which clicks of a history speak for an item, by leaving each out in turn. RecSysLLM also
writes a sentence on the item for the user."""
_EXAMPLES = """\
  legos explain runs/shop --user u17 --item sku-4
  legos explain runs/shop --history sku-1 sku-9 --item sku-4 --json"""


def build_parser() -> AskingParser:
    """The options."""
    parser = AskingParser("explain", _ABOUT, _EXAMPLES)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="ID", help="a user of the data")
    who.add_argument("--history", nargs="+", metavar="ITEM", help="what somebody new read")
    parser.add_argument("--item", required=True, metavar="ITEM", help="id of an item")
    parser.add_argument("--k", type=positive, default=10, help="clicks that are shown (10)")
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
    print_frame(f"{run.name}: what speaks for {with_title(run, given.item)}", reasons)
