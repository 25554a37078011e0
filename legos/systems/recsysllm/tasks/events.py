"""Events of every user in order, and draws from them; the last event is for test.

The one before is for valid. Draws are functions of what they are for: (seed, epoch, row) and a key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, from_rows, join_rows
from legos.data.sampling import below, distinct_positions, distinct_rows, keyed_bits
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from legos.systems.recsysllm.settings import HorizonSettings, SplitName

HELD_OUT = 2
TEMPLATE, STARS, JITTER, _WINDOW, SEPARATOR, NEGATIVES, VERDICT, ORDER, EVENT, FAMILY, DATUM = (
    range(61, 72)
)
WIDTH = 76
"""Keys of draws."""
EVALUATION = -1  # the epoch of draws for valid and test
SHORT, MEDIUM, LONG = 0, 1, 2  # horizons
_HORIZON, _LONG_PAST = 51, 52  # keys of draws
_UNIT = 2.0**62  # bits are below
_DAY = 86_400  # seconds


@dataclass(frozen=True)
class Sequences:
    """Events of users with at least three of them.

    Attributes:
        users: ``(S,)`` int64 user numbers, ascending.
        items: S rows of items, the oldest first, the held-out two at the end.
        times: S rows of Unix seconds, -1 where unknown.
    """

    users: Tensor
    items: Ragged
    times: Ragged
    num_items: int

    def __len__(self) -> int:
        return self.users.numel()

    @classmethod
    def from_tables(cls, tables: Tables) -> Sequences:
        """Read them off the valid and test splits of a leave-last-out table.

        Of a user with more events than the longest stored history these are the newest ones.

        Raises:
            DataError: the tables are split in another way.
        """
        users, items = _clicks(tables, "test")
        valid_users, valid = _clicks(tables, "valid")
        before = items.head(items.lengths - 1)
        longest = before.lengths.max() if len(before) else 0
        valid = valid.tail(valid.lengths.clip(max=longest))
        if not (
            torch.equal(users, valid_users)
            and torch.equal(before.offsets, valid.offsets)
            and torch.equal(before.values, valid.values)
        ):
            raise DataError(
                f"{tables.folder}: split {tables.manifest.get('split_rule')!r}; sequential tasks "
                "need one test event a user, the valid event right before it, but "
                f"{_first_other(tables, (users, before), (valid_users, valid))}: make the tables "
                "with --split leave-last-out"
            )
        times = Ragged(_times(tables, users, items), items.offsets)
        return cls(users, items, times, tables.num_items)

    def seen(self, before: SplitName | None = None) -> Ragged:
        """S rows of the items of each user, ascending, every one once.

        Args:
            before: only those before the event of ``valid`` or ``test``; None: all.
        """
        left_out = 0 if before is None else 1 if before == "test" else HELD_OUT
        kept = self.items.to_end > left_out
        rows, items = self.items.rows[kept], self.items.values[kept]
        return distinct_rows(rows, items, rows=len(self), width=self.num_items)

    def targets(self, split: SplitName) -> Tensor:
        """``(S,)`` int64 items of valid or test."""
        return self.items.values[self.items.offsets[1:] - (1 if split == "test" else 2)]


def _first_other(tables: Tables, test: tuple[Tensor, Ragged], valid: tuple[Tensor, Ragged]) -> str:
    """Which user has other events before test than up to valid, for an error."""
    before, until = (
        {user: items.row(row).tolist() for row, user in enumerate(users.tolist())}
        for users, items in (test, valid)
    )
    names = tables.vocabulary("user_id")
    other = [user for user in sorted(before | until) if before.get(user) != until.get(user)]
    return (
        f"{len(other):,} users have other events before test than up to valid, the first of them "
        f"{names[other[0]]!r}"
    )


def _clicks(tables: Tables, split: str) -> tuple[Tensor, Ragged]:
    """Users ``(n,)`` of a split, ascending, and their histories, each with the item clicked."""
    candidates, labels = tables.lists(split, "candidates"), tables.lists(split, "labels")
    clicked = labels.values == 1
    users = tables.scalar(split, "user_id").long()
    owners = candidates.rows[clicked]
    if owners.tolist() != list(range(len(users))) or users.unique().numel() != len(users):
        raise DataError(
            f"{tables.folder}: {split} does not have one event a user; sequential tasks need "
            "tables made with --split leave-last-out"
        )
    order = users.argsort()
    targets = from_lengths(candidates.values[clicked].long()[order], torch.ones_like(users))
    rows = tables.scalar(split, "history").long()[order]
    histories = tables.lists("histories", "items").select(rows)
    return users[order], join_rows([Ragged(histories.values.long(), histories.offsets), targets])


def _times(tables: Tables, users: Tensor, items: Ragged) -> Tensor:
    """``(P,)`` int64 times of the events out of the reviews, -1 where there are none."""
    unknown = torch.full_like(items.values, -1)
    if not tables.has("reviews", "time"):
        return unknown
    pairs = tables.scalar("reviews", "user_id").long() * tables.num_items
    pairs, order = (pairs + tables.scalar("reviews", "item_id").long()).sort()
    times = tables.scalar("reviews", "time").long()[order]
    wanted = users[items.rows] * tables.num_items + items.values
    at = torch.searchsorted(pairs, wanted).clamp(max=max(len(pairs) - 1, 0))
    return torch.where(pairs[at] == wanted, times[at], unknown)


def random_bits(rows: Tensor, slots: int, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B, slots)`` int64 random bits of rows ``(B,)``."""
    return keyed_bits(rows, slots, key, seed, epoch + 1)


