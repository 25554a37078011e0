"""Command line: a UniTok folder becomes tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from legos.command_line import CommandParser
from legos.errors import DataError
from process.command import add_table_arguments, read_tokenizer_arguments, run_cli

DESCRIPTION = """\
Make tables of a UniTok folder, as Legommenders and ONCE publish them, with the vocabularies, ids
and cut lengths that they have, and the data YAML that reads them.

Read are folders of version 4 (items/, users/, train/, ... with meta.json) and of version 3 (news/,
news-llama/, user/, neg/, train/, dev/, test/ with meta.data.json). Tables and columns are found by
usual names and by their vocabularies, or named by the options. Rows are grouped to impressions by
the column that says so (imp), or by user. Texts are put together from tokens where the vocabulary
stands for text; list columns of items beside the history (neg) stay as columns of the users. A
folder with histories alone is split by leaving the last items out.

Nothing of the folder is run: pickles are read for plain lists and numbers alone.

Token vectors: `--embed minilm-token` gives every entry that is also one of MiniLM's its vector
(all of BERT's vocabulary, most English words); others start at random, and their number is printed.
Without it all start at random.
"""
EPILOG = """\
example:
  python -m process.unitok Legommenders/data/mind --output data/mind-unitok
  python -m process.unitok MIND-small-v2 --items news --label click --output data/mind-v3
"""


def build_parser() -> CommandParser:
    """The arguments of ``python -m process.unitok``."""
    parser = CommandParser("python -m process.unitok", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the UniTok tables")
    tables = parser.add_argument_group("tables of the folder (all may be left out)")
    tables.add_argument("--items", metavar="TABLE", help="of the items: --items news")
    tables.add_argument("--users", metavar="TABLE", help="of the users: --users user")
    tables.add_argument(
        "--split", nargs="+", default=[], metavar="NAME=TABLE",
        help="of the interactions: --split train=train valid=dev test=test",
    )  # fmt: skip
    columns = parser.add_argument_group("columns (all may be left out)")
    for name, text in (
        ("user", "of the interactions: --user uid"),
        ("item", "of the interactions: --item nid"),
        ("label", "whether it was clicked: --label click"),
        ("impression", "in which list it was shown: --impression imp"),
        ("history", "of the users, what they have had: --history history"),
    ):
        columns.add_argument(f"--{name}", metavar="COLUMN", help=text)
    add_table_arguments(parser, default_name="", verbose=True)
    for action in parser._actions:
        if action.dest == "name":
            action.help = "name of the data set (default: that of the output folder)"
        elif action.dest == "tokenizer":
            action.help = str(action.help).replace("(default: bert=minilm)", "(default: none)")
    return parser


def main(args: argparse.Namespace) -> None:
    """Read, write, say what to type next.

    Raises:
        DataError: of the arguments, the folder, or the output.
    """
    from process.table.build import write_with_yaml
    from process.unitok.assemble import read_unitok
    from process.unitok.roles import Roles

    splits = {}
    for text in args.split:
        split, equals, table = text.partition("=")
        if not (split and equals and table) or split in splits:
            raise DataError(f"--split {text!r}: expected NAME=TABLE, each name once")
        splits[split] = table
    names = ("items", "users", "user", "item", "label", "impression", "history")
    roles = Roles(**{name: getattr(args, name) for name in names}, splits=splits)
    name = args.name or args.output.resolve().name
    raw, given = read_unitok(args.folder, name=name, roles=roles)
    specs = read_tokenizer_arguments(args) if args.tokenizer else []
    write_with_yaml(
        raw, args.output, specs, force=args.force, unitok=args.unitok, given=given,
        verbose=args.verbose,
    )  # fmt: skip


if __name__ == "__main__":
    run_cli(main, build_parser())
