"""From interactions, texts and metadata to the data set that the table writer takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from legos.errors import DataError
from process.amazon.metadata import Metadata, described, item_fields, read_metadata
from process.amazon.public import PublicData, read_public
from process.amazon.reviews import NO_NAMES, USER_NAME, Reviews, read_reviews
from process.amazon.sequences import read_sequences
from process.bad_lines import MAX_BAD, BadLines
from process.described import Described
from process.interactions.filters import Filters, apply_filters
from process.interactions.impressions import Negatives, make_impressions, user_impressions
from process.interactions.reviews import reviews_table
from process.interactions.rows import Interactions, ItemOrder
from process.interactions.splits import (
    RULES,
    SplitRule,
    short_users,
    split_codes,
)
from process.raw import RawData, UserFields
from process.ties import count_ties
from process.tsv import find_file, what_is_there


@dataclass(frozen=True)
class Options:
    """What the user chooses.

    Attributes:
        filters: which interactions stay.
        titled_only: drop items without a title first.
        split: the rule.
        cuts: quantiles of ``by-time``.
        negatives: what is stored beside clicks; its seed is also that of the random split.
        item_order: what the row numbers of items go by.
        clicked_only: leave out described items that nobody clicked.
    """

    filters: Filters = field(default_factory=Filters)
    titled_only: bool = False
    split: SplitRule = "leave-last-out"
    cuts: tuple[float, float] = (0.8, 0.9)
    negatives: Negatives = field(default_factory=Negatives)
    item_order: ItemOrder = "hash"
    clicked_only: bool = False

    @property
    def whole_catalogue(self) -> bool:
        """Whether items that nobody clicked stay; a core of items says that none of them do."""
        return not self.clicked_only and self.filters.item_core <= 1


def read_amazon(
    reviews: Sequence[Path],
    metadata: Sequence[Path],
    *,
    name: str,
    options: Options,
    max_bad: float = MAX_BAD,
) -> RawData:
    """Review files and, where there are, metadata files of one release.

    Args:
        reviews, metadata: the files.
        name: of the data set.
        options: what the user chooses.
        max_bad: the share of lines of reviews, and of metadata, that may be bad.

    Raises:
        DataError: a damaged file, too many bad lines, or nothing passes the filters.
    """
    return _build(
        name, "amazon-reviews", read_reviews(reviews, BadLines(max_bad)), metadata, options,
        [*reviews, *metadata], max_bad=max_bad,
    )  # fmt: skip


def read_prepared(
    folder: Path, *, name: str, options: Options, max_bad: float = MAX_BAD
) -> RawData:
    """A folder with ``sequences.tsv`` or ``reviews.jsonl``, and ``items.jsonl``.

    Args:
        folder: of the raw files.
        name: of the data set.
        options: what the user chooses.
        max_bad: the share of lines of ``reviews.jsonl``, and of ``items.jsonl``, that may be bad.

    Raises:
        DataError: neither or both are there, an item is not described, a damaged file, too many
            bad lines, or nothing passes the filters.
    """
    sequences, reviews = find_file(folder, "sequences.tsv"), find_file(folder, "reviews.jsonl")
    if (sequences is None) == (reviews is None):
        state = "neither is there" if sequences is None else "both are there"
        raise DataError(
            f"{folder}: expected sequences.tsv or reviews.jsonl, {state}{what_is_there(folder)}"
        )
    items = find_file(folder, "items.jsonl")
    metadata = [items] if items else []
    if reviews is not None:
        found = read_reviews([reviews], BadLines(max_bad))
    else:
        assert sequences is not None  # noqa: S101  # said above
        found = Reviews(read_sequences(sequences), None, {})

    def refuse(items: Described, item_ids: Sequence[str]) -> None:
        unknown = min((item for item in item_ids if item not in items), default=None)
        if unknown is None or not metadata:
            return
        if reviews is not None:
            raise DataError(f"{reviews}: item {unknown!r} is not in {metadata[0].name}")
        assert sequences is not None  # noqa: S101  # said above
        read_sequences(sequences, frozenset(items))  # raises with the line

    source = reviews or sequences
    assert source is not None  # noqa: S101  # said above
    return _build(
        name, "amazon-prepared", found, metadata, options, [source, *metadata],
        max_bad=max_bad, refuse=refuse,
    )  # fmt: skip


def read_cllm4rec(folder: Path, *, name: str) -> RawData:
    """The public files of CLLM4Rec, with their own split.

    Raises:
        DataError: as ``read_public``.
    """
    data: PublicData = read_public(folder)
    items = item_fields(data.interactions.item_ids, described(data.items))
    return RawData(
        name=name,
        layout="cllm4rec",
        items=items.frame,
        text_fields=tuple(items.texts),
        category_fields=items.categories,
        item_texts=items.texts,
        users=data.interactions.user_ids,
        splits=user_impressions(data.interactions, data.codes),
        split_rule="as published (random, 80:10:10 of every user); one impression a user and "
        "split: in valid and test all items but the history compete",
        sources=data.sources,
        oddities=data.oddities,
        further=reviews_table(data.interactions, data.codes, data.texts),
    )


def _described(
    interactions: Interactions, metadata: Sequence[Path], options: Options, max_bad: float
) -> Metadata:
    """What the files say of the items that somebody clicked or, for a whole catalogue, of all."""
    if not metadata:
        return Metadata()
    clicked = frozenset(interactions.item_ids)
    wanted = None if options.whole_catalogue else clicked
    found = read_metadata(metadata, wanted, BadLines(max_bad))
    found.oddities["items without metadata"] = len(clicked - found.items.keys())
    return found


def _user_names(interactions: Interactions, names: Sequence[str]) -> UserFields | None:
    """The latest name that each user signed with; ``names``: one an interaction, "" = none."""
    latest = [""] * len(interactions.user_ids)
    for user, name in zip(interactions.user.tolist(), names, strict=True):
        if name and name.lower() not in NO_NAMES:
            latest[user] = name
    if not any(latest):
        return None
    return UserFields(pd.DataFrame({USER_NAME: latest}), categories=(USER_NAME,))


def _nothing(items: Described, item_ids: Sequence[str]) -> None:
    """Items that nobody describes are none to refuse."""


def _build(
    name: str,
    layout: str,
    reviews: Reviews,
    metadata: Sequence[Path],
    options: Options,
    sources: list[Path],
    *,
    max_bad: float,
    refuse: Callable[[Described, Sequence[str]], None] = _nothing,
) -> RawData:
    """Read what items are, filter, split, draw; ``refuse``: raises for items not described."""
    interactions, written, oddities = reviews
    del reviews  # nobody else has them, so filters need not keep two copies
    told = _described(interactions, metadata, options, max_bad)
    refuse(told.items, interactions.item_ids)
    counts = {**oddities, **told.oddities}
    further: list[str] = []
    if options.whole_catalogue:
        further = list(told.items.keys() - set(interactions.item_ids))
        if options.titled_only:
            titles = told.items.titled(further)
            further = [item for item, titled in zip(further, titles, strict=True) if titled]
        counts["items that nobody clicked, in the catalogue but never drawn"] = len(further)
    if options.titled_only:
        titled = told.items.titled(interactions.item_ids)[interactions.item]
        counts["interactions with items without a title, dropped"] = int((~titled).sum())
        interactions = interactions.take(titled)
    interactions = interactions.chronological(options.negatives.seed)
    kept, dropped = apply_filters(interactions, options.filters)
    del interactions
    kept = kept.with_items_in(options.item_order, further)
    codes = split_codes(kept, options.split, options.cuts, options.negatives.seed)
    counts |= dropped
    splits, unasked = make_impressions(kept, codes, options.split, options.negatives)
    if options.split != "by-time":
        counts["users of fewer than 3 interactions, train only"] = short_users(kept)
    else:
        counts["held-out interactions without a history, in no impression"] = unasked
    items = item_fields(kept.item_ids, told.items)
    texts = written.columns(kept.place) if written is not None else {}
    names = texts.pop(USER_NAME, ())
    return RawData(
        name=name,
        layout=layout,
        items=items.frame,
        text_fields=tuple(items.texts),
        category_fields=items.categories,
        item_texts=items.texts,
        users=kept.user_ids,
        splits=splits,
        split_rule=f"{options.split}: {RULES[options.split]}; seed {options.negatives.seed}",
        sources=sources,
        oddities=counts,
        settings=asdict(options),
        further=reviews_table(kept, codes, texts),
        user_fields=_user_names(kept, names) if len(names) else None,
        time_ties=None if kept.content is None else count_ties(kept.user, kept.time),
    )
