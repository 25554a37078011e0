"""RecBole's atomic files (https://recbole.io/docs/user_guide/data/atomic_files.html).

``NAME.inter``, ``NAME.item`` and ``NAME.user`` (optional), separated by TAB; the first line has
``name:type`` of every column: ``token`` (one value), ``token_seq`` (several, blanks between them),
``float``, ``float_seq``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from legos.errors import DataError
from process.opening import opened
from process.published.choices import Choices
from process.published.layout import Layout
from process.published.lines import SeparatedLines
from process.tsv import what_is_there

KINDS: Mapping[str, str] = {
    "token": "category", "token_seq": "text", "float": "number", "float_seq": "leave_out",
}  # fmt: skip


def find(folder: Path, choices: Choices) -> Layout | None:
    """The layout of a folder; None: it has no file of interactions.

    Raises:
        DataError: there are several, the items are missing, or a header is none of RecBole's.
    """
    found = sorted(folder.glob("*.inter"))
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder}: {names}: expected one data set, with one .inter")
    events, of_events = _opened(found[0])
    items, users = found[0].with_suffix(".item"), found[0].with_suffix(".user")
    if not items.is_file():
        raise DataError(f"{items}: no such file{what_is_there(folder)}")
    opened_items, of_items = _opened(items)
    item_key = _key(of_items, "item", items)
    kinds, sources = _kinds(of_items, item_key), list[SeparatedLines]()
    user_key = _key(of_events, "user", found[0])
    if users.is_file():
        profile, of_users = _opened(users)
        sources.append(profile)
        user_key = _key(of_users, "user", users)
        for option, fields in _kinds(of_users, user_key).items():
            kinds[option] = [*kinds.get(option, []), *fields]
    asked = {"item": item_key, "user": user_key, **kinds}
    return Layout("recbole", [opened_items], [events], sources, asked)


def _opened(path: Path) -> tuple[SeparatedLines, dict[str, str]]:
    """The rows of a file, and the type of every column."""
    with opened(path) as (stream, _):
        header = stream.readline().decode("utf-8", "replace").strip("\ufeff\r\n").split("\t")
    types = {}
    for column in header:
        name, _, kind = column.partition(":")
        if kind not in KINDS or not name or name in types:
            raise DataError(
                f"{path}:1: column {column!r}, expected name:type with a type of "
                f"{', '.join(KINDS)}, each name once"
            )
        types[name] = kind
    return SeparatedLines(path, list(types), separator="\t", header=True), types


def _key(types: Mapping[str, str], what: str, path: Path) -> str:
    """The column of ids: ``item_id``, or the first of one value."""
    usual = f"{what}_id"
    if usual in types:
        return usual
    for name, kind in types.items():
        if kind == "token":
            return name
    raise DataError(f"{path}:1: no column of one value (token), so none has the ids")


def _kinds(types: Mapping[str, str], key: str) -> dict[str, list[str]]:
    """Options of ``legos table`` -> columns."""
    found: dict[str, list[str]] = {}
    for name, kind in types.items():
        if name != key:
            found.setdefault(KINDS[kind], []).append(name)
    return found
