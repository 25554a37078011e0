"""``legos serve RUN``: recommendations over HTTP, with a web page."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from legos.command_line import CommandParser
from legos.errors import run_command

_EXAMPLES = """\
examples:
  legos serve runs/shop                          newest trained run of data set shop
  legos serve runs/shop/naml/0123456789ab --port 8080
  legos serve runs/shop --watch 60               switch to newer runs as they finish
  LEGOS_API_KEY=... legos serve runs/shop --host 0.0.0.0 --allow-host recs.example.org

  curl http://127.0.0.1:8000/recommend -H 'Content-Type: application/json' \\
       -d '{"user": "c17", "k": 5}'

The web page is at /, the API at /docs and /openapi.json, Prometheus metrics at /metrics. If
LEGOS_API_KEY is set, clients must send "Authorization: Bearer KEY". SIGTERM (exit code 0) and
Ctrl-C (130) finish pending requests first. Items added over HTTP are lost when the server stops."""


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
        description="Serve recommendations of a trained run over HTTP, with a web page.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "run",
        metavar="RUN",
        help="run folder, folder of runs (its newest trained run), or a run id",
    )
    add("--data", metavar="FOLDER", help="folder of the tables, if they were moved")
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
        help="address to bind to; 0.0.0.0: all networks (default: %(default)s, this machine only)",
    )
    add(
        "--port",
        type=_number(0, 65535),
        default=8000,
        help="port; 0: any free one (default: %(default)s)",
    )
    add(
        "--allow-host",
        dest="names",
        action="append",
        default=[],
        metavar="NAME",
        help="host name that clients may use, such as that of a proxy; may be repeated",
    )


def _add_runs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("runs").add_argument
    add(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help="look for a newer run at this interval (default: only on POST /reload)",
    )
    add(
        "--exact-up-to",
        type=_number(0, 10**9),
        default=200_000,
        metavar="ITEMS",
        help="use FAISS for larger catalogues (default: %(default)s)",
    )
    add(
        "--max-new-items",
        type=_number(0, 10**6),
        default=10_000,
        metavar="N",
        help="maximum number of items that clients may add (default: %(default)s)",
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("load").add_argument
    add(
        "--queue",
        type=_number(1, 10**6),
        default=512,
        help="maximum waiting requests; more get 503 with Retry-After (default: %(default)s)",
    )
    add(
        "--batch",
        type=_number(1, 4096),
        default=32,
        help="maximum requests per batch (default: %(default)s)",
    )
    add(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="how long a batch waits for more requests, such as 0.002; 0: take those that arrived "
        "during the last batch (default: %(default)s)",
    )
    add(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="answer 504 after this time (default: %(default)s)",
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
