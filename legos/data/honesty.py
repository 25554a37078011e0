"""The data-honesty report of tables: what ``process`` measured when it wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from legos.errors import DataError

RULES = {
    "next_id": "next larger raw item id after the last item of the history",
    "next_line": "next row of the item table after the last item of the history",
    "popularity_train": "clicks in train",
    "popularity_test": "clicks in the other half of the same split",
    "most_recent": "latest click in train",
    "newest": "latest first appearance in train",
    "unseen": "items without a click in train first",
    "never_negative": "items never shown to the user in train without a click first",
}
"""By name what a rule that reads no content ranks by."""

Percent = float


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleResult(_Frozen):
    """How well a rule without content ranks one split; None = does not apply.

    Attributes:
        gauc: mean over impressions of the AUC among the candidates shown, ties at one half.
        error: its standard error.
        all_items: mean over clicks of the AUC among all items but the history.
        hits_at_10: share of clicks among the first ten of all items but the history.
    """

    gauc: float | None = None
    error: float | None = None
    all_items: float | None = None
    hits_at_10: float | None = None


class SplitHonesty(_Frozen):
    """One split but train.

    Attributes:
        impressions: in the split.
        measured: of them; more than a bound are sampled by a seed.
        known_clicks: clicks on an item of the impression's history, in percent.
        repeated_candidates: impressions that list an item twice, in percent.
        chance_at_10: ``hits_at_10`` of a random order; None where not all items are ranked.
        rules: results by name, see ``RULES``.
    """

    impressions: int
    measured: int
    known_clicks: Percent
    repeated_candidates: Percent
    chance_at_10: float | None = None
    rules: dict[str, RuleResult] = Field(default_factory=dict)


class TimeHonesty(_Frozen):
    """The times of interactions (table ``reviews``) or, without that table, of impressions.

    Attributes:
        source: ``interactions`` or ``impressions``.
        known, unknown: how many have a time, and how many have none.
        tied: those that share their time with another one of their user, in percent.
        tied_of: what ``tied`` is a share of: ``interactions`` or ``impressions``.
        tied_by_hash: a seeded hash orders what is tied; False: the source's order, or no one knows.
        dates: times at midnight UTC, in percent: dates without an hour.
        before_1995, in_future: implausible ones.
        earliest, latest: ISO dates; None without times.
    """

    source: str
    known: int
    unknown: int
    tied: Percent
    tied_of: str
    tied_by_hash: bool = False
    dates: Percent
    before_1995: int
    in_future: int
    earliest: str | None
    latest: str | None


class TextHonesty(_Frozen):
    """One text field.

    Attributes:
        texts: in all.
        empty: in percent.
        markup: texts with an HTML tag or entity, in percent.
        unknown: by tokenizer the share of unknown tokens, in percent; tokenizers without such a
            token are left out.
    """

    texts: int
    empty: Percent
    markup: Percent
    unknown: dict[str, Percent] = Field(default_factory=dict)


class HonestyWarning(_Frozen):
    """A number above its bound: what it is of, and a sentence with it."""

    kind: str
    text: str


class Honesty(_Frozen):
    """The data-honesty report.

    Attributes:
        seed: of samples and of the halves of ``popularity_test``.
        items: in the item table.
        items_without_text: with no text in any field.
        items_of_same_text: whose texts all equal those of an earlier item.
        small_splits: impressions of splits too small to measure anything on.
        times: None where nothing has a time.
        texts: by field; of other tables than the items' as ``table.field``.
        splits: by name, without train.
        warnings: what is above its bound, worst kinds first.
    """

    seed: int
    items: int
    items_without_text: int
    items_of_same_text: int
    small_splits: dict[str, int] = Field(default_factory=dict)
    times: TimeHonesty | None = None
    texts: dict[str, TextHonesty] = Field(default_factory=dict)
    splits: dict[str, SplitHonesty] = Field(default_factory=dict)
    warnings: tuple[HonestyWarning, ...] = ()


def read_honesty(manifest: Mapping[str, Any]) -> Honesty | None:
    """The report of a manifest; None of tables that were made without one.

    Raises:
        DataError: not such a report.
    """
    found = manifest.get("honesty")
    if found is None:
        return None
    try:
        return Honesty.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"manifest.json: honesty.{place}: {first['msg']}; make the tables again"
        ) from None
