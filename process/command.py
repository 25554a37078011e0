"""What the command lines ``python -m process.<name>`` share: arguments and how errors end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from legos.command_line import CommandParser
from legos.errors import TRACEBACK, DataError, run_command
from process.raw import NAME, TokenizerSpec


def add_origin(
    origins: argparse._SubParsersAction[CommandParser],
    name: str,
    text: str,
    long: str,
    example: str,
) -> CommandParser:
    """Add the command of one origin of raw data: a line, a description and an example."""
    return origins.add_parser(name, help=text, description=long, epilog=f"example:\n  {example}")


def add_table_arguments(
    parser: argparse.ArgumentParser,
    *,
    default_name: str | None = "data",
    tokenizer: str = "bert=minilm",
    unitok: bool = True,
    verbose: bool = False,
) -> None:
    """Add the options of every ``process`` command: --output --name --tokenizer --force ...

    Args:
        parser: the parser to extend.
        default_name: default name of the data set; None: that of the output folder.
        tokenizer: the default tokenizer, for the help text.
        unitok: write the UniTok copy by default (option --no-unitok); else only with --unitok-copy.
        verbose: also add --verbose.
    """
    group = parser.add_argument_group("tables")
    group.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder to write the tables to"
    )
    group.add_argument(
        "--name",
        default=default_name,
        help=f"name of the data set (default: {default_name or 'as --output'})",
    )
    group.add_argument(
        "--tokenizer",
        action="append",
        metavar="NAME=SOURCE",
        help="tokenizer of the texts: 'words' (words of the data set), 'minilm' (packaged BERT "
        "vocabulary), 'smollm2' (packaged LLaMA-like vocabulary), the folder of a Hugging Face "
        "tokenizer or a .gguf file; its columns are called title@NAME; may be repeated "
        f"(default: {tokenizer})",
    )
    group.add_argument(
        "--force",
        action="store_true",
        help="replace existing tables made from other sources or settings",
    )
    copy = "the UniTok copy (for exchange; training does not read it)"
    if unitok:
        group.add_argument(
            "--no-unitok", dest="unitok", action="store_false", help=f"do not write {copy}"
        )
    else:
        group.add_argument("--unitok-copy", action="store_true", help=f"also write {copy}")
    if verbose:
        group.add_argument(
            "--verbose", action="store_true", help="print the whole report (report.txt)"
        )


def read_tokenizer_arguments(args: argparse.Namespace) -> list[TokenizerSpec]:
    """Return the requested tokenizers.

    Raises:
        DataError: not ``NAME=SOURCE``, or a name given twice.
    """
    specs: list[TokenizerSpec] = []
    for text in args.tokenizer or ["bert=minilm"]:
        name, equals, source = text.partition("=")
        if not equals or not source or not NAME.fullmatch(name):
            raise DataError(
                f"--tokenizer {text!r}: expected NAME=SOURCE, for example bert=minilm or "
                "llama=/models/llama"
            )
        if name in {spec.name for spec in specs}:
            raise DataError(f"--tokenizer {text!r}: the name {name!r} is given twice")
        specs.append(TokenizerSpec(name, source))
    return specs


def run_cli(
    main: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    words: Sequence[str] | None = None,
) -> NoReturn:
    """Parse, run, exit with the code of :func:`legos.errors.run_command`.

    Args:
        main: does what the arguments say.
        parser: of the arguments.
        words: of the command line; None: those that Python was started with.
    """
    parser.add_argument(
        TRACEBACK, action="store_true", help="also show the stack trace of an error"
    )
    sys.exit(
        run_command(
            lambda words: main(parser.parse_args(words)),
            sys.argv[1:] if words is None else words,
            interrupted="interrupted; no partial output was left",
        )
    )
