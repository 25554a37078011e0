"""Command line: invent a payment app, write it as raw files, build two sets of tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from legos.command_line import CommandParser
from legos.progress import PlainConsole
from process.arguments import add_settings
from process.command import add_table_arguments, read_tokenizer_arguments, run_cli
from process.payments.raw_files import Reachable, read_group, write_payments
from process.payments.world import PaymentsConfig

DESCRIPTION = """\
Invent a payment app and build its tables.

RecSysLLM's own data, of Alipay, are private; these have their shape: users with an occupation, a
city, a level and an age, entities that are searches, visits and bills by title, cold users that
training never sees, the next entity among all and among 1 + 99. Features decide most of a user's
taste for topics (the level tells nothing), a search is often followed by a visit of the same topic,
and that by a bill. The chance of every next entity is known, so the command prints what can be
reached. The same options give the same bytes.

Known users go to --output, cold users to a folder beside it that ends with -cold; both have the
whole catalogue.
"""
EXAMPLE = """\
example:
  python -m process.payments --raw data/raw/payments --output data/payments
  python -m process.payments --raw /tmp/raw --output /tmp/payments --users 200000 --cold 10000
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.payments``."""
    parser = CommandParser("python -m process.payments", description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument(
        "--raw", type=Path, required=True, metavar="FOLDER", help="where the raw files go"
    )
    group = parser.add_argument_group("app")
    settings = (
        ("--seed", "seed", "another seed is another app"),
        ("--users", "users", "users to train with (200,000 in the paper)"),
        ("--cold", "cold", "users that training never sees (10,000 in its test)"),
        ("--items", "items", "searches, visits and bills"),
        ("--events", "events", "mean number of a known user's events"),
        ("--follow", "follow", "share of searches and visits after which their topic goes on"),
        ("--own", "own", "strength of taste that no feature tells, beside 1 of the features"),
        ("--noise", "noise", "share of events that nothing decides"),
    )
    add_settings(group, PaymentsConfig(), settings)
    add_table_arguments(parser, default_name="payments")
    return parser


def main(args: argparse.Namespace) -> None:
    """Write the raw files, print what can be reached, build the tables."""
    tokenizers = read_tokenizer_arguments(args)
    fields = PaymentsConfig.__dataclass_fields__
    config = PaymentsConfig(**{name: getattr(args, name) for name in fields})
    print_reachable(write_payments(config, args.raw))

    from process.tables import write_tables

    for group, suffix in (("known", ""), ("cold", "-cold")):
        raw = read_group(args.raw / group, name=args.name + suffix)
        folder = args.output.with_name(args.output.name + suffix)
        write_tables(raw, folder, tokenizers, force=args.force, unitok=args.unitok)


def print_reachable(reachable: list[Reachable]) -> None:
    """Print HR@k, 1 + 99, of rankings that know a part of the truth, and of one that knows all."""
    table = Table(title="What can be reached for the last event among 1 + 99")
    table.add_column("users")
    table.add_column("ranked by")
    for k in reachable[0].rates:
        table.add_column(f"HR@{k}", justify="right")
    for row in reachable:
        table.add_row(row.users, row.knowledge, *(f"{rate:.4f}" for rate in row.rates.values()))
    PlainConsole().print(table)


if __name__ == "__main__":
    run_cli(main, build_parser())
