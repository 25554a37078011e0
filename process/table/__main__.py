"""Command line: own items and events become tables."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legos.command_line import CommandParser
from legos.errors import TRACEBACK, DataError
from process import arguments
from process.bad_lines import add_max_bad
from process.command import add_table_arguments, read_tokenizer_arguments, run_cli
from process.interactions.arguments import add_cores, add_draws, check_draws

if TYPE_CHECKING:  # pandas is slow to import; --help must not wait for it
    from process.table.build import FileOrFrame
    from process.table.options import Options

AUTO = "auto"
DESCRIPTION = """\
Prepare tables, and a data YAML for them, from a file of items and a file of events.

Files are CSV, TSV, JSON lines or Parquet, plain, .gz or .zst; the format is detected. CSV may be
separated by , ; TAB or |, with quoted line feeds, a byte-order mark and decimal commas.

Columns are recognised by common names (user_id, customer_id, 用户; item_id, sku, Artikelnummer;
time, ts; event; rating; ...) or given by the options below; the assignment is printed. Other
columns of the items become fields: text, category, number or list (read as text), depending on
their values; links, empty columns and further ids are left out. Times are Unix seconds, ms, µs or
ns, or dates with or without a zone (then UTC), in one format per column.

kinds of events
  By default every event is a click. --positive names the kinds that are clicks; all others are left
  out. --event-weight gives each kind a weight, the number of train impressions per event: a click
  of weight 3 is trained on three times per epoch, each time with new negatives; other kinds have
  weight 0 and are left out. Of repeated events of a user with an item, the one with the largest
  weight is kept (--duplicates first or last breaks ties), or all of them (keep).

lists of shown items
  If the events say which list an item was shown in (--impression, one row per item) and whether it
  was clicked (--label), or contain the whole list (--shown) and the clicked items (--item), these
  lists become the impressions and no negatives are sampled.

splits
  leave-last-out   a user's last event is test, the second last valid, the rest train
  by-time          two points in time (--cuts) split the events of all users
  random           a random tenth of a user's events is valid, another test; one impression per user
                   and split; valid and test rank all items except the history
  none             all events are train. Early stopping needs a valid split, so it repeats the last
                   train clicks of up to 1,000 users: that measures fit, not quality. Choose the
                   number of epochs with another split first
  COLUMN           a column with train, valid or test; a column called split is used by default
  leave-last-out needs 3 events per user. Negatives of test and valid are sampled in proportion to
  popularity, those of test_uniform and valid_uniform uniformly; test_99 and valid_99 have 99. Only
  clicked items are sampled.

tokenizers
  --tokenizer auto uses the packaged BERT vocabulary (bert=minilm), or, if more than 5 % of the
  tokens of a field are unknown to it, the packaged byte-level one (llama=smollm2), which covers
  every script. BERT's vocabulary covers one in four Chinese characters, and all German letters.

The whole catalogue is kept; items without clicks are never sampled as negatives.

--unitok FOLDER reads a UniTok folder instead of files (python -m process.unitok --help).
"""
EPILOG = """\
examples:
  python -m process.table --items items.csv --events events.parquet --output data/shop
  python -m process.table --items artikel.csv --events log.jsonl.gz --user Kunde --item ArtNr \
--time Zeit --event-weight view=1 cart=2 purchase=3 --split by-time --output data/laden
"""


UNITOK = "--unitok"


class _TableParser(CommandParser):
    """Parse ``--unitok FOLDER ...`` with the parser of ``process.unitok``."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        given = next((word for word in words if word.split("=")[0] == UNITOK), None)
        if given is None:
            found = super().parse_args(words, namespace)
            found.words = words
            return found
        from process.unitok.__main__ import build_parser

        place = words.index(given)
        folder = [given.partition("=")[2]] if "=" in given else words[place + 1 : place + 2]
        parser = build_parser()
        parser.add_argument(TRACEBACK, action="store_true", help=argparse.SUPPRESS)
        rest = words[:place] + words[place + 1 + ("=" not in given) :]
        return parser.parse_args([*folder, *rest], namespace)


