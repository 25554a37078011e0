"""Users with features and tastes, entities with topics, and what comes after what.

A user's features decide most of their taste for topics; the rest is their own. A search is often
followed by a visit of the same topic, and a visit by a bill. The chance of every next entity is
known, and so is what any model can reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from process.payments.titles import KINDS, TOPICS, draw_titles

OCCUPATIONS = ("student", "teacher", "driver", "nurse", "engineer", "farmer", "cook", "retired")
CITIES = ("metropolis", "large city", "town", "village")
LEVELS = ("basic", "silver", "gold")
_AGES = (18, 30, 45, 60)  # lower ends of the bands that taste goes by
_OLDEST = 80
_NEW_KIND = np.array([0.5, 0.3, 0.2])  # of what begins a session
_PAGE = 2048  # users at once
_HOUR, _DAY = 3600, 86_400


@dataclass(frozen=True)
class PaymentsConfig:
    """What the app is like.

    Attributes:
        users, cold: users to train with, and users that training never sees.
        items: searches, visits and bills.
        events: mean number of a known user's; cold users have 3 to 5.
        follow: share of searches and visits after which the same topic goes on.
        own: strength of the part of a taste that no feature tells; the features' is 1.
        noise: share of events that nothing decides.
    """

    seed: int = 1
    users: int = 2000
    cold: int = 500
    items: int = 720
    events: float = 12.0
    follow: float = 0.6
    own: float = 0.5
    noise: float = 0.1


@dataclass(frozen=True)
class Entities:
    """N searches, visits and bills.

    Attributes:
        titles: all different.
        topics, kinds: ``(N,)`` int64.
        shares: ``(N,)`` float64 of an entity among those of its topic and kind.
    """

    titles: list[str]
    topics: np.ndarray
    kinds: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class People:
    """U users.

    Attributes:
        occupation, city, level: ``(U,)`` int64; the level tells nothing.
        age: ``(U,)`` int64 years.
        by_features, taste: ``(U, T)`` float64 chances of topics, by features alone and in truth.
    """

    occupation: np.ndarray
    city: np.ndarray
    level: np.ndarray
    age: np.ndarray
    by_features: np.ndarray
    taste: np.ndarray


@dataclass(frozen=True)
class Events:
    """What U users did, L the most events of one.

    Attributes:
        items: ``(U, L)`` int64, in order, -1 behind the last.
        times: ``(U, L)`` int64 Unix seconds.
        places: by what is known the place of the last event among itself and 99 others that the
            user never had, ``(U,)`` float64 from 0.
    """

    items: np.ndarray
    times: np.ndarray
    places: dict[str, np.ndarray]


def make_entities(config: PaymentsConfig, generator: np.random.Generator) -> Entities:
    """Entities spread evenly over topics and kinds, popular by Zipf's law."""
    cells = np.arange(config.items) % (len(TOPICS) * len(KINDS))
    topics, kinds = cells // len(KINDS), cells % len(KINDS)
    weights = 1.0 / (1 + np.arange(config.items) // (len(TOPICS) * len(KINDS)))
    totals = np.bincount(cells, weights)
    return Entities(draw_titles(topics, kinds, generator), topics, kinds, weights / totals[cells])


def make_tastes(generator: np.random.Generator) -> list[np.ndarray]:
    """What occupation, age band and city add to the logits of topics."""
    sizes = (len(OCCUPATIONS), len(_AGES), len(CITIES))
    return [generator.normal(0, 1.2, (size, len(TOPICS))) for size in sizes]


def make_people(
    count: int, tastes: list[np.ndarray], own: float, generator: np.random.Generator
) -> People:
    """Users whose features are independent of each other."""
    occupation, city, level = (
        generator.integers(len(names), size=count) for names in (OCCUPATIONS, CITIES, LEVELS)
    )
    age = generator.integers(_AGES[0], _OLDEST, size=count)
    band = np.searchsorted(_AGES, age, side="right") - 1
    logits = tastes[0][occupation] + tastes[1][band] + tastes[2][city]
    true = logits + generator.normal(0, own, logits.shape) if own else logits
    return People(occupation, city, level, age, _softmax(logits), _softmax(true))


def simulate(
    config: PaymentsConfig,
    entities: Entities,
    people: People,
    lengths: np.ndarray,
    generator: np.random.Generator,
) -> Events:
    """Let users act: ``lengths`` ``(U,)`` int64 events each, no entity twice."""
    count, most = len(lengths), int(lengths.max())
    items = np.full((count, most), -1)
    names = ("everything", "features and popularity", "popularity")
    places = {name: np.zeros(count) for name in names}
    popular = entities.shares * _NEW_KIND[entities.kinds]
    for begin in range(0, count, _PAGE):
        rows = np.arange(begin, min(begin + _PAGE, count))
        for step in range(int(lengths[rows].max())):
            rows = rows[lengths[rows] > step]
            fresh = people.taste[rows][:, entities.topics] * popular  # (U, N)
            chances = _chances(config, entities, fresh, items[rows, step - 1] if step else None)
            had = items[rows, :step]
            np.put_along_axis(chances, had, 0.0, 1)
            chances /= chances.sum(1, keepdims=True)
            drawn = generator.random((len(rows), 1)) > chances.cumsum(1)
            items[rows, step] = drawn.sum(1).clip(max=config.items - 1)
            last = lengths[rows] == step + 1
            if not last.any():
                continue
            others = _others(items[rows[last], : step + 1], config.items, generator)
            told = (chances, people.by_features[rows][:, entities.topics] * popular, popular[None])
            for name, scores in zip(names, told, strict=True):
                own = np.broadcast_to(scores, chances.shape)[last]
                places[name][rows[last]] = _place(np.take_along_axis(own, others, 1))
    return Events(items, _times(items, entities, generator), places)


def _chances(
    config: PaymentsConfig, entities: Entities, fresh: np.ndarray, before: np.ndarray | None
) -> np.ndarray:
    """``(U, N)`` the chance of each entity after the one ``before``, entities had included."""
    fresh = fresh / fresh.sum(1, keepdims=True)
    if before is not None:
        goes_on = (entities.topics == entities.topics[before][:, None]) & (
            entities.kinds == entities.kinds[before][:, None] + 1
        )
        share = config.follow * goes_on.any(1, keepdims=True)
        fresh = share * goes_on * entities.shares + (1 - share) * fresh
    return (1 - config.noise) * fresh + config.noise / config.items


def _others(had: np.ndarray, items: int, generator: np.random.Generator) -> np.ndarray:
    """``(U, 100)`` the last entity of each row, then 99 (or all) that are not in the row."""
    draws = generator.random((len(had), items))
    np.put_along_axis(draws, had, 2.0, 1)
    most = min(99, items - had.shape[1])
    return np.concatenate([had[:, -1:], draws.argsort(1)[:, :most]], 1)


def _place(scores: np.ndarray) -> np.ndarray:
    """Place of column 0, ties in the middle: ``(U, n)`` -> ``(U,)``."""
    above = (scores[:, 1:] > scores[:, :1]).sum(1)
    level = (scores[:, 1:] == scores[:, :1]).sum(1)
    place: np.ndarray = above + level / 2
    return place


def _times(items: np.ndarray, entities: Entities, generator: np.random.Generator) -> np.ndarray:
    """Within a topic minutes pass, between topics days."""
    same = entities.topics[items[:, 1:]] == entities.topics[items[:, :-1]]
    gaps = np.where(
        same,
        generator.integers(60, _HOUR, same.shape),
        generator.integers(_HOUR, 10 * _DAY, same.shape),
    )
    begin = 1_600_000_000 + generator.integers(0, 100 * _DAY, (len(items), 1))
    times: np.ndarray = np.concatenate([begin, begin + gaps.cumsum(1)], 1)
    return times


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    chances: np.ndarray = powers / powers.sum(1, keepdims=True)
    return chances
