"""Command line: a language model writes what items and users lack.

python -m process.genre plan --scheme book_profile --data data/goodreads
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from legos.command_line import CommandParser
from legos.home import home
from process.command import run_cli
from process.genre.commands import COMMANDS
from process.genre.histories import HISTORIES, MEANING
from process.genre.scheme import scheme_names

_STORE = "cache/genre"
DESCRIPTION = """\
Ask a language model about the items and users of finished tables (GENRE), keep its answers in an
append-only store, and make them into tables.

A run that is ended by anything goes on when it is started again: what has an answer is not asked
again, nor what a model refused. `drop` takes single answers out of the store, so that the next run
asks for them; `ask` asks for new ones at once and keeps the old one until there is a new one.
Without --base-url the packaged SmolLM2 answers on this machine, without network. API keys are read
from the environment only.

exit codes: 0 all answered, or a limit that you set ended the run; 1 nothing was answered; 2 wrong
arguments or data; 3 only a part was answered; 130 Ctrl-C
"""
EPILOG = f"""\
schemes: {", ".join(scheme_names())}

example:
  python -m process.genre plan   --scheme book_profile --data data/goodreads --users 200
  python -m process.genre run    --scheme book_profile --data data/goodreads --users 200
  python -m process.genre status --scheme book_profile --data data/goodreads --users 200
  python -m process.genre ask    --scheme book_profile --data data/goodreads --key 8842281e
  python -m process.genre drop   --scheme book_profile --key 8842281e
  python -m process.genre export --scheme book_profile --output profiles.jsonl
  python -m process.user_fields  --tables data/goodreads --profiles profiles.jsonl \\
      --text interests --output data/goodreads-up
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.genre``."""
    parser = CommandParser(
        "python -m process.genre",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    plan = commands.add_parser("plan", help="requests, tokens and cost, before anything is sent")
    _add_requests(plan)
    plan.add_argument(
        "--tokenizer",
        metavar="SOURCE",
        help="counts the prompts: minilm, smollm2, a folder or .gguf file (default: letters / 4)",
    )
    plan.add_argument("--show", action="store_true", help="also print the first request")
    run = commands.add_parser("run", help="ask what has no answer yet")
    _add_requests(run)
    _add_endpoint(run)
    ask = commands.add_parser("ask", help="ask of some items or users again")
    _add_requests(ask)
    _add_endpoint(ask)
    _add_keys(ask)
    _add_drop(commands.add_parser("drop", help="take answers out of the store, one by one"))
    _add_requests(commands.add_parser("status", help="answered, quarantined, left"))
    _add_export(commands.add_parser("export", help="answers become tables or a file"))
    _add_import(commands.add_parser("import", help="ONCE's published logs become answers"))
    _add_leaks(commands.add_parser("leaks", help="do answers tell of the held-out items?"))
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scheme", required=True, help="its name, or a .yaml file")
    parser.add_argument(
        "--store",
        type=Path,
        default=home() / _STORE,
        metavar="FOLDER",
        help="where the answers are (default: %(default)s)",
    )


def _add_requests(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="finished tables"
    )
    meanings = "; ".join(f"{name}: {text}" for name, text in MEANING.items())
    parser.add_argument(
        "--history",
        choices=HISTORIES,
        default="train",
        help=f"which clicks of a user are read (default: %(default)s). {meanings}",
    )
    parser.add_argument("--users", type=int, metavar="N", help="a sample, always the same")
    parser.add_argument("--items", type=int, metavar="N", help="a sample, always the same")
    parser.add_argument(
        "--cold-at-most", type=int, metavar="N", help="users with at most N clicks only"
    )
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="smollm2", help="(default: %(default)s)")
    group.add_argument("--temperature", type=float, help="(default: the scheme's)")
    group.add_argument("--top-p", type=float, default=1.0, help="(default: %(default)s)")
    group.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    group.add_argument(
        "--answer-tokens",
        type=int,
        metavar="N",
        help="limit of one answer, reasoning included (default: the scheme's max_tokens)",
    )
    group.add_argument(
        "--price", metavar="PROMPT,COMPLETION", help="of a million tokens (default: prices.yaml)"
    )


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("endpoint")
    group.add_argument(
        "--base-url", metavar="URL", help="an OpenAI-compatible server (default: embedded)"
    )
    group.add_argument(
        "--key-variable", metavar="NAME", help="environment variable that holds the key"
    )
    group.add_argument("--concurrency", type=int, metavar="N", help="requests at once")
    group.add_argument(
        "--slots", type=int, default=1, metavar="N", help="of the embedded server (default: 1)"
    )
    group.add_argument("--requests-per-minute", type=float, metavar="N")
    group.add_argument("--tokens-per-minute", type=float, metavar="N")
    group.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="a request's"
    )
    group.add_argument("--total-timeout", type=float, metavar="SECONDS", help="the run's")
    group.add_argument("--max-requests", type=int, metavar="N", help="budget")
    group.add_argument("--max-tokens", type=int, metavar="N", help="budget, prompts and answers")
    group.add_argument("--max-cost", type=float, metavar="DOLLARS", help="budget")
    group.add_argument(
        "--structured",
        choices=("json_schema", "json_object", "text"),
        default="json_schema",
        help="how strictly JSON is asked for, where the server can (default: %(default)s)",
    )
    group.add_argument(
        "--repairs",
        type=int,
        default=1,
        metavar="N",
        help="how often a model is told what is wrong with its answer (default: %(default)s)",
    )


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        action="append",
        required=True,
        metavar="KEY",
        help="raw id of an item or user; U7 is all rounds of U7, U7#1 one; may be repeated",
    )


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", help="only answers of this: train, valid, all or published")
    parser.add_argument("--model", metavar="NAME", help="only answers of this model")
    parser.add_argument("--version", type=int, help="only answers of this version of the scheme")


def _add_drop(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    _add_keys(parser)
    _add_kind(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the tables to extend")
    parser.add_argument(
        "--output", type=Path, required=True, help="new tables; profiles and picks: a .jsonl file"
    )
    _add_kind(parser)
    parser.add_argument(
        "--keys-of",
        type=Path,
        metavar="STORE",
        help="only what this other store has answers of, too: compares like with like",
    )
    parser.add_argument(
        "--field",
        action="append",
        metavar="NAME",
        help="summaries: what the column is called; others: ANSWER=FIELD where names differ",
    )
    parser.add_argument(
        "--fallback", metavar="FIELD", help="summaries: the text of items without one"
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="generators: what `generated_items` of a data YAML calls them (default: the scheme)",
    )
    parser.add_argument("--force", action="store_true", help="replace other tables")


def _add_import(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument(
        "--log", type=Path, action="append", required=True, help="a generator's: one a round"
    )
    parser.add_argument(
        "--user-ids",
        type=Path,
        metavar="FILE",
        help="tok.uid.dat, or a table of uid_index and user_id (default: uid is the raw id)",
    )


def _add_leaks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scheme", action="append", required=True, help="may be repeated")
    parser.add_argument("--store", type=Path, action="append", metavar="FOLDER")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    _add_kind(parser)
    parser.add_argument("--split", default="test", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def main(args: argparse.Namespace) -> None:
    """Do what the command says.

    Raises:
        LegosError: of the arguments, the data, the store or the endpoint.
    """
    if args.command == "leaks":
        args.store = args.store or [home() / _STORE]
    code = COMMANDS[args.command](args)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    run_cli(main, build_parser())