def build_parser() -> CommandParser:
    """The arguments of ``python -m process.table``."""
    parser = _TableParser("python -m process.table", description=DESCRIPTION, epilog=EPILOG)
    files = parser.add_argument_group("files")
    for what, text in (
        ("items", "one line per item: id, texts, categories, numbers"),
        ("events", "one line per event: user, item, optionally time, kind, rating, ..."),
        ("users", "optional, one line per user: id and profile fields"),
    ):
        files.add_argument(
            f"--{what}", type=Path, nargs="+", required=what != "users", default=[],
            metavar="FILE", help=text,
        )  # fmt: skip
    files.add_argument(
        "--encoding", default="utf-8", metavar="NAME",
        help="character encoding: cp1252, gb18030, ... (default: %(default)s)",
    )  # fmt: skip
    files.add_argument(
        "--no-quotes", dest="quotes", action="store_false",
        help='treat quotes in CSV as ordinary characters: 12" pan',
    )  # fmt: skip
    add_max_bad(files)
    _add_columns(parser)
    _add_events(parser)
    add_split(parser)
    add_table_arguments(
        parser, default_name=None, tokenizer="auto, see above", unitok=False, verbose=True
    )
    return parser


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add the options of the split and its negatives."""
    split = parser.add_argument_group("split and negatives")
    split.add_argument(
        "--split", metavar="RULE",
        help="leave-last-out, by-time, random, none, or the name of a column (default: column "
        "split if there is one, otherwise leave-last-out)",
    )  # fmt: skip
    add_draws(split, adaptive=True)
    split.add_argument(
        "--longest-history", type=arguments.count, metavar="N",
        help="maximum length of a history; the newest items are kept (default: 100)",
    )  # fmt: skip


def _add_columns(parser: argparse.ArgumentParser) -> None:
    columns = parser.add_argument_group("columns (all optional)")
    for role, text in (
        ("user", "user id: --user customer_id"),
        ("item", "item id, in events and items: --item sku"),
        ("time", "time of the event: --time ts"),
        ("event", "kind of the event: --event action"),
        ("rating", "rating in stars: --rating score"),
        ("impression", "id of the list the item was shown in: --impression request_id"),
        ("shown", "all items of a shown list: --shown slate"),
        ("label", "whether the item was clicked, 0 or 1: --label clicked"),
        ("review", "the user's review of the item: --review comment"),
        ("headline", "headline of the review: --headline summary"),
    ):
        columns.add_argument(f"--{role}", metavar="COLUMN", help=text)
    for kind, text in (
        ("text", "text columns of items or users: --text title notes"),
        ("category", "category columns: --category brand"),
        ("number", "number columns: --number price"),
        ("list", "columns with several values per cell, read as text: --list tags"),
        ("leave-out", "columns of items or users to ignore: --leave-out url"),
    ):
        columns.add_argument(f"--{kind}", nargs="+", default=[], metavar="COLUMN", help=text)


def _add_events(parser: argparse.ArgumentParser) -> None:
    events = parser.add_argument_group("events, applied in this order")
    kinds = events.add_mutually_exclusive_group()
    kinds.add_argument(
        "--positive", nargs="+", default=[], metavar="KIND",
        help="kinds of events that count as clicks; others are left out: --positive purchase",
    )  # fmt: skip
    kinds.add_argument(
        "--event-weight", nargs="+", default=[], type=_weight, metavar="KIND=N",
        help="train impressions per event of each kind, 0 to 100: --event-weight view=1 cart=2 "
        "purchase=3",
    )  # fmt: skip
    events.add_argument(
        "--unknown", choices=("drop", "refuse"),
        help="events of unknown items: leave them out, or stop (default: leave them out, stop if "
        "they are the majority)",
    )  # fmt: skip
    events.add_argument(
        "--dates", choices=("day-first", "month-first"),
        help="how to read ambiguous times such as 05/06/2025 or 5/6/2025 6:30 PM (default: refuse "
        "them)",
    )  # fmt: skip
    events.add_argument(
        "--ordered", action="store_true",
        help="a user's lines are in order of time; used for missing and equal times",
    )  # fmt: skip
    add_cores(events, least=True)
    events.add_argument(
        "--duplicates", choices=("first", "last", "keep"), default="first",
        help="which of a user's events with an item to keep; keep: all (default: %(default)s)",
    )  # fmt: skip
    events.add_argument(
        "--clicked-only", action="store_true",
        help="leave out items without clicks (default: keep them in the catalogue)",
    )  # fmt: skip


def _weight(text: str) -> tuple[str, int]:
    kind, _, number = text.rpartition("=")
    if not kind or not (number.isascii() and number.isdecimal() and int(number) <= 100):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected KIND=N with a whole number from 0 to 100, such as purchase=3"
        )
    return kind, int(number)


def main(args: argparse.Namespace) -> None:
    """Read, tell, write.

    Raises:
        DataError: of the arguments, the files, or the output folder.
    """
    if hasattr(args, "folder"):
        from process.unitok.__main__ import main as read_unitok

        read_unitok(args)
        return
    from process.table.missing import MissingColumns

    try:
        build_from(args, args.items, args.events, args.users)
    except MissingColumns as missing:
        more = " ".join(f"--{role} {shlex.quote(name)}" for role, name in missing.options.items())
        raise DataError(f"{missing}\n  legos table {shlex.join(args.words)} {more}") from None


def build_from(
    args: argparse.Namespace,
    items: Sequence[FileOrFrame],
    events: Sequence[FileOrFrame],
    users: Sequence[FileOrFrame],
    *,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The same with files, DataFrames or open sources in place of those of the arguments.

    ``origin``: as in ``process.table.build.build_tables``.
    """
    options = _options(args)
    asked = args.tokenizer or [AUTO]
    if AUTO in asked and len(asked) > 1:
        raise DataError("--tokenizer auto: cannot be combined with another --tokenizer")
    tokenizers = None if AUTO in asked else read_tokenizer_arguments(args)
    from process.table.build import build_tables

    return build_tables(
        items,
        events,
        users,
        output=args.output,
        name=args.name or args.output.resolve().name,
        options=options,
        tokenizers=tokenizers,
        force=args.force,
        unitok=args.unitok_copy,
        verbose=args.verbose,
        origin=origin,
    )


