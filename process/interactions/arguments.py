"""Command-line arguments that every reader of interactions has: filters, split and negatives."""

from __future__ import annotations

import argparse

from legos.errors import DataError
from process import moments


def add_cores(group: argparse._ArgumentGroup, *, least: bool = False) -> None:
    """Add ``--rating-above``, ``--user-core`` and ``--item-core``.

    Args:
        group: gets them.
        least: add ``--min-rating``, too.
    """
    ratings = group.add_mutually_exclusive_group()
    ratings.add_argument(
        "--rating-above", type=moments.finite, metavar="STARS",
        help="keep ratings above this, drop unknown ones (CLLM4Rec: 3; default: keep all)",
    )  # fmt: skip
    if least:
        ratings.add_argument(
            "--min-rating", type=moments.finite, metavar="STARS",
            help="keep ratings of this and above, drop unknown ones (default: keep all)",
        )  # fmt: skip
    for who in ("user", "item"):
        group.add_argument(
            f"--{who}-core", type=moments.count, default=1, metavar="N",
            help=f"interactions every {who} must have, counted until stable (default: %(default)s)",
        )  # fmt: skip


def add_draws(group: argparse._ArgumentGroup, *, adaptive: bool = False) -> None:
    """Add what by-time cuts at and negatives are drawn by: ``--cuts`` ... ``--seed``.

    Args:
        group: gets them.
        adaptive: what is not given is None, and follows from the data.
    """
    few, many = ", or as many as there are", "; 99 of at most 50,000 users, or as many as there are"
    group.add_argument(
        "--cuts", type=moments.share, nargs=2, default=None if adaptive else (0.8, 0.9),
        metavar="Q",
        help="quantiles of all times where valid and test begin, of by-time (default: 0.8 0.9)",
    )  # fmt: skip
    group.add_argument(
        "--negatives", type=moments.natural, default=None if adaptive else 4, metavar="K",
        help=f"uniform negatives stored with a train impression (default: 4{few * adaptive})",
    )  # fmt: skip
    group.add_argument(
        "--candidates", type=moments.count, nargs="+", default=None if adaptive else (20, 99),
        metavar="N",
        help=f"negatives of a valid or test impression (default: 20 99{many * adaptive})",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=moments.seed, default=1, metavar="N", help="(default: %(default)s)"
    )


def check_draws(candidates: list[int] | tuple[int, ...], cuts: tuple[float, float]) -> None:
    """Refuse what ``add_draws`` lets through one by one.

    Raises:
        DataError: a number of candidates twice, or cuts that do not rise.
    """
    if len(set(candidates)) < len(candidates):
        raise DataError(f"--candidates {' '.join(map(str, candidates))}: a number twice")
    first, second = cuts
    if not 0 < first < second < 1:
        raise DataError(f"--cuts {first:g} {second:g}: expected two rising numbers between 0 and 1")
