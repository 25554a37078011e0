"""What the user chooses, and where two choices do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from legos.errors import DataError
from process.interactions.filters import Duplicates
from process.interactions.splits import SplitRule
from process.table.times import Dates

NONE, OWN, RANDOM = "none", "own", "random"
RULES = ("leave-last-out", "by-time", RANDOM, NONE)
FULL_RANDOM: SplitRule = "random-80-10-10"


@dataclass(frozen=True)
class Options:
    """What the user chooses.

    Attributes:
        columns: role -> column; None where it has a usual name.
        kinds: option (text, category, number, list) -> columns.
        leave_out: columns of items and users that become no fields.
        weights: kind of event -> train impressions of each; None: one of every kind.
        rating_above, duplicates, user_core, item_core: as ``process.interactions.filters.Filters``.
        min_rating: keep ratings of this and above; at most one of it and ``rating_above``.
        unknown: what to do with events of items that are in no file; None: drop some, refuse most.
        split: a rule, ``own`` (a column says it) or None: a column where there is one, else
            leave-last-out.
        cuts: quantiles of by-time; None: 0.8 and 0.9.
        negatives: stored with a train impression; None: 4, or as many as there are.
        candidates: negatives of a held-out impression; None: 20 and 99, or as many as there are.
        seed: of all draws.
        longest: items that a stored history keeps; None: 100.
        dates: how a time such as 05/06/2025 is meant; None: such times are refused.
        ordered: a user's lines stand in the order of time.
        clicked_only: leave out items that nobody clicked.
        max_bad: share of lines that may be bad.
        encoding, quotes: of text files.
    """

    columns: Mapping[str, str | None] = field(default_factory=dict)
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    weights: Mapping[str, int] | None = None
    rating_above: float | None = None
    min_rating: float | None = None
    duplicates: Duplicates = "first"
    user_core: int = 1
    item_core: int = 1
    unknown: Literal["drop", "refuse"] | None = None
    split: str | None = None
    cuts: tuple[float, float] | None = None
    negatives: int | None = None
    candidates: tuple[int, ...] | None = None
    seed: int = 1
    longest: int | None = None
    dates: Dates | None = None
    ordered: bool = False
    clicked_only: bool = False
    max_bad: float = 0.01
    encoding: str = "utf-8"
    quotes: bool = True

    def settings(self) -> dict[str, Any]:
        """What decides the tables, besides the files."""
        found = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in vars(self).items()
            if name != "max_bad"
        }
        if self.min_rating is None:  # tables of versions that did not ask for it say nothing of it
            del found["min_rating"]
        return found

    def check_split(self, rule: str) -> None:
        """Refuse what a rule of the split has no use for.

        Raises:
            DataError: names the options.
        """
        if self.cuts is not None and rule != "by-time":
            raise DataError(f"--cuts: read by --split by-time alone, this is {rule}")
        if rule != RANDOM:
            return
        for given, option in (
            (self.negatives is not None, "--negatives"),
            (self.candidates is not None, "--candidates"),
            (self.longest is not None, "--longest-history"),
        ):
            if given:
                raise DataError(
                    f"{option}: --split random draws no negatives and keeps whole histories, since "
                    "all items compete"
                )
        if self.weights is not None and len({*self.weights.values()} - {0}) > 1:
            raise DataError(
                "--event-weight: a weight is a number of train impressions, and --split random "
                "makes one of all of a user's clicks; use --positive, or another --split"
            )
        if self.duplicates == "keep":
            raise DataError(
                "--duplicates keep: --split random parts the items of a user, so that an item "
                "counts once; use first or last, or another --split"
            )

    def check_lists(self) -> None:
        """Refuse what is for events that are no lists of shown items.

        Raises:
            DataError: names the option.
        """
        for given, option in (
            (self.weights is not None, "--event-weight and --positive"),
            (self.rating_above is not None, "--rating-above"),
            (self.min_rating is not None, "--min-rating"),
            (self.duplicates != "first", "--duplicates"),
            (self.user_core > 1 or self.item_core > 1, "--user-core and --item-core"),
            (self.negatives is not None, "--negatives"),
            (self.candidates is not None, "--candidates"),
            (self.ordered, "--ordered"),
            (bool({"review", "headline"} & self.columns.keys()), "--review and --headline"),
        ):
            if given:
                raise DataError(
                    f"{option}: not for events that say what was shown and what was clicked; their "
                    "lists are taken as they are"
                )
