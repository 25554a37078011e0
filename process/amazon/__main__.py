"""Command line: Amazon's reviews, sets prepared from them, and CLLM4Rec's files become tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from legos.command_line import CommandParser
from process.bad_lines import add_max_bad
from process.command import (
    add_origin,
    add_table_arguments,
    read_tokenizer_arguments,
    run_cli,
)
from process.interactions.arguments import add_cores, add_draws, check_draws

if TYPE_CHECKING:  # pandas is slow to import; --help must not wait for it
    from process.amazon.assemble import Options
    from process.raw import RawData

REVIEWS = """\
Prepare tables from review files of Amazon 2014, 2018 or 2023; the release is detected from the keys
of the first line.

expected, .gz or not:
  --reviews    one JSON object per line. 2014, 2018: reviewerID, asin, overall, unixReviewTime,
               reviewText, summary, reviewerName. 2023: user_id, parent_asin, rating, timestamp
               (milliseconds), text, title
  --metadata   optional, one JSON object (2014: or Python dict) per line: asin or parent_asin,
               title, description, brand or store, categories or category, price

A missing, null or 0 rating is unknown. An empty category falls back to main_category or main_cat,
an empty description to features. Numbers may be strings, times seconds or milliseconds. The files
are read once, on all cores. Review texts are kept in temporary files (in TMPDIR) until the filters
are applied; memory grows with the metadata (with --clicked-only or --item-core: only of clicked
items).
"""
PREPARED = """\
Prepare tables from a folder of prepared sequences.

expected in --raw:
  sequences.tsv   user TAB item ids separated by spaces, oldest first; or
  reviews.jsonl   user_id, item_id, rating, timestamp (seconds), review, summary, user_name
  items.jsonl     optional: item_id, title, brand, authors, description, categories, price
"""
CLLM4REC = """\
Prepare tables from the public files of CLLM4Rec, keeping their split. Pickles are read without
executing them; pickles that load classes are refused.

expected in --raw:
  meta.pkl                                          num_users, num_items
  train_matrix.npz  val_matrix.npz  test_matrix.npz  scipy csr matrices
  user_item_texts/review.pkl, explain.pkl           optional: [prompt, text] per pair
  item_texts/title.pkl, brand.pkl, categories.pkl, description.pkl    optional: the same per item
"""
SPLITS = """\
splits:
  leave-last-out    a user's last interaction is test, the second last valid. One train impression
                    per interaction with a history; one valid and test impression per user
  by-time           two points in time (--cuts) split the interactions of all users; one impression
                    per interaction with a history
  random-80-10-10   CLLM4Rec's: max(1, int(n / 10)) of a user's n interactions for valid and as many
                    for test, sampled with --seed; one impression per user and split, clicks only
  Users with fewer than 3 interactions are only in train. In the first two, negatives of test and
  valid are sampled in proportion to popularity, those of test_uniform and valid_uniform uniformly;
  test_99 and valid_99 (second number of --candidates) follow the 1 + 99 protocol.

