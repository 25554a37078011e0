"""Columns that are needed and not found: those of all files in one error, each with a guess."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from legos.errors import DataError
from process.bad_lines import BadLines
from process.table.events import ROLES, date_columns, several_times
from process.table.roles import USUAL, find_roles, missing_role, plain
from process.table.rows import FURTHER
from process.table.sources import Source
from process.table.values import each, id_of


class MissingColumns(DataError):
    """Columns that no usual name and no option says.

    Attributes:
        options: role -> the column that is probably meant, ``COLUMN`` where nothing tells.
    """

    def __init__(self, message: str, options: dict[str, str]) -> None:
        super().__init__(message)
        self.options = options


def refuse_missing(
    described: Mapping[str, Sequence[Source]],
    events: Sequence[Source],
    given: Mapping[str, Mapping[str, str | None]],
    *,
    ordered: bool,
) -> None:
    """Refuse files without a column of items or users, all at once.

    Args:
        described: the files of items and of users, by role.
        events: files of events.
        given: role -> the column that the user names, for files of ``item``, ``user``, ``events``.
        ordered: events need no column of times.

    Raises:
        MissingColumns: names every file and role.
    """
    lacking: list[tuple[Source, str, list[str]]] = []  # a file, a role, columns without a role
    for role, sources in described.items():
        for source in sources:
            found = find_roles(source, given[role], wanted=[role], further=FURTHER[role])
            if role not in found:
                lacking.append((source, role, source.names))
    for source in events:
        found = find_roles(source, given["events"], wanted=ROLES)
        free = [name for name in source.names if name not in found.values()]
        lacking += [
            (source, role, free)
            for role in ("user", "item")
            if role not in found and not (role == "item" and "shown" in found)
        ]
    if not lacking:
        return
    options: dict[str, str] = {}
    for _, role, free in lacking:
        shared = _shared(described.get(role, ()), events, taken={*given["events"].values()})
        near = _nearest(role, [name for name in free if name not in options.values()])
        options.setdefault(role, shared or near or "COLUMN")
    lines = [missing_role(source, role, options[role]) for source, role, _ in lacking]
    names_users = [s.label for s in described["item"] if find_roles(s, {}, wanted=["user"])]
    if names_users and "user" in options:
        lines.append(f"{names_users[0]} names users: are the files of items and events swapped?")
    if not ordered:
        lines += _times(events, given["events"], options)
    raise MissingColumns("\n".join(lines), options)


def _shared(
    described: Sequence[Source], events: Sequence[Source], taken: Collection[str | None]
) -> str:
    """The column that files of items (or users) and of events both have, unique in the former."""
    for source in described:
        others = {plain(name) for other in events for name in other.names}
        for name in source.names:
            if name not in taken and plain(name) in others and _is_unique(source, name):
                return name
    return ""


def _is_unique(source: Source, name: str) -> bool:
    block = next(iter(source.blocks([name], BadLines(1.0))), None)
    ids = each(block.columns[name], id_of) if block is not None else np.array([""])
    return bool((ids != "").all()) and len(set(ids.tolist())) == len(ids)


def _nearest(role: str, free: Sequence[str]) -> str:
    names = {plain(name): name for name in free}
    close = [
        match
        for usual in USUAL[role]
        for match in get_close_matches(plain(usual), names, n=1, cutoff=0.75)
    ]
    return names[close[0]] if close else ""


def _times(
    events: Sequence[Source], given: Mapping[str, str | None], options: dict[str, str]
) -> Iterator[str]:
    """Lines about files of which several columns may be the time."""
    for source in events:
        found = find_roles(source, given, wanted=ROLES)
        free = [n for n in source.names if n not in {*found.values(), *options.values()}]
        dated = [] if "time" in found else date_columns(source, free)
        if len(dated) > 1:
            options["time"] = "COLUMN"
            yield several_times(source, dated)
