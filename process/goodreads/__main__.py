"""Command line: three origins of Goodreads data, one kind of tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from legos.command_line import CommandParser
from legos.errors import DataError
from process import arguments
from process.bad_lines import add_max_bad
from process.command import add_origin, add_table_arguments, read_tokenizer_arguments, run_cli

if TYPE_CHECKING:  # pandas is slow to import; --help must not wait for it
    from process.raw import RawData

ONCE = """\
Build tables from the benchmark in MIND's layout.

expected in --raw:
  news.tsv                    id, -, -, title, description, -, -, -   (8 columns, TAB)
  train/ valid/ test/         behaviors.tsv each: id, user, empty time, history, candidates
  valid_uniform/ test_uniform/  the same positives with uniform negatives (optional)
"""
RELEASE = """\
Build the benchmark anew from the files that ONCE released: a user's last book is test, the second
last valid, every earlier one with a prefix train. Negatives are drawn by --seed: 4 in train, 20 in
valid and test in proportion to popularity, 20 in valid_uniform and test_uniform uniformly.

expected in --raw:
  book.csv                    bid TAB title, with a header
  book-desc.csv               bid,desc with a header; without it book_summarizer.log is read
  user/                       data.npy, tok.bid.dat, tok.uid.dat (a UniTok-v3 table; the pickle in
                              it is read without running it)
  book_summarizer.log, user_profiler.log, generator_v*.log    optional: their duplicate and bad rows
                              are counted

The profiles and generated books were written by a model that saw the held-out books too, so no
table is made of them.
"""
UCSD = """\
Build tables from the dump of the UCSD Book Graph, any part of it.

expected, one JSON object a line:
  goodreads_books*.json.gz          book_id, title, description, ...
  goodreads_interactions*.json.gz   user_id, book_id, rating, date_added, ...

More than 3 stars is positive, fewer negative, 3 and unrated are dropped. The files are read once,
on all cores: memory grows with users, books and ratings above or below 3; texts of books wait in
temporary files (in TMPDIR). A user's first 6 to 9 positives are the history (1 to 5 for a tenth of
the users, the cold ones), the rest becomes train, valid and test, 80:10:10 by position; 10 random
unread books join the user's dislikes as negatives. One impression a user and split.
"""
EXAMPLES = {
    "once": "python -m process.goodreads once --raw data/raw/goodreads --output data/goodreads",
    "release": "python -m process.goodreads release --raw data/raw/once-release "
    "--output data/goodreads-release",
    "ucsd": "python -m process.goodreads ucsd --books goodreads_books_poetry.json.gz "
    "--interactions goodreads_interactions_poetry.json.gz --output data/goodreads-poetry",
}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.goodreads``."""
    parser = CommandParser(
        "python -m process.goodreads",
        description="Goodreads data of three origins become tables with the fields title and "
        "description.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in EXAMPLES.values()),
    )
    origins = parser.add_subparsers(dest="origin", required=True, metavar="ORIGIN")
    once = add_origin(origins, "once", "the benchmark in MIND's layout", ONCE, EXAMPLES["once"])
    once.add_argument("--raw", type=Path, required=True, metavar="FOLDER", help="raw files")
    add_table_arguments(once, default_name="goodreads")

    release = add_origin(
        origins, "release", "the files that ONCE released", RELEASE, EXAMPLES["release"]
    )
    release.add_argument("--raw", type=Path, required=True, metavar="FOLDER", help="raw files")
    release.add_argument(
        "--seed", type=arguments.seed, default=1, metavar="N", help="(default: %(default)s)"
    )
    release.add_argument(
        "--compare",
        type=Path,
        metavar="FOLDER",
        help="check against this benchmark: books, histories and positives must be the same",
    )
    add_table_arguments(release, default_name="goodreads")

    ucsd = add_origin(origins, "ucsd", "the dump of the UCSD Book Graph", UCSD, EXAMPLES["ucsd"])
    for option in ("--books", "--interactions"):
        ucsd.add_argument(
            option, type=Path, nargs="+", required=True, metavar="FILE", help=".json.gz or .json"
        )
    _add_filters(ucsd)
    add_max_bad(ucsd)
    add_table_arguments(ucsd, default_name="goodreads-ucsd")
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters")
    filters = (
        ("--seed", 1, "of every draw"),
        ("--fewest-readers", 5, "ratings a book must have"),
        ("--most-readers", 10_000, "ratings a book may have"),
        ("--fewest-positives", 10, "positive books a user must have"),
        ("--longest", 50, "keep a user's first so many positives and so many negatives"),
    )
    arguments.add_numbers(group, filters, read=arguments.natural)
    group.add_argument(
        "--users",
        type=arguments.count,
        metavar="N",
        help="draw this many users first (default: all)",
    )
    group.add_argument(
        "--unrated-is-negative",
        action="store_true",
        help="take rating 0 (shelved, not rated) as a dislike, as ONCE did",
    )


def main(args: argparse.Namespace) -> None:
    """Read one origin, write the tables."""
    tokenizers = read_tokenizer_arguments(args)
    raw = {"once": _once, "release": _release, "ucsd": _ucsd}[args.origin](args)
    from process.tables import write_tables

    write_tables(raw, args.output, tokenizers, force=args.force, unitok=args.unitok)


def _once(args: argparse.Namespace) -> RawData:
    from process.goodreads.once import read_once

    return read_once(args.raw, name=args.name)


def _release(args: argparse.Namespace) -> RawData:
    from process.goodreads.leave_last_out import compare
    from process.goodreads.once import read_once
    from process.goodreads.release import read_release

    raw = read_release(args.raw, name=args.name, seed=args.seed)
    if args.compare is not None:
        agreed = compare(raw, read_once(args.compare, name=args.name))
        counts = ", ".join(f"{split} {count:,}" for split, count in agreed.impressions.items())
        texts = ", ".join(f"{field} {count:,}" for field, count in agreed.texts.items())
        print(f"same books, histories and positives as {args.compare}: {counts} impressions")
        print(f"books whose text differs: {texts}")
    return raw


def _ucsd(args: argparse.Namespace) -> RawData:
    _require_at_least(args, {"fewest_readers": 1, "fewest_positives": 3, "longest": 3, "users": 1})
    from process.goodreads.interactions import Filters
    from process.goodreads.ucsd import read_ucsd

    filters = Filters(
        fewest_readers=args.fewest_readers,
        most_readers=args.most_readers,
        fewest_positives=args.fewest_positives,
        users=args.users,
        longest=args.longest,
        unrated_is_negative=args.unrated_is_negative,
    )
    books: Sequence[Path] = args.books
    return read_ucsd(
        books,
        args.interactions,
        name=args.name,
        filters=filters,
        seed=args.seed,
        max_bad=args.max_bad,
    )


def _require_at_least(args: argparse.Namespace, least: dict[str, int]) -> None:
    for name, minimum in least.items():
        value = getattr(args, name)
        if value is not None and value < minimum:
            raise DataError(f"--{name.replace('_', '-')} {value}: expected {minimum} or more")


if __name__ == "__main__":
    run_cli(main, build_parser())
