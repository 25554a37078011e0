"""What the newsroom shows, what is clicked, and the histories that grow from it; vectorised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from legos.data.ragged import Ragged, offsets_of
from process.synthetic.world import DAY, FIRST_DAY, NewsroomConfig, World

_REPEATED = 0.02  # clicks before the first day that are listed twice, as in MIND
_EXPOSURE = 0.5  # how much more often popular news are shown
_FADING = 3.0  # days after which an item is shown 1/e as often
_SHOWN_A_CLICK = 16  # what a click before the first day was chosen from
_OPENING, _CLOSING = 6 * 3600, 23 * 3600 + 1800  # nobody reads at night


@dataclass(frozen=True)
class Day:
    """The impressions of one day, in random order. ``n`` impressions, ``M`` candidates."""

    users: np.ndarray  # (n,) int64
    times: np.ndarray  # (n,) int64, Unix seconds
    offsets: np.ndarray  # (n+1,) int64
    candidates: np.ndarray  # (M,) int64, news rows
    clicked: np.ndarray  # (M,) bool
    probability: np.ndarray  # (M,) float32, of a click given that the impression has one

    @property
    def rows(self) -> np.ndarray:
        """The impression of every candidate, ``(M,)`` int64."""
        return Ragged(self.candidates, self.offsets).rows


def clicks_before(world: World, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The clicks before the first day: ``(users, items)`` sorted by user, then publication."""
    config = world.config
    counts = generator.poisson(config.clicks_before * generator.gamma(2.0, 0.5, config.users))
    counts[world.joined >= 0] = 0
    users = np.repeat(np.arange(config.users), np.minimum(counts, 50))
    old = np.flatnonzero(world.first_day < 0)
    exposure = _shares(np.exp(_EXPOSURE * world.popularity[old]))
    shown = generator.choice(old, (len(users), _SHOWN_A_CLICK), p=exposure)
    everyone = np.broadcast_to(users[:, None], shown.shape)
    probability = world.click_probability(everyone, shown, np.full(shown.shape, FIRST_DAY))
    # Gumbel trick: one click a row, drawn in proportion to its probability.
    chosen = (np.log(probability) + generator.gumbel(size=shown.shape)).argmax(axis=1)
    items = shown[np.arange(len(users)), chosen]
    again = np.where(generator.random(len(users)) < _REPEATED, 2, 1)
    users, items = np.repeat(users, again), np.repeat(items, again)
    order = np.lexsort((world.published[items], users))
    return users[order], items[order]


def simulate_day(world: World, day: int, generator: np.random.Generator) -> Day:
    """Show news on ``day`` (0 = the first) and draw the clicks.

    Impressions without a click are drawn anew, as MIND only has impressions with one; the saved
    probabilities are conditioned on that.
    """
    config = world.config
    activity = generator.gamma(2.0, 0.5, config.users) * config.impressions
    activity[world.joined > day] = 0
    users = generator.permutation(np.repeat(np.arange(config.users), generator.poisson(activity)))
    midnight = FIRST_DAY + day * DAY
    times = midnight + generator.integers(_OPENING, _CLOSING, len(users))
    sizes = generator.integers(config.candidates[0], config.candidates[1] + 1, len(users))
    offsets = offsets_of(sizes)
    rows = np.repeat(np.arange(len(users)), sizes)
    candidates = _candidates(world, day, rows, generator)
    free = world.click_probability(users[rows], candidates, times[rows])
    clicked = _at_least_one_click(free, rows, len(users), generator)
    no_click = np.exp(np.add.reduceat(np.log1p(-free.astype(np.float64)), offsets[:-1]))
    probability = (free / (1 - no_click)[rows]).astype(np.float32)
    return Day(users, times, offsets, candidates, clicked, probability)


def _candidates(
    world: World, day: int, rows: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """News for every slot ``(M,)``: a share of the day's own, the rest older; distinct in a row.

    News rest on their second day. So the share that training has never seen is the same for the dev
    day whether or not the day before it is set aside for validation.
    """
    own = np.flatnonzero(world.first_day == day)
    older = np.flatnonzero(world.first_day < day - 1)
    age = day - world.first_day[older]
    weights = _shares(np.exp(_EXPOSURE * world.popularity[older] - age / _FADING))
    # Exactly the share, not on average: the first slots of a random order.
    is_own = np.zeros(len(rows), dtype=bool)
    is_own[generator.permutation(len(rows))[: round(world.config.cold_share * len(rows))]] = True
    candidates = np.zeros(len(rows), dtype=np.int64)
    open_slots = np.arange(len(rows))
    while len(open_slots):
        fresh = is_own[open_slots]
        candidates[open_slots[fresh]] = generator.choice(own, int(fresh.sum()))
        candidates[open_slots[~fresh]] = generator.choice(older, int((~fresh).sum()), p=weights)
        open_slots = _repeats(rows, candidates, len(world.first_day))
    return candidates


def _repeats(rows: np.ndarray, items: np.ndarray, num_items: int) -> np.ndarray:
    """Positions of every item that its row already holds at an earlier position."""
    key = rows * num_items + items
    order = np.argsort(key, kind="stable")
    return np.sort(order[1:][key[order[1:]] == key[order[:-1]]])


def _at_least_one_click(
    probability: np.ndarray, rows: np.ndarray, num_rows: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw clicks ``(M,)``; rows without one are drawn again until they have one."""
    clicked = generator.random(len(rows)) < probability
    while True:
        without = np.bincount(rows[clicked], minlength=num_rows) == 0
        again = without[rows]
        if not again.any():
            return clicked
        clicked[again] = generator.random(int(again.sum())) < probability[again]


def histories(
    days: list[Day], before: tuple[np.ndarray, np.ndarray], config: NewsroomConfig
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Every user's clicks in order of time, and the part that precedes each impression.

    Returns:
        All clicked items ``(K,)`` grouped by user, oldest first; and for every day the start and
        stop positions ``(n,)`` int64 of its impressions' histories.
    """
    users, items, times = [before[0]], [before[1]], [np.full(len(before[0]), FIRST_DAY - 1)]
    for day in days:
        rows = day.rows[day.clicked]
        users.append(day.users[rows])
        times.append(day.times[rows])
        items.append(day.candidates[day.clicked])
    all_users, all_times = np.concatenate(users), np.concatenate(times)
    order = np.lexsort((all_times, all_users))  # stable: what is equal keeps its order
    span = FIRST_DAY + DAY * (len(days) + 1)
    clock = all_users[order].astype(np.int64) * span + all_times[order]
    first = np.searchsorted(all_users[order], np.arange(config.users))
    ranges = [
        (first[day.users], np.searchsorted(clock, day.users * span + day.times)) for day in days
    ]
    return np.concatenate(items)[order], ranges


def _shares(weights: np.ndarray) -> np.ndarray:
    exact: np.ndarray = weights.astype(np.float64)
    shares: np.ndarray = exact / exact.sum()
    return shares
