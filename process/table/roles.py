"""Which column is what: by the names that people give them, or as the user says."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from legos.errors import DataError, nearest
from process.table.sources import Source
from process.table.values import listed

USUAL: Mapping[str, Sequence[str]] = {  # the first that is there counts; case and blanks do not
    "user": (
        "user_id", "user", "uid", "userid", "customer_id", "customer", "customer_no", "client_id",
        "visitor_id", "member_id", "account_id", "reader_id", "reviewer_id", "profile_id",
        "user_name", "kunde", "kunden_id", "kundennummer", "kunden_nr", "kundennr", "nutzer",
        "nutzer_id", "用户", "用户id", "用户编号", "客户", "客户id", "客户编号", "会员id",
        "session_id",
    ),
    "item": (
        "item_id", "item", "iid", "sku", "product_id", "product", "article_id", "article",
        "article_no", "asin", "parent_asin", "news_id", "movie_id", "book_id", "track_id",
        "content_id", "product_no", "artikel", "artikel_id", "artikelnummer", "artikel_nr",
        "artikelnr", "produkt_id", "produkt", "isbn", "ean", "商品", "商品id", "商品编号", "产品id",
        "物品id",
    ),
    "time": (
        "time", "timestamp", "ts", "datetime", "date_time", "event_time", "created_at", "date",
        "unix_time", "unix_timestamp", "unix_review_time", "purchased_at", "viewed_at",
        "order_date", "when", "at", "fecha", "zeit", "zeitpunkt", "zeitstempel", "datum",
        "时间", "时间戳", "日期",
    ),
    "event": (
        "event", "event_type", "event_name", "action", "action_type", "behavior", "behaviour",
        "behavior_type", "interaction", "interaction_type", "type", "ereignis", "aktion", "art",
        "行为", "行为类型", "事件",
    ),
    "rating": ("rating", "stars", "overall", "score", "bewertung", "sterne", "评分"),
    "impression": ("impression_id", "impression", "request_id", "slate_id"),
    "shown": ("shown", "shown_items", "impressions", "slate", "candidates", "displayed"),
    "label": ("label", "labels", "clicked", "click", "clicks", "is_click", "is_clicked"),
    "split": ("split", "subset", "fold"),
}  # fmt: skip
MEANS = {
    "user": "who did it", "item": "what it was done to", "time": "when", "event": "what was done",
    "rating": "stars", "impression": "which list it was shown in", "shown": "all items of the list",
    "label": "whether it was clicked", "split": "train, valid or test",
    "review": "what the user wrote of it", "headline": "the headline of that",
}  # fmt: skip


def plain(name: str) -> str:
    """A name without case, blanks and marks: ``userid`` of ``User ID``."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in folded if letter.isalnum())


def find_column(source: Source, given: str, option: str) -> str:
    """The column that an option names, in any case.

    Raises:
        DataError: there is none.
    """
    if given in source.names:
        return given
    same = [name for name in source.names if plain(name) == plain(given)]
    if len(same) == 1:
        return same[0]
    raise DataError(
        f"{source.label}: {option} {given}: no such column; {nearest(given, source.names)}"
    )


def find_roles(
    source: Source,
    given: Mapping[str, str | None],
    *,
    wanted: Iterable[str],
    further: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, str]:
    """Role -> column, for those that there are.

    Args:
        source: whose columns.
        given: role -> what the user calls it.
        wanted: roles to look for.
        further: usual names of a role in this source alone.

    Raises:
        DataError: the user names a column that is not there.
    """
    found: dict[str, str] = {}
    by_name = {plain(name): name for name in reversed(source.names)}
    for role in wanted:
        name = given.get(role)
        if name is not None:
            found[role] = find_column(source, name, f"--{role}")
            continue
        for usual in (*USUAL[role], *(further or {}).get(role, ())):
            column = by_name.get(plain(usual))
            if column is not None and column not in found.values():
                found[role] = column
                break
    return found


def missing_role(source: Source, role: str, guess: str = "") -> str:
    """The message about a role that no column has."""
    hint = f" did you mean --{role} {guess}?" if guess in source.names else ""
    alone = ""
    if len(source.names) == 1:
        alone = "; there is one column only: are the cells separated by , ; TAB or |?"
    return (
        f"{source.label}: which column is the {role} ({MEANS[role]})?{hint} None is called "
        f"{', '.join(USUAL[role][:4])} or the like; there are: {listed(source.names)}{alone}"
    )
