"""``legos serve RUN``: recommendations over HTTP, and a page to look at."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from legos.command_line import CommandParser
from legos.errors import run_command

_EXAMPLES = """\
examples:
  legos serve runs/shop                          the newest trained run of the data set shop
  legos serve runs/shop/naml/0123456789ab --port 8080
  legos serve runs/shop --watch 60               newer runs take its place as they finish
  LEGOS_API_KEY=... legos serve runs/shop --host 0.0.0.0 --allow-host recs.example.org

  curl http://127.0.0.1:8000/recommend -H 'Content-Type: application/json' \\
       -d '{"user": "c17", "k": 5}'

The page is at /, the API at /docs and /openapi.json, counters for Prometheus at /metrics. With
LEGOS_API_KEY in the environment, clients send it as "Authorization: Bearer KEY". SIGTERM and
Ctrl-C let requests under way end; the exit codes are 0 and 130. Items that were added over HTTP
stay until the server ends."""


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    return run_command(_serve, words)


def _serve(words: Sequence[str]) -> int:
    args = _parser().parse_args(words)
    from legos.progress import announced

    with announced(f"loading {args.run} ..."):
        from legos.server.run import Options, serve

        return serve(Options(**{**vars(args), "names": tuple(args.names)}))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "legos serve",
        description="Recommend over HTTP from a trained run, with a page to look at.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder, a folder around runs (the newest), or a run id")
    add("--data", metavar="FOLDER", help="its tables, where they are not where it was trained")
    add("--device", default="auto", help="auto, cpu or cuda:0 (default: %(default)s)")
    _add_address(parser)
    _add_runs(parser)
    _add_load(parser)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("address").add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to bind to; 0.0.0.0: every network (default: %(default)s, this machine)",
    )
    add(
        "--port",
        type=_number(0, 65535),
        default=8000,
        help="0: any free one (default: %(default)s)",
    )
    add(
        "--allow-host",
        dest="names",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which clients may call the server, as behind a proxy; several times",
    )


def _add_runs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("runs").add_argument
    add(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help="look for a newer run so often; without it POST /reload does",
    )
    add(
        "--exact-up-to",
        type=_number(0, 10**9),
        default=200_000,
        metavar="ITEMS",
        help="larger catalogues get their candidates from FAISS (default: %(default)s)",
    )
    add(
        "--max-new-items",
        type=_number(0, 10**6),
        default=10_000,
        metavar="N",
        help="items that clients may add in all (default: %(default)s)",
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("load").add_argument
    add(
        "--queue",
        type=_number(1, 10**6),
        default=512,
        help="requests that may wait; more get 503 and Retry-After (default: %(default)s)",
    )
    add(
        "--batch",
        type=_number(1, 4096),
        default=32,
        help="lists that are found together at most (default: %(default)s)",
    )
    add(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="that a batch waits for more, such as 0.002; 0: what came during the last batch is "
        "the next one (default: %(default)s)",
    )
    add(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="after which a request is given up with 504 (default: %(default)s)",
    )


def _number(least: int, most: int) -> Callable[[str], int]:
    """A whole number within bounds, for argparse."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"{text!r}; expected a whole number from {least} to {most:,}"
            )
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, such as 0.5 or 60")
    return seconds
