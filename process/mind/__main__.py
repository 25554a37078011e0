"""``python -m process.mind``: MIND's raw folders become tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from legos.command_line import CommandParser
from legos.errors import DataError
from process.command import add_table_arguments, read_tokenizer_arguments, run_cli
from process.mind.reader import read_mind
from process.tables import write_tables

EPILOG = """\
layout of --raw (the unpacked MIND archives; files may be .gz):
  FOLDER/train/  news.tsv  behaviors.tsv
  FOLDER/dev/    news.tsv  behaviors.tsv
  FOLDER/test/   news.tsv  behaviors.tsv     optional, without labels -> split test_unlabelled
  news.tsv       id, category, subcategory, title, abstract, url, title entities, abstract entities
  behaviors.tsv  impression id, user id, time, history "N1 N2", candidates "N3-0 N4-1"
  A news.tsv beside the folders applies to all of them. A click_probability.tsv (impression id, TAB,
  one number per candidate) in a folder becomes the column `oracle`.

variants:
  --xmind xMIND/ron          add the news in other languages as fields title_ron, abstract_ron
                             (files: xMIND/ron/xMINDsmall_train/news.tsv, _dev, _test: news id,
                             title, abstract); one folder per language
  --halves mind_imp_list.json  ONCE's MIND: split dev into valid and test by this list

splits:
  dev is `test`; the last day of train is `valid`. Without dev (or --test) the last day of train is
  `test` and the day before it `valid`. Splits given by folders need no times.

examples:
  python -m process.mind --raw data/raw/MINDsmall --output data/mind
  python -m process.mind --raw data/raw/MINDsmall --output data/mind \\
      --tokenizer bert=minilm --tokenizer words=words
  python -m process.mind --raw data/raw/MINDsmall --xmind xMIND/ron xMIND/fin \\
      --tokenizer llama=smollm2 --output data/xmind
  python -m process.mind --raw MINDsmall --halves mind_imp_list.json --output data/once-mind
  python -m process.mind --train sample --unknown-candidates drop --output data/sample
  python -m process.mind --train books/train --valid books/valid --test books/test \\
      --split test_uniform=books/test_uniform --output data/books
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = CommandParser(
        "python -m process.mind",
        description="Read a data set in MIND's layout and write tables for training.",
        epilog=EPILOG,
    )
    raw = parser.add_argument_group("raw data (either --raw, or --train with --valid, --test, ...)")
    raw.add_argument("--raw", type=Path, metavar="FOLDER", help="folder with train/ dev/ [test/]")
    raw.add_argument("--train", type=Path, metavar="FOLDER", help="training impressions")
    raw.add_argument("--valid", type=Path, metavar="FOLDER", help="validation impressions")
    raw.add_argument("--test", type=Path, metavar="FOLDER", help="test impressions, with labels")
    raw.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="another evaluation split, with or without labels; may be repeated",
    )
    raw.add_argument(
        "--news",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="news file (default: news.tsv in or beside every folder); may be repeated",
    )
    raw.add_argument(
        "--unknown-candidates",
        choices=("error", "drop"),
        default="error",
        help="candidates missing from news.tsv: stop, or leave them out and count them "
        "(default: %(default)s)",
    )
    raw.add_argument(
        "--xmind", type=Path, nargs="+", default=[], metavar="FOLDER",
        help="xMIND folders, one per language: xMIND/ron xMIND/cmn",
    )  # fmt: skip
    raw.add_argument(
        "--halves", type=Path, metavar="FILE",
        help="split dev into valid and test by ONCE's list of impressions, mind_imp_list.json",
    )  # fmt: skip
    add_table_arguments(parser, default_name="mind")
    return parser


def main(args: argparse.Namespace) -> None:
    """Read and write.

    Raises:
        DataError: of the arguments, the raw files, or the output folder.
    """
    folders = _folders(args)
    tokenizers = read_tokenizer_arguments(args)
    further = _further(args.split)
    raw = read_mind(
        folders.train,
        folders.dev,
        folders.test,
        valid=args.valid,
        further=further,
        news=args.news,
        name=args.name,
        unknown_candidates=args.unknown_candidates,
        translations=args.xmind,
        halves=args.halves,
    )
    write_tables(raw, args.output, tokenizers, force=args.force, unitok=args.unitok)


class _Folders(NamedTuple):
    """As ``read_mind`` calls them."""

    train: Path
    dev: Path | None
    test: Path | None


def _folders(args: argparse.Namespace) -> _Folders:
    if (args.raw is None) == (args.train is None):
        raise DataError("give either --raw FOLDER (with train/ dev/ [test/]) or --train FOLDER")
    if args.raw is None:
        return _Folders(args.train, args.test, None)
    if args.test is not None:
        raise DataError("--test needs --train; with --raw the folder dev/ is the test split")
    test = args.raw / "test"
    return _Folders(args.raw / "train", args.raw / "dev", test if test.is_dir() else None)


def _further(texts: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise DataError(
                f"--split {text!r}: expected NAME=FOLDER, for example test_uniform=raw/uniform"
            )
        if name in folders:
            raise DataError(f"--split {text!r}: the name {name!r} is given twice")
        folders[name] = Path(folder)
    return folders


if __name__ == "__main__":
    run_cli(main, build_parser())
