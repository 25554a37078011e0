"""Command line: make tables from a UniTok folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from legos.command_line import CommandParser
from legos.errors import DataError
from process.command import add_table_arguments, read_tokenizer_arguments, run_cli

DESCRIPTION = """\
Make tables from a UniTok folder, the format in which Legommenders and ONCE publish their data.
Vocabularies, ids and text lengths are kept. Also writes the data YAML that reads the tables.

Reads folders of version 4 (items/, users/, train/, ... with meta.json) and of version 3 (news/,
news-llama/, user/, neg/, train/, dev/, test/ with meta.data.json). Tables and columns are found by
their usual names and vocabularies, or named by the options. An impression has the rows with the
same value in the impression column (imp), or all rows of a user if there is none. Texts are rebuilt
from tokens if the vocabulary has words. Further list columns of items (neg) become columns of the
users. A folder that has only histories is split by leaving the last two items out.

No code of the folder is executed: pickles are read as plain lists and numbers only.

Token vectors: with `--embed minilm-token` every entry that is also in MiniLM's vocabulary gets its
vector (all of BERT's vocabulary, most English words). The others start at random, and a run prints
their number. Without it, all start at random.
"""
EPILOG = """\
example:
  python -m process.unitok Legommenders/data/mind --output data/mind-unitok
  python -m process.unitok MIND-small-v2 --items news --label click --output data/mind-v3
"""


def build_parser() -> CommandParser:
    """Build the parser of ``python -m process.unitok``."""
    parser = CommandParser("python -m process.unitok", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the UniTok tables")
    tables = parser.add_argument_group("tables of the folder (all optional)")
    tables.add_argument("--items", metavar="TABLE", help="table of items, as in --items news")
    tables.add_argument("--users", metavar="TABLE", help="table of users, as in --users user")
    tables.add_argument(
        "--split", nargs="+", default=[], metavar="NAME=TABLE",
        help="tables of interactions, as in --split train=train valid=dev test=test",
    )  # fmt: skip
    columns = parser.add_argument_group("columns (all optional)")
    for name, text in (
        ("user", "user of an interaction, as in --user uid"),
        ("item", "item of an interaction, as in --item nid"),
        ("label", "whether the item was clicked, as in --label click"),
        ("impression", "the list in which the item was shown, as in --impression imp"),
        ("history", "history of a user, as in --history history"),
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
    """Read the folder, write tables, and print the next command.

    Raises:
        DataError: the arguments, the folder or the output cannot be used.
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
