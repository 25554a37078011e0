"""From items, events and users to the data set that the table writer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from legos.errors import DataError, nearest
from process.bad_lines import BadLines
from process.interactions.filters import Filters, apply_filters
from process.interactions.impressions import Negatives, next_item_impressions, user_impressions
from process.interactions.reviews import reviews_table
from process.interactions.rows import Interactions
from process.interactions.splits import (
    RULES,
    TRAIN,
    VALID,
    by_time,
    leave_last_out,
    random_80_10_10,
    short_users,
)
from process.raw import Impressions, RawData, UserFields
from process.table.events import Events, read_events
from process.table.fields import given_kinds, unknown_columns
from process.table.joining import join_ids
from process.table.options import FULL_RANDOM, NONE, OWN, RANDOM, Options
from process.table.roles import plain
from process.table.rows import Rows, read_rows
from process.table.shown import last_of_some, shown_lists
from process.table.sources import Source
from process.table.times import TICKS
from process.ties import by_id, count_ties, ranks

CHECKED = 1000  # users whose last click is asked again where all is train
CANDIDATES, NEGATIVES = (20, 99), 4
_TOLD = 5  # unknown items named
_RULES: Mapping[str, str] = {
    **{rule: RULES[rule] for rule in ("leave-last-out", "by-time")},
    RANDOM: RULES[FULL_RANDOM],
    OWN: "as a column says",
    NONE: "all is train; valid asks again for the last click of some users, which train holds, too",
}


@dataclass
class Told:
    """What is to be said about how the files were read.

    Attributes:
        items, users: their rows; users None where there is no file of them.
        events: as read.
        kinds: kind of event -> how many, and what each weighs.
        rule: of the split.
        notes: sentences.
    """

    items: Rows
    events: Events
    users: Rows | None
    kinds: dict[str, tuple[int, int]]
    rule: str
    notes: list[str]


def read_own(
    items: Sequence[Source],
    events: Sequence[Source],
    users: Sequence[Source],
    *,
    name: str,
    options: Options,
) -> tuple[RawData, Told]:
    """Read own data.

    Args:
        items, events: files or DataFrames; users: the same, perhaps none.
        name: of the data set.
        options: what the user chooses.

    Raises:
        DataError: what is wrong with files or options; names file and line where there is one.
    """
    kinds = given_kinds(*(options.kinds.get(k, ()) for k in ("text", "category", "number", "list")))
    _check_columns(kinds, [*items, *users])
    bad = {what: BadLines(options.max_bad) for what in ("items", "users", "events")}
    given = options.columns
    catalogue = read_rows(
        items, "item", given=_if_there(given.get("item"), items), kinds=kinds,
        leave_out=_of(options.leave_out, items), bad=bad["items"],
    )  # fmt: skip
    bad["items"].check()
    profiles = None
    if users:
        profiles = read_rows(
            users, "user", given=_if_there(given.get("user"), users), kinds=kinds,
            leave_out=_of(options.leave_out, users), bad=bad["users"],
        )  # fmt: skip
        bad["users"].check()
    read = read_events(events, given, bad["events"], own_split=options.split in (None, OWN))
    bad["events"].check()
    oddities = {**catalogue.oddities, **(profiles.oddities if profiles else {})}
    for what, lines in bad.items():
        oddities |= {f"{kind} ({what})": count for kind, count in lines.oddities().items()}
    told = Told(catalogue, read, profiles, {}, _rule(options, read), [])
    raw = _Builder(options, told, oddities).build(name)
    sources = [source.path for source in (*items, *events, *users) if source.path is not None]
    return replace(raw, sources=sources), told


def _rule(options: Options, events: Events) -> str:
    if options.split is None:
        return "leave-last-out" if events.split is None else OWN
    return options.split


def _check_columns(kinds: Mapping[str, object], sources: Sequence[Source]) -> None:
    known = {plain(name): name for source in sources for name in source.names}
    lost = [name for name in kinds if plain(name) not in known]
    if lost:
        raise DataError(
            f"--{kinds[lost[0]]} {unknown_columns(lost, list(known.values()))}; "
            f"{nearest(lost[0], known.values()).split('choose')[0].strip()}".rstrip("; ")
        )


def _if_there(name: str | None, sources: Sequence[Source]) -> str | None:
    """A column that the user names for the events; items and users may call it otherwise."""
    known = {plain(each) for source in sources for each in source.names}
    return name if name is not None and plain(name) in known else None


def _of(names: Sequence[str], sources: Sequence[Source]) -> list[str]:
    known = {plain(each) for source in sources for each in source.names}
    return [name for name in names if plain(name) in known]


class _Builder:
    """The way from events to a data set.

    Args:
        options: what the user chooses.
        told: what was read; notes are added.
        oddities: counts; grows.
    """

    def __init__(self, options: Options, told: Told, oddities: dict[str, int]) -> None:
        self.options, self.told, self.oddities = options, told, oddities
        self.items, self.events = told.items, told.events

    def build(self, name: str) -> RawData:
        """Weigh, join, filter, split, draw."""
        self.options.check_split(self.told.rule)
        is_shown = self.events.list is not None
        if is_shown:
            self.options.check_lists()
        weight = self._weights()
        if not is_shown and self.events.clicked is not None:
            weight = self._clicked_only(weight)
        rows = self._known_items()
        interactions, owner, clicked = self._interactions(rows, weight)
        if is_shown:
            assert owner is not None and clicked is not None  # noqa: S101, PT018  # read together
            kept, codes, splits = self._of_lists(interactions, owner, clicked)
        else:
            kept, codes, splits = self._of_clicks(interactions)
        return self._raw(name, kept, codes, splits)

    def _weights(self) -> np.ndarray | None:
        """Weigh the events by their kinds; those that count nothing are left out."""
        options, events = self.options, self.events
        if options.weights is None:
            if events.kind is not None:
                counts = np.bincount(events.kind, minlength=len(events.kinds.codes)).tolist()
                found = zip(events.kinds.codes, counts, strict=True)
                self.told.kinds = {kind: (count, 1) for kind, count in found}
            return None
        if events.kind is None:
            raise DataError(
                "--event-weight and --positive: no column says what was done; name it by --event "
                "COLUMN"
            )
        known = list(events.kinds.codes)
        for kind in options.weights:
            if kind not in known:
                raise DataError(f"no event is a {kind!r}; {nearest(kind, known)}")
        by_kind = np.array([options.weights.get(kind, 0) for kind in known], dtype=np.int16)
        counts = np.bincount(events.kind, minlength=len(known)).tolist()
        self.told.kinds = {
            kind: (count, int(weight))
            for kind, count, weight in zip(known, counts, by_kind, strict=True)
        }
        weight = by_kind[events.kind]
        self.oddities["events of kinds that count nothing, left out"] = int((weight == 0).sum())
        self.events = events.take(weight > 0)
        weight = weight[weight > 0]
        return weight if len(np.unique(weight)) > 1 or weight.max(initial=1) > 1 else None

    def _clicked_only(self, weight: np.ndarray | None) -> np.ndarray | None:
        """Without lists an item that was not clicked says nothing of what it was shown with."""
        clicked = self.events.clicked
        assert clicked is not None  # noqa: S101  # said by the caller
        self.oddities["events labelled 0 that no impression groups, left out"] = int(
            (~clicked).sum()
        )
        self.events = self.events.take(clicked)
        return None if weight is None else weight[clicked]

    def _known_items(self) -> np.ndarray:
        """``(codes,)`` int64 row of every item of the events, -1 = unknown.

        Raises:
            DataError: the items are none of the catalogue's.
        """
        events, label = self.events, self._label()
        catalogue = self.items.first[0].rsplit(":", 1)[0]
        names = list(events.items.codes)
        joined = join_ids(names, self.items.ids, label, catalogue)
        if joined.note:
            self.told.notes.append(joined.note)
        counts = np.bincount(events.item, minlength=len(names))
        unknown = np.flatnonzero((joined.rows < 0) & (counts > 0))
        lost, total = int(counts[unknown].sum()), len(events)
        if not total:
            raise DataError(f"{label}: no event is left")
        if not lost:
            return joined.rows
        first = ", ".join(f"{names[c]!r} ({events.items.first[c]})" for c in unknown[:_TOLD])
        more = f" and {len(unknown) - _TOLD:,} more" if len(unknown) > _TOLD else ""
        told = (
            f"{lost:,} of {total:,} events are of {len(unknown):,} items that {catalogue} does not "
            f"have: {first}{more}"
        )
        example = self.items.ids[0]
        if lost == total:
            raise DataError(
                f"{told}; its ids look like {example!r}: are {self._column('item')!r} of the "
                f"events and {self.items.column!r} of the items the same ids? --item COLUMN names "
                "the column"
            )
        if self.options.unknown == "refuse":
            raise DataError(f"{told} (--unknown refuse)")
        if self.options.unknown is None and lost > total / 2:
            raise DataError(
                f"{told}, which is most; its ids look like {example!r}. If that is so, --unknown "
                "drop leaves these events out"
            )
        self.told.notes.append(f"{told}; left out")
        self.oddities["events of unknown items, left out"] = lost
        self.oddities["unknown items"] = len(unknown)
        return joined.rows

    def _label(self) -> str:
        return next(iter(self.events.roles))

    def _column(self, role: str) -> str:
        return next(iter(self.events.roles.values())).get(role, role)

    def _interactions(
        self, rows: np.ndarray, weight: np.ndarray | None
    ) -> tuple[Interactions, np.ndarray | None, np.ndarray | None]:
        """Events of known items as interactions; for lists their owners and clicks."""
        events = self.events
        item = rows[events.item]
        known = item >= 0
        if not known.all():
            events, item = events.take(known), item[known]
            weight = None if weight is None else weight[known]
        user_ids = list(events.users.codes)
        order = by_id(user_ids)
        if (events.time < 0).any() and (events.time >= 0).any():
            undated = int((events.time < 0).sum())
            self.oddities["events without a time, put before all others of their user"] = undated
        content = None if self.options.ordered else events.content
        interactions = Interactions(
            user_ids=[user_ids[row] for row in order],
            item_ids=self.items.ids,
            user=ranks(order)[events.user],
            item=item.astype(np.int32),
            rating=np.full(len(events), np.nan, dtype=np.float32)
            if events.rating is None
            else events.rating,
            time=events.time,
            place=np.arange(len(events)),
            content=content,
            weight=weight,
            ticks=TICKS,
        )
        self.events = events
        return interactions, events.list, events.clicked

    def _of_clicks(
        self, interactions: Interactions
    ) -> tuple[Interactions, np.ndarray, dict[str, Impressions]]:
        options, rule = self.options, self.told.rule
        filters = Filters(
            options.rating_above, options.duplicates, options.user_core, options.item_core
        )
        if options.rating_above is not None and np.isnan(interactions.rating).all():
            raise DataError("--rating-above: no column has ratings; name it by --rating COLUMN")
        ordered = interactions.chronological(options.seed)
        kept, dropped = apply_filters(ordered, filters)
        self.oddities |= dropped
        kept = kept.with_items_in("hash", self._unclicked(kept))
        if rule == RANDOM:
            codes = random_80_10_10(kept, options.seed)
            splits = user_impressions(kept, codes)
            self._count_short(kept)
            return kept, codes, _filled(splits)
        again = None
        if rule == "leave-last-out":
            codes = leave_last_out(kept)
            self._count_short(kept)
        elif rule == "by-time":
            codes = by_time(kept, options.cuts)
        elif rule == OWN:
            kept, codes, again = self._own_split(kept)
        else:
            codes = np.full(len(kept), TRAIN, dtype=np.int8)
            again = last_of_some(kept, CHECKED, options.seed)
        negatives = self._negatives(kept)
        splits, unasked = next_item_impressions(
            kept, codes, negatives, longest=options.longest, again=again
        )
        if unasked:
            self.oddities["held-out events without a history, in no impression"] = unasked
        return kept, codes, _filled(splits)

    def _unclicked(self, kept: Interactions) -> list[str]:
        """Items that stay in the catalogue though nobody clicked them."""
        if self.options.clicked_only:
            return []
        clicked = set(kept.item_ids)
        found = [item for item in self.items.ids if item not in clicked]
        if found:
            self.oddities["items that nobody clicked, in the catalogue but never drawn"] = len(
                found
            )
        return found

    def _count_short(self, kept: Interactions) -> None:
        short = short_users(kept)
        if short:
            self.oddities["users of fewer than 3 events, train only"] = short

    def _own_split(self, kept: Interactions) -> tuple[Interactions, np.ndarray, np.ndarray | None]:
        """The split that a column says; where it is not one of time, train comes first."""
        assert self.events.split is not None  # noqa: S101  # that is what the rule says
        codes = self.events.split[kept.place]
        order = self._train_first(kept.user, codes)
        if order is not None:
            kept, codes = kept.take(order), codes[order]
        return kept, codes, self._without_valid(kept, codes)

    def _train_first(self, user: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
        """An order in which no history of train has what is held out; None: it is so already."""
        same = user[1:] == user[:-1]
        if not (same & (codes[1:] < codes[:-1])).any():
            return None
        self.told.notes.append(
            "the split is not one of time: a user's events of train are put before those of valid, "
            "and these before those of test, so that no history tells what is held out"
        )
        return np.lexsort((np.arange(len(user)), codes, user))

    def _without_valid(self, kept: Interactions, codes: np.ndarray) -> np.ndarray | None:
        if not (codes == TRAIN).any():
            raise DataError(f"column {self._column('split')!r}: no event is of train")
        if (codes == VALID).any():
            return None
        train = kept.take(codes == TRAIN)
        again = np.full(len(kept), -1, dtype=np.int8)
        again[codes == TRAIN] = last_of_some(train, CHECKED, self.options.seed)
        self.told.notes.append(
            f"column {self._column('split')!r} has no valid: the last click in train of at most "
            f"{CHECKED:,} users is asked again, so that valid shows how well train is learnt"
        )
        return again

    def _negatives(self, kept: Interactions) -> Negatives:
        """As many as the user says; else as many as there are for every user."""
        options = self.options
        most = int(np.bincount(_distinct_users(kept), minlength=1).max(initial=0))
        left = len(np.unique(kept.item)) - most
        train, candidates = options.negatives, options.candidates
        if candidates is None:
            candidates = tuple(dict.fromkeys(min(each, left) for each in CANDIDATES[:1]))
            if left >= CANDIDATES[1]:
                candidates += CANDIDATES[1:]
            elif left < 1:
                raise DataError(
                    f"a user has all {len(np.unique(kept.item))} items that were clicked, so that "
                    "none is left to compare with; --split none, or more items"
                )
            else:
                self.told.notes.append(
                    f"a user has all but {left} of the clicked items, so that valid and test have "
                    f"{candidates[0]} negatives and there is no test_{CANDIDATES[1]}"
                )
        if train is None:
            train = min(NEGATIVES, left)
        return Negatives(train, candidates, options.seed)

    def _of_lists(
        self, shown: Interactions, owner: np.ndarray, clicked: np.ndarray
    ) -> tuple[Interactions, np.ndarray, dict[str, Impressions]]:
        options, rule = self.options, self.told.rule
        names = list(self.events.lists.codes) or None
        shown = shown.without_unused()
        shown = shown.with_items_in("hash", self._unclicked(shown))
        lists = shown_lists(shown, owner, clicked, names)
        codes, again = self._list_codes(lists.interactions, owner)
        order = None
        if rule in (RANDOM, OWN):
            order = self._train_first(lists.interactions.user, codes)
        if order is not None:
            lists, codes = lists.take(order), codes[order]
        if rule == OWN:
            again = self._without_valid(lists.interactions, codes)
        splits = lists.impressions(codes, longest=options.longest, again=again)
        return shown, codes, _filled(splits)

    def _list_codes(
        self, rows: Interactions, owner: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The split of each list, and one that has it, too."""
        rule, seed = self.told.rule, self.options.seed
        if rule == "leave-last-out":
            return leave_last_out(rows), None
        if rule == "by-time":
            return by_time(rows, self.options.cuts), None
        if rule == RANDOM:
            return random_80_10_10(rows, seed), None
        if rule == NONE:
            return np.full(len(rows), TRAIN, dtype=np.int8), last_of_some(rows, CHECKED, seed)
        assert self.events.split is not None  # noqa: S101  # that is what the rule says
        of_list = np.zeros(int(owner.max()) + 1, dtype=np.int8)
        of_list[owner] = self.events.split
        return of_list[rows.place], None

    def _raw(
        self,
        name: str,
        kept: Interactions,
        codes: np.ndarray,
        splits: dict[str, Impressions],
    ) -> RawData:
        items, rule = self.items, self.told.rule
        row_of = {item: row for row, item in enumerate(items.ids)}
        order = [row_of[item] for item in kept.item_ids]
        frame = items.values.iloc[order].reset_index(drop=True)
        frame.insert(0, "item_id", np.array(kept.item_ids, dtype=object))
        self._check_splits(splits, kept)
        is_shown = self.events.list is not None
        rated = not is_shown and self.events.rating is not None
        return RawData(
            name=name,
            layout="own-lists" if is_shown else "own",
            items=frame,
            text_fields=items.named("text", "list"),
            category_fields=items.named("category"),
            number_fields=items.named("number"),
            users=kept.user_ids,
            user_fields=self._user_fields(kept.user_ids),
            splits=splits,
            split_rule=f"{rule}: {_RULES[rule]}; seed {self.options.seed}",
            sources=[],
            oddities=self.oddities,
            settings=self.options.settings(),
            further=reviews_table(kept, codes, {}) if rated else {},
            time_ties=None
            if is_shown or kept.content is None or (kept.time < 0).all()
            else count_ties(kept.user, kept.time),
        )

    def _check_splits(self, splits: Mapping[str, Impressions], kept: Interactions) -> None:
        rule = self.told.rule
        needed = {"leave-last-out": 3, "by-time": 2, RANDOM: 3, OWN: 2, NONE: 2}[rule]
        for name in ("train", "valid"):
            if name not in splits:
                most = int(np.bincount(kept.user, minlength=1).max(initial=0))
                raise DataError(
                    f"--split {rule}: {name} has no impressions, since an impression needs a "
                    f"click and what its user did before; a user needs {needed} events or more "
                    f"(leave-last-out: 4 for one in train), the most that a user has here is {most}"
                )

    def _user_fields(self, user_ids: list[str]) -> UserFields | None:
        profiles = self.told.users
        if profiles is None:
            return None
        where = profiles.first[0].rsplit(":", 1)[0]
        joined = join_ids(user_ids, profiles.ids, self._label(), where)
        if joined.note:
            self.told.notes.append(f"users: {joined.note}")
        if (joined.rows < 0).all():
            raise DataError(
                f"{where}: none of its users ({profiles.ids[0]!r}, ...) is in the events "
                f"({user_ids[0]!r}, ...); --user COLUMN names the column of ids"
            )
        missing, idle = int((joined.rows < 0).sum()), len(profiles.ids) - len(set(joined.rows))
        if missing:
            self.oddities["users without fields"] = missing
        if idle > 0:
            self.oddities["described users without events, left out"] = idle
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


def _filled(splits: Mapping[str, Impressions]) -> dict[str, Impressions]:
    return {name: rows for name, rows in splits.items() if len(rows)}


def _distinct_users(kept: Interactions) -> np.ndarray:
    """The user of every different pair of a user and an item."""
    pairs = np.unique(kept.user.astype(np.int64) * max(1, len(kept.item_ids)) + kept.item)
    users: np.ndarray = pairs // max(1, len(kept.item_ids))
    return users
