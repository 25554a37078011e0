"""Command line: the data-honesty report of finished tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from legos.command_line import CommandParser
from legos.errors import DataError
from process.command import run_cli

FORMATS = (".json", ".html")
DESCRIPTION = """\
Check prepared tables for leaks and defects before training: rules without content (next id, next
line, popularity, most recent), time ties, repetitions, markup, unknown tokens, impossible dates,
tiny splits. Every process command does this when it writes tables; this command repeats the check
and does not change them.
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.honesty``."""
    parser = CommandParser(
        "python -m process.honesty",
        description=DESCRIPTION,
        epilog="example:\n  python -m process.honesty --data data/goodreads --output honesty.html",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the tables")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="also write the report: .json or .html"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Measure, print, and write where asked."""
    output: Path | None = args.output
    if output is not None and output.suffix not in FORMATS:
        raise DataError(f"--output {output}: expected a name that ends in {' or '.join(FORMATS)}")
    from legos.files import write_json, write_text
    from legos.progress import PlainConsole
    from process.columns import ColumnReader
    from process.honesty import Evidence, measure_honesty, print_honesty

    reader = ColumnReader(args.data)
    report = measure_honesty(Evidence.of_tables(reader))
    print_honesty(report, PlainConsole(width=max(PlainConsole().width, 120)))
    if output is None:
        return
    if output.suffix == ".json":
        write_json(output, report.model_dump(mode="json"))
    else:
        from legos.reports.page import honesty_page

        write_text(output, honesty_page(str(reader.manifest["name"]), report))


if __name__ == "__main__":
    run_cli(main, build_parser())
