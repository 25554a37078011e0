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
Prompt a language model about the items and users of prepared tables (GENRE), store its answers in
an append-only store, and export them to tables.

Rerun a command to resume it: answered and refused requests are not sent again. `drop` removes
single answers from the store, so that the next run requests them again; `ask` requests new answers
at once and keeps each old answer until the new one arrives. Without --base-url the packaged SmolLM2
answers on this machine, without network. API keys are only read from the environment.

exit codes: 0 all answered, or stopped at a limit you set; 1 nothing answered; 2 wrong arguments or
data; 3 partly answered; 130 Ctrl-C
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
    plan = commands.add_parser(
        "plan", help="show requests, tokens and cost without sending anything"
    )
    _add_requests(plan)
    plan.add_argument(
        "--tokenizer",
        metavar="SOURCE",
        help="tokenizer to count prompts: minilm, smollm2, a folder or .gguf file (default: "
        "letters / 4)",
    )
    plan.add_argument("--show", action="store_true", help="also print the first request")
    run = commands.add_parser("run", help="send all unanswered requests")
    _add_requests(run)
    _add_endpoint(run)
    ask = commands.add_parser("ask", help="request new answers for some items or users")
    _add_requests(ask)
    _add_endpoint(ask)
    _add_keys(ask)
    _add_drop(commands.add_parser("drop", help="remove single answers from the store"))
    _add_requests(
        commands.add_parser("status", help="show answered, quarantined and remaining requests")
    )
    _add_export(commands.add_parser("export", help="export answers to tables or a file"))
    _add_import(commands.add_parser("import", help="import ONCE's published logs as answers"))
    _add_leaks(commands.add_parser("leaks", help="test whether answers leak held-out items"))
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scheme", required=True, help="name of a scheme, or a .yaml file")
    parser.add_argument(
        "--store",
        type=Path,
        default=home() / _STORE,
        metavar="FOLDER",
        help="folder of the answers (default: %(default)s)",
    )


def _add_requests(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="prepared tables"
    )
    meanings = "; ".join(f"{name}: {text}" for name, text in MEANING.items())
    parser.add_argument(
        "--history",
        choices=HISTORIES,
        default="train",
        help=f"clicks of a user to show to the model (default: %(default)s). {meanings}",
    )
    parser.add_argument("--users", type=int, metavar="N", help="fixed sample of N users")
    parser.add_argument("--items", type=int, metavar="N", help="fixed sample of N items")
    parser.add_argument(
        "--cold-at-most", type=int, metavar="N", help="only users with at most N clicks"
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
        help="maximum tokens of an answer, including reasoning (default: the scheme's max_tokens)",
    )
    group.add_argument(
        "--price",
        metavar="PROMPT,COMPLETION",
        help="price per million tokens (default: prices.yaml)",
    )


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("endpoint")
    group.add_argument(
        "--base-url", metavar="URL", help="an OpenAI-compatible server (default: embedded)"
    )
    group.add_argument("--key-variable", metavar="NAME", help="environment variable with the key")
    group.add_argument("--concurrency", type=int, metavar="N", help="concurrent requests")
    group.add_argument(
        "--slots",
        type=int,
        default=1,
        metavar="N",
        help="slots of the embedded server (default: 1)",
    )
    group.add_argument("--requests-per-minute", type=float, metavar="N")
    group.add_argument("--tokens-per-minute", type=float, metavar="N")
    group.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="per request (default: 120)"
    )
    group.add_argument("--total-timeout", type=float, metavar="SECONDS", help="for the whole run")
    group.add_argument("--max-requests", type=int, metavar="N", help="budget of requests")
    group.add_argument(
        "--max-tokens", type=int, metavar="N", help="budget of prompt and answer tokens"
    )
    group.add_argument("--max-cost", type=float, metavar="DOLLARS", help="budget in US dollars")
    group.add_argument(
        "--structured",
        choices=("json_schema", "json_object", "text"),
        default="json_schema",
        help="strictest JSON mode to request, if the server supports it (default: %(default)s)",
    )
    group.add_argument(
        "--repairs",
        type=int,
        default=1,
        metavar="N",
        help="retries in which the model sees what is wrong with its answer (default: %(default)s)",
    )


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        action="append",
        required=True,
        metavar="KEY",
        help="raw id of an item or user; U7: all rounds of U7, U7#1: one round; may be repeated",
    )


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        help="only answers written from this history: train, valid, all; or published: imported",
    )
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
        "--output",
        type=Path,
        required=True,
        help="folder of new tables; for profiles and picks a .jsonl file",
    )
    _add_kind(parser)
    parser.add_argument(
        "--keys-of",
        type=Path,
        metavar="STORE",
        help="only items or users that this other store has answered too, for a fair comparison",
    )
    parser.add_argument(
        "--field",
        action="append",
        metavar="NAME",
        help="summaries: name of the new column; others: ANSWER=FIELD if names differ",
    )
    parser.add_argument(
        "--fallback", metavar="FIELD", help="summaries: field to use for items without an answer"
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="generators: name for `generated_items` of a data YAML (default: the scheme)",
    )
    parser.add_argument("--force", action="store_true", help="replace existing tables")


def _add_import(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument(
        "--log",
        type=Path,
        action="append",
        required=True,
        help="log file; for a generator one per round",
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