A user's latest reviewer name becomes the user field `user_name`. If there are ratings or reviews, a
table `reviews` (user, item, rating, time, split, texts) is written; legos.data.reviews reads it.
"""
EXAMPLES = {
    "reviews": "python -m process.amazon reviews --reviews reviews_Beauty_5.json.gz --metadata "
    "meta_Beauty.json.gz --rating-above 3 --user-core 5 --item-core 5 --split random-80-10-10 "
    "--output data/beauty-reviews",
    "prepared": "python -m process.amazon prepared --raw data/raw/amazon-beauty --output "
    "data/amazon-beauty",
    "cllm4rec": "python -m process.amazon cllm4rec --raw data/raw/cllm4rec/beauty --output "
    "data/cllm4rec-beauty",
}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.amazon``."""
    parser = CommandParser(
        "python -m process.amazon",
        description="Prepare tables from Amazon data of three origins.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in EXAMPLES.values()),
    )
    origins = parser.add_subparsers(dest="origin", required=True, metavar="ORIGIN")
    reviews = add_origin(
        origins,
        "reviews",
        "review and metadata files",
        REVIEWS + "\n" + SPLITS,
        EXAMPLES["reviews"],
    )
    for option, text in (("--reviews", "review files"), ("--metadata", "metadata files")):
        reviews.add_argument(
            option, type=Path, nargs="+", required=option == "--reviews", default=[],
            metavar="FILE", help=text,
        )  # fmt: skip
    _add_options(reviews)
    add_table_arguments(reviews, default_name="amazon")

    prepared = add_origin(
        origins, "prepared", "a prepared folder", PREPARED + "\n" + SPLITS, EXAMPLES["prepared"]
    )
    prepared.add_argument("--raw", type=Path, required=True, metavar="FOLDER", help="raw files")
    _add_options(prepared)
    add_table_arguments(prepared, default_name="amazon")

    public = add_origin(
        origins, "cllm4rec", "the public files of CLLM4Rec", CLLM4REC, EXAMPLES["cllm4rec"]
    )
    public.add_argument("--raw", type=Path, required=True, metavar="FOLDER", help="raw files")
    add_table_arguments(public, default_name="cllm4rec")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_max_bad(parser)
    filters = parser.add_argument_group("filters, in this order")
    filters.add_argument(
        "--clicked-only", action="store_true",
        help="drop items without interactions, as --item-core above 1 also does (default: keep "
        "them in the catalogue)",
    )  # fmt: skip
    filters.add_argument("--titled-only", action="store_true", help="drop items without a title")
    filters.add_argument(
        "--duplicates", choices=("first", "last"), default="first",
        help="which of a user's interactions with an item to keep (default: %(default)s)",
    )  # fmt: skip
    add_cores(filters)
    split = parser.add_argument_group("split and negatives")
    split.add_argument(
        "--split", choices=("leave-last-out", "by-time", "random-80-10-10"),
        default="leave-last-out", help="(default: %(default)s)",
    )  # fmt: skip
    add_draws(split)
    split.add_argument(
        "--item-order", choices=("hash", "appearance"), default="hash",
        help="order of items in the table: by a hash of their ids, which leaks nothing, or by "
        "first appearance, which places a user's items side by side (default: %(default)s)",
    )  # fmt: skip


def main(args: argparse.Namespace) -> None:
    """Read one origin, write the tables.

    Raises:
        DataError: of the arguments, the raw files, or the output folder.
    """
    tokenizers = read_tokenizer_arguments(args)
    raw = _read(args)
    from process.tables import write_tables

    write_tables(raw, args.output, tokenizers, force=args.force, unitok=args.unitok)


def _read(args: argparse.Namespace) -> RawData:
    from process.amazon.assemble import read_amazon, read_cllm4rec, read_prepared

    if args.origin == "cllm4rec":
        return read_cllm4rec(args.raw, name=args.name)
    options = _options(args)
    if args.origin == "prepared":
        return read_prepared(args.raw, name=args.name, options=options, max_bad=args.max_bad)
    return read_amazon(
        args.reviews, args.metadata, name=args.name, options=options, max_bad=args.max_bad
    )


def _options(args: argparse.Namespace) -> Options:
    from process.amazon.assemble import Options
    from process.interactions.filters import Filters
    from process.interactions.impressions import Negatives

    check_draws(args.candidates, args.cuts)
    return Options(
        filters=Filters(args.rating_above, args.duplicates, args.user_core, args.item_core),
        titled_only=args.titled_only,
        split=args.split,
        cuts=tuple(args.cuts),
        negatives=Negatives(args.negatives, tuple(args.candidates), args.seed),
        item_order=args.item_order,
        clicked_only=args.clicked_only,
    )


if __name__ == "__main__":
    run_cli(main, build_parser())