def uniform(rows: Tensor, slots: int, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B, slots)`` float64 in (0, 1)."""
    return (random_bits(rows, slots, key, seed=seed, epoch=epoch).double() + 0.5) / _UNIT


def normal(rows: Tensor, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B,)`` float64 of the standard normal distribution (Box and Muller, 1958)."""
    draws = uniform(rows, 2, key, seed=seed, epoch=epoch)
    return (-2 * draws[:, 0].log()).sqrt() * (2 * math.pi * draws[:, 1]).cos()


def choice(rows: Tensor, limits: Tensor | int, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B,)`` int64 in [0, limit)."""
    return below(random_bits(rows, 1, key, seed=seed, epoch=epoch)[:, 0], limits)


def permutation(rows: Tensor, slots: int, *, seed: int, epoch: int) -> Tensor:
    """``(B, slots)`` int64: the numbers below ``slots`` in a random order for each row."""
    return random_bits(rows, slots, ORDER, seed=seed, epoch=epoch).argsort(1)


def unseen_items(
    rows: Tensor, seen: Ragged, *, num_items: int, count: int, seed: int, epoch: int
) -> Tensor:
    """Different items, uniform over those that a user never had: ``(B, count)`` int64.

    Args:
        rows: ``(B,)`` int64 what names the draws.
        seen: B rows of item numbers, ascending and all different: also held-out ones.

    Raises:
        DataError: fewer items are left.
    """
    left = num_items - seen.lengths
    if len(seen) and int(left.min()) < count:
        raise DataError(
            f"{num_items} items, one user had {int(seen.lengths.max())} of them: too few are left "
            f"to draw {count}; ask for fewer negatives"
        )
    ranks, _ = distinct_positions(random_bits(rows, count, NEGATIVES, seed=seed, epoch=epoch), left)
    # the j-th item seen (from 0) is stepped over by ranks from (its number - j) on
    width = int(seen.lengths.max()) if len(seen) else 0
    taken = torch.full((len(seen), width), num_items, dtype=torch.int64)
    at = seen.positions
    taken[seen.rows, at] = seen.values.long() - at
    return ranks + torch.searchsorted(taken, ranks, right=True)


class PastWindows(NamedTuple):
    """Windows drawn for B users.

    Attributes:
        events: B rows of event numbers of the user (int64), ascending.
        drawn: ``(B,)`` int64 horizon that was drawn: ``SHORT``, ``MEDIUM`` or ``LONG``.
        taken: ``(B,)`` int64 horizon that had enough events.
    """

    events: Ragged
    drawn: Tensor
    taken: Tensor


class HorizonSampler:
    """Draws windows of the past.

    Args:
        times: one row a user: Unix seconds of the events, ascending; or, where windows count
            events, anything of the same lengths.
        held_out: last events of each user that are never shown (2: the validation and test event of
            leave-one-out).
        settings: windows and shares.

    Raises:
        ConfigError: windows in days are asked for and times are unknown (-1).
        DataError: a user's events are not in the order of time.
    """

    def __init__(
        self, times: Ragged, *, held_out: int, settings: HorizonSettings, seed: int
    ) -> None:
        self.settings, self.seed, self.held_out = settings, seed, held_out
        self._times = times.numpy()
        values = self._times.values
        if settings.by == "time" and len(values):
            if values.min() < 0:
                raise ConfigError(
                    "horizons: by: time, but some events have no time; expected by: count"
                )
            falls = np.diff(values, prepend=0) < 0
            wrong = np.flatnonzero(falls & (self._times.positions > 0))
            if len(wrong):
                user = self._times.rows[wrong[0]]
                raise DataError(f"user {user}: events are not in the order of time")

    def usable(self) -> Tensor:
        """Users with enough events that are not held out, ascending: ``(n,)`` int64."""
        counts = self._times.lengths - self.held_out
        return torch.from_numpy(np.flatnonzero(counts >= self.settings.min_items))

    def draw(self, users: Tensor, *, epoch: int) -> PastWindows:
        """One window a user of ``(B,)`` usable ones; a function of (seed, epoch, user)."""
        own = self.settings
        weights = np.array([own.short_weight, own.medium_weight, own.long_weight]).cumsum()
        bits = keyed_bits(users, 2, _HORIZON, self.seed, epoch)
        draws = bits[:, 0].double().numpy() / _UNIT * weights[-1]
        drawn = np.searchsorted(weights, draws, side="right").clip(max=LONG)
        rows, taken = [], drawn.copy()
        for at, user in enumerate(users.tolist()):
            times = self._times.row(user)
            # ends at any event, so late that the long window is long enough
            free = len(times) - self.held_out - own.min_items + 1
            end = own.min_items + int(below(bits[at, 1], free))
            begin = self._begin(times[:end], drawn[at])
            while end - begin < own.min_items:
                taken[at] += 1
                begin = self._begin(times[:end], taken[at])
            rows.append(self._at_most(np.arange(begin, end), taken[at] == LONG, user, epoch))
        events = from_rows(rows, "int64").tensors()
        return PastWindows(events, torch.from_numpy(drawn), torch.from_numpy(taken))

    def _begin(self, times: np.ndarray, horizon: int) -> int:
        """The oldest event of a window that ends with the last of these."""
        own = self.settings
        if horizon == LONG:
            return 0
        if own.by == "count":
            return max(0, len(times) - (own.short_events, own.medium_events)[horizon])
        days = (own.short_days, own.medium_days)[horizon]
        return int(np.searchsorted(times, times[-1] - days * _DAY, side="right"))

    def _at_most(self, events: np.ndarray, is_long: bool, user: int, epoch: int) -> np.ndarray:
        """Limit a window: to the latest events, or at random if it covers a long past."""
        most = self.settings.max_items
        if len(events) <= most or not is_long:
            return events[-most:]
        bits = keyed_bits(torch.tensor([user]), len(events), _LONG_PAST, self.seed, epoch)[0]
        chosen: np.ndarray = np.sort(events[bits.argsort()[:most].numpy()])
        return chosen
