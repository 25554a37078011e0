"""The app on disk: events, entities and profiles of known and of cold users."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from legos.errors import DataError
from legos.files import atomic_folder, output_lock, write_text
from process.payments.titles import KINDS, TOPICS
from process.payments.world import (
    CITIES,
    LEVELS,
    OCCUPATIONS,
    Entities,
    Events,
    PaymentsConfig,
    People,
    make_entities,
    make_people,
    make_tastes,
    simulate,
)

if TYPE_CHECKING:
    from process.raw import RawData

GROUPS = ("known", "cold")
CATEGORIES, NUMBERS = ("occupation", "city", "level"), ("age",)
_FEWEST, _MOST = 5, 40  # events of a known user
_SEARCHES = 56  # titles of a topic's searches, of which there are fewest
_CUTOFFS = (1, 5, 10)


class Reachable(NamedTuple):
    """HR@k of the last event among itself and 99 others.

    Attributes:
        users: known or cold.
        knowledge: what the ranking goes by.
        rates: by k.
    """

    users: str
    knowledge: str
    rates: dict[int, float]


def write_payments(config: PaymentsConfig, folder: Path) -> list[Reachable]:
    """Invent an app and write ``known/`` and ``cold/``, each as ``process.amazon prepared`` reads.

    Both have the same ``items.jsonl``, ``reviews.jsonl`` (an event a line, without stars) and
    ``profiles.jsonl`` (as ``process.user_fields`` reads it). The same config gives the same bytes;
    ``folder`` is replaced as a whole or not at all.

    Returns:
        What scores can reach.

    Raises:
        DataError: ``folder`` holds something else, or the sizes are impossible.
    """
    _check(config)
    with output_lock(folder):
        if folder.exists() and {each.name for each in folder.iterdir()} - set(GROUPS):
            raise DataError(f"{folder}: holds something else than an app; choose another --raw")
        return _write(config, folder)


def read_group(folder: Path, *, name: str) -> RawData:
    """The known or the cold users of an app, split leave-last-out, with what they say of them."""
    from process.amazon.assemble import Options, read_prepared  # pandas is slow to import
    from process.raw import UserFields
    from process.user_fields import read_profiles

    raw, path = read_prepared(folder, name=name, options=Options()), folder / "profiles.jsonl"
    kinds = dict.fromkeys(CATEGORIES, "category") | dict.fromkeys(NUMBERS, "number")
    values, _ = read_profiles(path, list(raw.users), kinds)
    values = values.astype(dict.fromkeys(NUMBERS, np.float32))
    raw.user_fields = UserFields(values, categories=CATEGORIES, numbers=NUMBERS)
    raw.sources = [*raw.sources, path]
    return raw


def _check(config: PaymentsConfig) -> None:
    most = _SEARCHES * len(TOPICS) * len(KINDS)
    if not 200 <= config.items <= most:
        raise DataError(
            f"--items {config.items}: expected 200 to {most:,}, for which it has titles"
        )
    if config.users < 1 or config.cold < 1:
        raise DataError(f"--users {config.users} --cold {config.cold}: expected at least 1 of both")
    if config.events < _FEWEST:
        raise DataError(f"--events {config.events:g}: expected {_FEWEST} or more")


def _write(config: PaymentsConfig, folder: Path) -> list[Reachable]:
    generator = np.random.default_rng(config.seed)
    entities, tastes = make_entities(config, generator), make_tastes(generator)
    item_ids = [f"E{10_000 + row}" for row in generator.permutation(config.items)]
    extra = generator.exponential(config.events - _FEWEST, config.users).astype(int)
    lengths = {
        "known": (_FEWEST + extra).clip(max=_MOST),
        "cold": generator.integers(3, 6, config.cold),
    }
    reachable = []
    with atomic_folder(folder) as temporary:
        for group in GROUPS:
            people = make_people(len(lengths[group]), tastes, config.own, generator)
            events = simulate(config, entities, people, lengths[group], generator)
            first = {"known": 100_000, "cold": 900_000}[group]
            user_ids = [f"P{first + row}" for row in generator.permutation(len(lengths[group]))]
            place = temporary / group
            place.mkdir()
            _write_lines(place / "items.jsonl", _items(entities, item_ids))
            _write_lines(
                place / "reviews.jsonl", _events(events, lengths[group], user_ids, item_ids)
            )
            _write_lines(place / "profiles.jsonl", _profiles(people, user_ids))
            for knowledge, places in events.places.items():
                rates = {k: float((places < k).mean()) for k in _CUTOFFS}
                reachable.append(Reachable(group, knowledge, rates))
    return reachable


def _items(entities: Entities, ids: list[str]) -> Iterable[Mapping[str, object]]:
    for row in np.argsort(ids):
        topic, kind = TOPICS[entities.topics[row]], KINDS[entities.kinds[row]]
        title = entities.titles[row]
        yield {"item_id": ids[row], "title": title, "categories": ["app", topic, kind]}


def _events(
    events: Events, lengths: np.ndarray, users: list[str], items: list[str]
) -> Iterable[Mapping[str, object]]:
    for row, count in enumerate(lengths.tolist()):
        own = zip(events.items[row, :count].tolist(), events.times[row].tolist(), strict=False)
        for item, time in own:
            yield {"user_id": users[row], "item_id": items[item], "timestamp": time}


def _profiles(people: People, users: list[str]) -> Iterable[Mapping[str, object]]:
    for row, user in enumerate(users):
        yield {
            "user_id": user,
            "occupation": OCCUPATIONS[people.occupation[row]],
            "city": CITIES[people.city[row]],
            "level": LEVELS[people.level[row]],
            "age": int(people.age[row]),
        }


def _write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
