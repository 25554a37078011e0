"""From items, events and users to the data set that the table writer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from legos.errors import DataError, nearest
from process.bad_lines import BadLines
from process.interactions.reviews import reviews_table
from process.interactions.splits import RULES
from process.raw import RawData, UserFields
from process.table.events import read_events
from process.table.fields import given_kinds
from process.table.joining import join_ids
from process.table.left_out import notes_on, some_of
from process.table.missing import refuse_missing
from process.table.options import FULL_RANDOM, NONE, OWN, RANDOM, Options
from process.table.parting import Parted, part_clicks, part_lists
from process.table.reading import Reading
from process.table.roles import plain
from process.table.rows import read_rows
from process.table.select import selected
from process.table.sources import Source
from process.table.values import listed
from process.ties import count_ties

_RULES: Mapping[str, str] = {
    **{rule: RULES[rule] for rule in ("leave-last-out", "by-time")},
    RANDOM: RULES[FULL_RANDOM],
    OWN: "as a column says",
    NONE: "all is train; valid asks again for the last click of some users, which train holds, too",
}


def read_own(
    items: Sequence[Source],
    events: Sequence[Source],
    users: Sequence[Source],
    *,
    name: str,
    options: Options,
) -> tuple[RawData, Reading]:
    """Read own data.

    Args:
        items, events: files or DataFrames; users: the same, perhaps none.
        name: of the data set.
        options: what the user chooses.

    Returns:
        The data set, and what is to be told of how it came about.

    Raises:
        DataError: what is wrong with files or options; names file and line where there is one.
    """
    reading = _read(items, events, users, options)
    options.check_split(reading.rule)
    if reading.has_lists:
        options.check_lists()
    part = part_lists if reading.has_lists else part_clicks
    raw = _raw(reading, name, part(reading, selected(reading)))
    sources = [
        path
        for source in (*items, *events, *users)
        for path in (source.path, *source.further)
        if path is not None
    ]
    return replace(raw, sources=sources), reading


def _read(
    items: Sequence[Source], events: Sequence[Source], users: Sequence[Source], options: Options
) -> Reading:
    """All files."""
    kinds = given_kinds(*(options.kinds.get(k, ()) for k in ("text", "category", "number", "list")))
    files = [*items, *users]
    for option, names in (
        *((f"--{kind}", (name,)) for name, kind in kinds.items()),
        ("--leave-out", options.leave_out),
    ):
        for name in names:
            if not _has(files, name):
                known = [each for source in files for each in source.names]
                where = listed([source.label for source in files])
                raise DataError(f"{where}: {option} {name}: no such column; {nearest(name, known)}")
    given = {
        "item": {"item": _given(options.columns.get("item"), items, events)},
        "user": {"user": _given(options.columns.get("user"), users, events)},
        "events": {
            **options.columns,
            "item": _given(options.columns.get("item"), events, items),
            "user": _given(options.columns.get("user"), events, users),
        },
    }
    described = {"item": items, "user": users}
    refuse_missing(described, events, given, ordered=options.ordered)
    bad = {what: BadLines(options.max_bad) for what in ("items", "users", "events")}
    catalogue = read_rows(
        items, "item", given=given["item"]["item"], kinds=kinds,
        leave_out=[name for name in options.leave_out if _has(items, name)], bad=bad["items"],
    )  # fmt: skip
    bad["items"].check()
    profiles = None
    if users:
        profiles = read_rows(
            users, "user", given=given["user"]["user"], kinds=kinds,
            leave_out=[name for name in options.leave_out if _has(users, name)], bad=bad["users"],
        )  # fmt: skip
        bad["users"].check()
    own = options.split in (None, OWN)
    found = read_events(
        events, given["events"], bad["events"],
        own_split=own, ordered=options.ordered, dates=options.dates,
    )  # fmt: skip
    bad["events"].check()
    rule = options.split or ("leave-last-out" if found.split is None else OWN)
    reading = Reading(catalogue, found, profiles, options, rule)
    reading.oddities |= catalogue.oddities | (profiles.oddities if profiles else {})
    for what, lines in bad.items():
        reading.oddities |= {f"{kind} ({what})": n for kind, n in lines.oddities().items()}
    return reading


def _has(sources: Sequence[Source], name: str) -> bool:
    return any(plain(name) == plain(each) for source in sources for each in source.names)


def _given(name: str | None, sources: Sequence[Source], others: Sequence[Source]) -> str | None:
    """A column that the user names; files beside those that have it may call it as usual."""
    if name is None or _has(sources, name) or not _has(others, name):
        return name
    return None


def _raw(reading: Reading, name: str, parted: Parted) -> RawData:
    items, rule, kept = reading.items, reading.rule, parted.interactions
    row_of = {item: row for row, item in enumerate(items.ids)}
    order = [row_of[item] for item in kept.item_ids]
    frame = items.values.iloc[order].reset_index(drop=True)
    frame.insert(0, "item_id", np.array(kept.item_ids, dtype=object))
    reading.notes += notes_on(reading, kept.user_ids, kept.item_ids, frame)
    _check_splits(reading, parted)
    is_shown = reading.has_lists
    said = not is_shown and (reading.events.rating is not None or bool(reading.events.texts))
    texts = {name: found[kept.place].tolist() for name, found in reading.events.texts.items()}
    settings = {**reading.options.settings(), "asked_again": reading.asked_again}
    return RawData(
        name=name,
        layout="own-lists" if is_shown else "own",
        items=frame,
        text_fields=items.named("text", "list"),
        category_fields=items.named("category"),
        number_fields=items.named("number"),
        users=kept.user_ids,
        user_fields=_user_fields(reading, kept.user_ids),
        source_columns={"user_id": reading.column("user"), **items.source_columns},
        splits=parted.splits,
        unasked=parted.unasked,
        split_rule=f"{rule}: {_RULES[rule]}; seed {reading.options.seed}",
        sources=[],
        oddities=reading.oddities,
        settings=settings,
        further=reviews_table(kept, parted.codes, texts) if said else {},
        time_ties=None
        if is_shown or kept.content is None or (kept.time < 0).all()
        else count_ties(kept.user, kept.time),
    )


def _check_splits(reading: Reading, parted: Parted) -> None:
    rule, kept = reading.rule, parted.interactions
    needed = {"leave-last-out": 3, "by-time": 2, RANDOM: 3, OWN: 2, NONE: 2}[rule]
    for name in ("train", "valid"):
        if name not in parted.splits:
            most = int(np.bincount(kept.user, minlength=1).max(initial=0))
            what = "lists with a click" if reading.has_lists else "events"
            here = "" if reading.has_lists else f", the most that a user has here is {most}"
            raise DataError(
                f"--split {rule}: {name} has no impressions, since an impression needs a "
                f"click and what its user did before; a user needs {needed} {what} or more "
                f"(leave-last-out: 4 for one in train){here}"
            )


def _user_fields(reading: Reading, user_ids: list[str]) -> UserFields | None:
    profiles = reading.users
    if profiles is None:
        return None
    where = profiles.first[0].rsplit(":", 1)[0]
    joined = join_ids(user_ids, profiles.ids, reading.label, where)
    if joined.note:
        reading.notes.append(f"users: {joined.note}")
    if (joined.rows < 0).all():
        raise DataError(
            f"{where}: none of its users ({profiles.ids[0]!r}, ...) is in the events "
            f"({user_ids[0]!r}, ...); --user COLUMN names the column of ids"
        )
    missing = int((joined.rows < 0).sum())
    idle = len(profiles.ids) - len(user_ids) + missing
    if missing:
        reading.oddities["users without fields"] = missing
    if idle:
        reading.oddities["described users without events, left out"] = idle
        rows = np.setdiff1d(np.arange(len(profiles.ids)), joined.rows)
        names = some_of([profiles.ids[row] for row in rows])
        reading.notes.append(f"users of {where} without events, left out: {idle:,} ({names})")
    values = profiles.values.iloc[joined.rows].reset_index(drop=True)
    for field in profiles.fields:
        if field.kind != "left out":
            nothing = np.nan if field.kind == "number" else ""
            values.loc[joined.rows < 0, field.name] = nothing
    for name in profiles.named("number"):
        values[name] = values[name].astype(np.float32)
    return UserFields(
        values,
        profiles.named("text", "list"),
        profiles.named("category"),
        profiles.named("number"),
    )