def _options(args: argparse.Namespace) -> Options:
    from process.table.event_blocks import TEXTS
    from process.table.options import OWN, RULES, Options

    check_draws(args.candidates or (), args.cuts or (0.8, 0.9))
    weights = _weights(args)
    rule, column = args.split, None
    if rule is not None and rule.startswith("random"):
        rule = "random"
    if rule is not None and rule not in RULES:
        rule, column = OWN, args.split
    roles = ("user", "item", "time", "event", "rating", "impression", "shown", "label")
    texts = {role: getattr(args, role) for role in TEXTS if getattr(args, role) is not None}
    return Options(
        columns={**{role: getattr(args, role) for role in roles}, "split": column, **texts},
        kinds={kind: tuple(getattr(args, kind)) for kind in ("text", "category", "number", "list")},
        leave_out=tuple(args.leave_out),
        weights=weights,
        rating_above=args.rating_above,
        min_rating=args.min_rating,
        duplicates=args.duplicates,
        user_core=args.user_core,
        item_core=args.item_core,
        unknown=args.unknown,
        split=rule,
        cuts=None if args.cuts is None else tuple(args.cuts),
        negatives=args.negatives,
        candidates=None if args.candidates is None else tuple(args.candidates),
        seed=args.seed,
        longest=args.longest_history,
        dates=args.dates,
        ordered=args.ordered,
        clicked_only=args.clicked_only,
        max_bad=args.max_bad,
        encoding=args.encoding,
        quotes=args.quotes,
    )


def _weights(args: argparse.Namespace) -> dict[str, int] | None:
    found = dict.fromkeys(args.positive, 1)
    for kind, weight in args.event_weight:
        if found.setdefault(kind, weight) != weight:
            raise DataError(f"--event-weight {kind}: two weights, {found[kind]} and {weight}")
    if args.event_weight and not any(found.values()):
        raise DataError("--event-weight: all kinds weigh 0, so that no event is left")
    return found or None


if __name__ == "__main__":
    run_cli(main, build_parser())
