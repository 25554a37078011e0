"""``legos vectors``: vectors of items and users as Parquet, and an index over those of items."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from legos.commands.asking import AskingParser, print_json, run_asking

if TYPE_CHECKING:
    from legos.recommend.run import TrainedRun

_ABOUT = """\
Export item vectors to items.parquet (item_id, vector) and, if the model has user vectors, those to
users.parquet (user_id, vector). --faiss adds a FAISS index, items.faiss, with the ids of its rows
in items.json. vectors.json names the run and the score: inner product or cosine."""
_EXAMPLES = """\
  legos vectors runs/shop --output vectors/shop
  legos vectors runs/shop/naml --output vectors/shop --faiss"""


def build_parser() -> AskingParser:
    """The options."""
    parser = AskingParser("vectors", _ABOUT, _EXAMPLES)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="output folder; an existing one is replaced",
    )
    parser.add_argument("--faiss", action="store_true", help="also write a FAISS index")
    return parser


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    return run_asking(build_parser(), words, _answer)


def _answer(run: TrainedRun, given: argparse.Namespace) -> None:
    from legos.recommend.vectors import write_vectors

    counts = write_vectors(run, given.output, index=given.faiss)
    if given.json:
        print_json({"folder": str(given.output), **counts})
        return
    for name, count in counts.items():
        print(f"{given.output / name}: {count:,} vectors")
