"""Command-line arguments that every reader of interactions has: filters, split and negatives."""

from __future__ import annotations

import argparse

from legos.errors import DataError
from process import arguments


def add_cores(group: argparse._ArgumentGroup, *, least: bool = False) -> None:
    """Add ``--rating-above``, ``--user-core`` and ``--item-core``.

    Args:
        group: the group to extend.
        least: also add ``--min-rating``.
    """
    ratings = group.add_mutually_exclusive_group()
    ratings.add_argument(
        "--rating-above", type=arguments.finite, metavar="STARS",
        help="keep ratings above this, drop unknown ones (CLLM4Rec: 3; default: keep all)",
    )  # fmt: skip
    if least:
        ratings.add_argument(
            "--min-rating", type=arguments.finite, metavar="STARS",
            help="keep ratings of at least this, drop unknown ones (default: keep all)",
        )  # fmt: skip
    for who in ("user", "item"):
        group.add_argument(
            f"--{who}-core", type=arguments.count, default=1, metavar="N",
            help=f"minimum interactions per {who}, applied until stable (default: %(default)s)",
        )  # fmt: skip


def add_draws(group: argparse._ArgumentGroup, *, adaptive: bool = False) -> None:
    """Add the options of split and negatives: ``--cuts``, ``--negatives`` ... ``--seed``.

    Args:
        group: the group to extend.
        adaptive: default to None and choose from the data.
    """
    few, many = ", or all items if fewer", "; 99 for up to 50,000 users, or all items if fewer"
    group.add_argument(
        "--cuts", type=arguments.share, nargs=2, default=None if adaptive else (0.8, 0.9),
        metavar="Q",
        help="by-time: quantiles of time at which valid and test begin (default: 0.8 0.9)",
    )  # fmt: skip
    group.add_argument(
        "--negatives", type=arguments.natural, default=None if adaptive else 4, metavar="K",
        help=f"uniform negatives per train impression (default: 4{few * adaptive})",
    )  # fmt: skip
    group.add_argument(
        "--candidates", type=arguments.count, nargs="+", default=None if adaptive else (20, 99),
        metavar="N",
        help=f"negatives per valid or test impression (default: 20 99{many * adaptive})",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=arguments.seed, default=1, metavar="N", help="(default: %(default)s)"
    )


def check_draws(candidates: list[int] | tuple[int, ...], cuts: tuple[float, float]) -> None:
    """Check the options of ``add_draws`` against each other.

    Raises:
        DataError: a number of candidates twice, or cuts that do not rise.
    """
    if len(set(candidates)) < len(candidates):
        raise DataError(f"--candidates {' '.join(map(str, candidates))}: a number twice")
    first, second = cuts
    if not 0 < first < second < 1:
        raise DataError(f"--cuts {first:g} {second:g}: expected two rising numbers from 0 to 1")
