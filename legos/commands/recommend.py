"""``legos recommend``: top items for known or new users, or a file of lists for all users."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legos.commands.asking import (
    AskingParser,
    listed,
    positive,
    print_frame,
    print_json,
    read_frame,
    read_names,
    run_asking,
)
from legos.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from legos.recommend.readers import Reader
    from legos.recommend.run import TrainedRun

_ABOUT = """\
Print the top items for users of the data or for a new user's history, or write lists to a file.
Items in a user's history are left out."""
_EXAMPLES = """\
  legos recommend runs/shop --user u17 --k 10
  legos recommend runs/shop/naml --history sku-1 sku-9 --json
  legos recommend 0123456789ab --users users.txt --output recs.parquet
  legos recommend runs/shop --all --k 50 --output recs.parquet
  legos recommend runs/shop --all --before test --output recs.csv  # the lists of the test
  torchrun --nproc-per-node 2 -m legos recommend runs/shop --all --output recs.parquet
  legos recommend runs/shop --user u17 --add new_items.csv        # new items by their texts"""


def build_parser() -> AskingParser:
    """The options."""
    parser = AskingParser("recommend", _ABOUT, _EXAMPLES)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", nargs="+", metavar="ID", help="users of the data")
    who.add_argument(
        "--history", nargs="*", metavar="ITEM",
        help="history of a new user; without items: the most popular items",
    )  # fmt: skip
    who.add_argument(
        "--users", type=Path, metavar="FILE",
        help="file of users: one id per line, or a .csv, .jsonl or .parquet file with column "
        "user_id (or its name in your file of events)",
    )  # fmt: skip
    who.add_argument("--all", action="store_true", help="all users; needs --output")
    parser.add_argument("--k", type=positive, default=10, help="items per list (10)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="write user_id, rank, item_id, score to a .parquet, .csv or .jsonl file, and beside "
        "it a JSON file that says which run made it; rerun to resume",
    )  # fmt: skip
    parser.add_argument(
        "--before", metavar="SPLIT",
        help="use histories as of this split and leave out the items that its evaluation excludes "
        "(exp.evaluate.exclude); with --all, the users of the split",
    )  # fmt: skip
    parser.add_argument("--seen", action="store_true", help="include items of the history")
    parser.add_argument(
        "--add", type=Path, metavar="FILE",
        help="first add new items from a .csv, .jsonl or .parquet file with item_id and the text "
        "fields (or their names in your file of items)",
    )  # fmt: skip
    return parser


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    return run_asking(build_parser(), words, _answer)


def _answer(run: TrainedRun, given: argparse.Namespace) -> None:
    if given.all and given.output is None:
        raise ConfigError("--all needs --output FILE.parquet")
    for name in ("output", "before"):
        if given.history is not None and getattr(given, name) is not None:
            raise ConfigError(f"--{name} needs --user, --users or --all")
    if given.add is not None:
        run.add_items(read_frame(given.add))
    called = run.tables.manifest.get("source_columns", {}).get("user_id", "user_id")
    users = read_names(given.users, "user_id", called) if given.users else given.user
    with _noticed(tell=run.sharing.is_first):
        if given.output is not None:
            _write(run, given, users)
        else:
            _print(run, given, users)


def _write(run: TrainedRun, given: argparse.Namespace, users: Sequence[str] | None) -> None:
    path = run.recommend_all(
        given.k, given.output, users=users, exclude_seen=not given.seen, before=given.before
    )
    if run.sharing.is_first:
        from legos.recommend.everyone import describe_lists  # with pandas

        print(describe_lists(path))


def _print(run: TrainedRun, given: argparse.Namespace, users: Sequence[str] | None) -> None:
    from legos.recommend.readers import Reader  # with torch

    readers = [Reader(user, None, given.before) for user in users or ()]
    readers = readers or [Reader(history=given.history)]
    lists = run.recommend_many(readers, given.k, exclude_seen=not given.seen)
    if given.json:
        print_json([_as_json(reader, each) for reader, each in zip(readers, lists, strict=True)])
        return
    for reader, each in zip(readers, lists, strict=True):
        who = "a new user" if reader.user is None else reader.user
        how = ", the most popular items" if "notice" in each.attrs else ""
        print_frame(f"{run.name}: for {who}{how}", each)


def _as_json(reader: Reader, found: pd.DataFrame) -> dict[str, Any]:
    notice = found.attrs.get("notice")
    told = {} if notice is None else {"notice": notice}
    return {"user": reader.user, **told, "items": listed(found)}


@contextmanager
def _noticed(*, tell: bool) -> Iterator[None]:
    """Print warnings about readers without a history as notices."""
    from legos.config.load import print_notice
    from legos.recommend.lists import NoHistory  # with torch

    show = warnings.showwarning

    def notice(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, NoHistory):
            show(message, category, *place, **more)
        elif tell:
            print_notice(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", NoHistory)
        warnings.showwarning = notice
        yield
