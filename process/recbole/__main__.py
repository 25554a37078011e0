"""Command line: tables become RecBole's files, RecBole's results become rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from legos.command_line import CommandParser
from process.command import add_origin, run_cli

EXPORT = """\
Write the sequences of leave-last-out tables as RecBole's atomic files, and a YAML for each of
Caser, HGN, GRU4Rec, BERT4Rec, SASRec, FDSA, S3Rec, BPR and SimpleX. RecBole's own leave-last-out
gives the split of the tables: the last event of a user is test, the second last valid.

RecBole runs in an environment of its own:
  python3.11 -m venv recbole-env
  recbole-env/bin/pip install -r process/recbole/requirements.txt
  recbole-env/bin/python process/recbole/run_model.py data/recbole/amazon-beauty GRU4Rec
"""
IMPORT = """\
Read the results that run_model.py wrote beside the export (or logs of RecBole) and print rows with
our metric names: next items, all items ranked. RecBole leaves a user's past in the ranking of
sequential models, so compare with --exp.evaluate.exclude nothing.
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.recbole``."""
    parser = CommandParser(
        "python -m process.recbole",
        description="RecBole's baselines on our splits.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    example = "python -m process.recbole export --data data/amazon-beauty --output data/recbole/"
    export = add_origin(
        commands, "export", "tables to atomic files", EXPORT, f"{example}amazon-beauty"
    )
    export.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="tables")
    export.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="its name is the name of the data set",
    )
    example = "python -m process.recbole import --data data/recbole/amazon-beauty"
    results = add_origin(commands, "import", "results to rows", IMPORT, example)
    results.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="an export")
    results.add_argument(
        "--results", type=Path, nargs="+", default=[], metavar="FILE",
        help="JSON of run_model.py or logs (default: every <model>.json of --data)",
    )  # fmt: skip
    results.add_argument("--output", type=Path, metavar="FILE", help="also write the rows as JSON")
    return parser


def main(args: argparse.Namespace) -> None:
    """Export or import.

    Raises:
        DataError: of the tables, the folders or the results.
    """
    if args.command == "export":
        from legos.data.tables import Tables
        from process.recbole.export import export

        done = export(Tables.load(args.data), args.output)
        print(
            f"{done.folder}: {done.events:,} events of {done.users:,} users on {done.items:,} "
            f"items; {done.left_out:,} users of fewer than 3 events left out\n"
            f"settings of {', '.join(done.models)}"
        )
        return
    from legos.files import write_json
    from process.recbole.results import read_rows, rows_table

    rows = read_rows(args.data, args.results)
    print(rows_table(rows))
    if args.output:
        write_json(args.output, rows)


if __name__ == "__main__":
    run_cli(main, build_parser())
