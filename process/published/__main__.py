"""Command line: the folder of a published data set becomes tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from legos.command_line import CommandParser
from legos.errors import DataError
from process import arguments
from process.bad_lines import add_max_bad
from process.command import add_table_arguments, read_tokenizer_arguments, run_cli
from process.interactions.arguments import add_cores
from process.published.choices import Choices
from process.published.layout import Layout, ShownLayout
from process.summary import refuse_no_tables
from process.table.__main__ import AUTO, add_split, build_from
from process.table.__main__ import build_parser as build_table_parser
from process.table.build import texts_of, write_with_yaml
from process.table.languages import choose_tokenizers
from process.table.telling import report

_OF_EVENTS = (
    "rating_above", "min_rating", "user_core", "item_core", "duplicates", "split", "cuts",
    "negatives", "candidates", "seed", "years", "tags",
    "reviews", "tips",
)  # fmt: skip
DESCRIPTION = """\
Prepare tables from a published data set. Unpack it first; it is recognised by its files.

  MovieLens     100K: u.data u.item [u.user]; 1M: ratings.dat movies.dat users.dat; 10M: ratings.dat
                movies.dat [tags.dat]; 20M, 25M, 32M, latest: ratings.csv movies.csv [tags.csv]
  EB-NeRD       articles.parquet train/ validation/ [test/], each with behaviors.parquet
                history.parquet (demo, small, large)
  RecBench      items.parquet users.parquet finetune.parquet test.parquet [valid_user_set_*.txt]
  Yelp          yelp_academic_dataset_{business,review}.json [_user.json _tip.json]
  Steam         steam_reviews.json.gz steam_games.json.gz
  RecBole       NAME.inter NAME.item [NAME.user], its atomic files

MovieLens titles are reordered ("Matrix, The (1999)" to "The Matrix"); the year becomes a number and
the genres a text. In 100K and 1M, age, gender, occupation and zip code become user fields, which
user encoder `profile` reads.
RecBole's types map to kinds of fields: token to category, token_seq to text, float to number.

Every rating is a click unless --min-rating says which are. Splits, negatives and data YAML are
those of `legos table`.
"""
EPILOG = """\
examples:
  python -m process.published ml-1m --output data/movielens-1m
  python -m process.published ml-32m --output data/movielens-32m --min-rating 4 --user-core 5 \
--item-core 5 --split by-time
"""


def build_parser() -> CommandParser:
    """The arguments of ``python -m process.published``."""
    parser = CommandParser("python -m process.published", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the unpacked data set")
    fields = parser.add_argument_group("fields")
    fields.add_argument(
        "--years", choices=("split", "keep"), default="split",
        help="year after a title: make it a field, or keep it in the title (default: %(default)s)",
    )  # fmt: skip
    fields.add_argument(
        "--tags", type=arguments.natural, default=0, metavar="N",
        help="read the N most frequent tags of an item; they leak held-out users and events "
        "(default: none)",
    )  # fmt: skip
    fields.add_argument(
        "--reviews", action="store_true",
        help="read review texts of Yelp and Steam, for models of reviews; they are kept in memory",
    )  # fmt: skip
    events = parser.add_argument_group("events")
    events.add_argument(
        "--tips", action="store_true", help="include Yelp's tips, as events without a rating"
    )
    add_max_bad(events)
    add_cores(events, least=True)
    events.add_argument(
        "--duplicates", choices=("first", "last", "keep"), default="first",
        help="which of a user's events with an item to keep; keep: all (default: %(default)s)",
    )  # fmt: skip
    add_split(parser)
    add_table_arguments(
        parser, default_name=None, tokenizer="auto, like legos table", unitok=False, verbose=True
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Recognise, read, tell, write.

    Raises:
        DataError: of the arguments, the files, or the output folder.
    """
    choices = Choices(
        years=args.years, tags=args.tags, reviews=args.reviews, tips=args.tips,
        longest=args.longest_history,
    )  # fmt: skip
    layout = recognised(args.folder, choices)
    print(f"{args.folder}: {layout.name}")
    if isinstance(layout, ShownLayout):
        _write_shown(layout, args)
        return
    every = argparse.Namespace(**vars(_defaults()) | vars(args) | layout.asked)
    origin = {"layout": layout.name, **vars(choices)}
    build_from(every, layout.items, layout.events, layout.users, origin=origin)


def _write_shown(layout: ShownLayout, args: argparse.Namespace) -> None:
    """Tables of a log of shown items.

    Raises:
        DataError: an option asks for what such a log has already, or the files are not as they
            should be.
    """
    usual = vars(build_parser().parse_args(["-", "--output", "-"]))
    for name in _OF_EVENTS:
        if getattr(args, name) != usual[name]:
            option = f"--{name.replace('_', '-')}"
            raise DataError(
                f"{option}: {layout.name} contains shown lists; its lists and splits are used "
                "unchanged"
            )
    refuse_no_tables(args.output)
    raw = layout.read(args.name or args.output.resolve().name, args.max_bad)
    asked = None if args.tokenizer in (None, [AUTO]) else read_tokenizer_arguments(args)
    choice = choose_tokenizers(texts_of(raw), asked)
    if choice.note:
        print(f"note: {choice.note}")
    write_with_yaml(
        raw, args.output, choice.specs, force=args.force, unitok=args.unitok_copy,
        verbose=args.verbose, describe=partial(report, choice=choice),
    )  # fmt: skip


def recognised(folder: Path, choices: Choices) -> Layout | ShownLayout:
    """The layout of a folder.

    Raises:
        DataError: no such folder, or none of the layouts.
    """
    from process.published import ebnerd, movielens, recbench, recbole, steam, yelp
    from process.tsv import what_is_there

    if not folder.is_dir():
        is_file = folder.is_file()
        why = "a file; unpack it and give the folder" if is_file else "no such folder"
        raise DataError(f"{folder}: {why}{'' if is_file else what_is_there(folder.parent)}")
    layouts: tuple[Callable[[Path, Choices], Layout | ShownLayout | None], ...] = (
        movielens.find, ebnerd.find, recbench.find, yelp.find, steam.find, recbole.find,
    )  # fmt: skip
    for find in layouts:
        layout = find(folder, choices)
        if layout is not None:
            return layout
    raise DataError(
        f"{folder}: not a known data set{what_is_there(folder)}; `legos "
        "published --help` lists them, `legos table` reads any files of items and events"
    )


def _defaults() -> Any:
    """What ``legos table`` asks beside, not asked."""
    return build_table_parser().parse_args(["--items", "-", "--events", "-", "--output", "-"])


if __name__ == "__main__":
    run_cli(main, build_parser())
