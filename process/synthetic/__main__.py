"""Command line: invent a newsroom, write it as raw MIND files, build the tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from legos.command_line import CommandParser
from legos.progress import PlainConsole
from process.arguments import add_settings
from process.command import add_table_arguments, read_tokenizer_arguments, run_cli
from process.synthetic.newsroom import Reachable, write_newsroom
from process.synthetic.world import NewsroomConfig

DESCRIPTION = """\
Invent a newsroom and build its tables.

Users have planted tastes (categories, subcategories, ways of telling a story); clicks follow taste,
popularity and recency, and a share of them is noise. The raw files are MIND's layout to the column
(train/ and dev/ with news.tsv and behaviors.tsv), read by the reader of real MIND data; beside them
click_probability.tsv holds the generator's own probability of every click, so the best reachable
AUC is known. The same options give the same bytes.
"""
EXAMPLE = """\
example:
  python -m process.synthetic --raw data/raw/newsroom --output data/newsroom
  python -m process.synthetic --raw /tmp/raw --output /tmp/small --users 300 --news 600 --seed 2
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.synthetic``."""
    parser = CommandParser(
        "python -m process.synthetic",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "--raw", type=Path, required=True, metavar="FOLDER", help="where the raw files go"
    )
    parser.add_argument(
        "--profiles",
        type=Path,
        metavar="FILE",
        help="also write what users say of themselves, as `python -m process.user_fields` reads it",
    )
    group = parser.add_argument_group("newsroom")
    settings = (
        ("--seed", "seed", "another seed is another newsroom"),
        ("--users", "users", "number of users"),
        ("--news", "news", "number of news, spread over the days"),
        ("--days", "training_days", "training days; the last becomes split `valid`"),
        ("--impressions", "impressions", "mean number of impressions a user and day"),
        ("--cold", "cold_share", "share of a day's candidates never shown before"),
        ("--noise", "noise", "share of decisions that ignore taste, popularity and recency"),
    )
    add_settings(group, NewsroomConfig(), settings)
    add_table_arguments(parser, default_name="newsroom")
    return parser


def main(args: argparse.Namespace) -> None:
    """Write the raw files, print what can be reached, build the tables."""
    tokenizers = read_tokenizer_arguments(args)
    config = NewsroomConfig(
        seed=args.seed,
        users=args.users,
        news=args.news,
        training_days=args.training_days,
        impressions=args.impressions,
        cold_share=args.cold_share,
        noise=args.noise,
    )
    reachable = write_newsroom(config, args.raw, args.profiles)
    print_reachable(reachable)

    from process.mind import read_mind
    from process.tables import write_tables

    raw = read_mind(args.raw / "train", args.raw / "dev", name=args.name)
    write_tables(raw, args.output, tokenizers, force=args.force, unitok=args.unitok)


def print_reachable(reachable: list[Reachable]) -> None:
    """Print the AUC on the dev day of scores that know a part of the truth, and of all of it."""
    table = Table(title="What can be reached on the dev day")
    table.add_column("score")
    table.add_column("AUC", justify="right")
    table.add_column("AUC by impression", justify="right")
    for row in reachable:
        table.add_row(row.knowledge, f"{row.auc:.4f}", f"{row.auc_by_impression:.4f}")
    PlainConsole().print(table)


if __name__ == "__main__":
    run_cli(main, build_parser())
