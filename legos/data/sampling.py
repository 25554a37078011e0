"""Negative sampling: K items the user did not choose, beside each click.

Strategies:
    impression: shown in the same impression and not clicked (NRMS, Wu et al., EMNLP 2019,
        section 3.3; NAML, Wu et al., IJCAI 2019, section 3.3).
    user: shown to the user in any *training* impression and never clicked there (Legommenders).
    uniform: any item of the catalogue.
    popularity: in proportion to training clicks, or to a power of them.

The first two draw without replacement; a pool smaller than K is filled up from ``uniform``, and
so is ``popularity`` once every item with a training click is taken. Negatives of a row are all
different; a slot is masked only where the catalogue has no further item that is allowed.

A negative is never a clicked item of the impression, an item of its history, or one that a model
wrote and nobody is offered. Nothing else is excluded: only the training split is known here, so
that an item the user clicks in validation or test is drawn as often as any other. Were it left
out, "never a negative" would give the answer away. ``impression``, ``user`` and ``popularity``
do prefer what training showed or clicked: an item that train does not know is drawn by them
only as a filler.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.ragged import Ragged, from_owners

Strategy = Literal["impression", "user", "uniform", "popularity"]
_FEW = 16  # negatives
_NEVER_CLICKED = 1e9  # added to keys, so that these items come after all others
_SPARE = 4  # candidates drawn per negative from a pool that may hold forbidden items
_REDRAWS = 16  # after so many, what is allowed is listed and drawn from
_LISTED = 2**21  # (row, item) pairs listed at once: 16 MiB of keys


class PairSet:
    """A set of (owner, item) pairs with a vectorised membership test."""

    def __init__(self, owners: Tensor, items: Tensor, num_items: int) -> None:
        self._num_items = num_items
        self._keys = torch.unique(owners * num_items + items)

    def contains(self, owners: Tensor, items: Tensor) -> Tensor:
        """Boolean tensor of the shape of ``items``; ``owners`` broadcasts against it."""
        if self._keys.numel() == 0:
            return torch.zeros_like(items, dtype=torch.bool)
        wanted = owners * self._num_items + items
        found = torch.searchsorted(self._keys, wanted).clamp(max=self._keys.numel() - 1)
        return torch.eq(self._keys[found], wanted)


class NegativeSampler:
    """Draws negatives for training rows.

    Args:
        interactions: the training split.
        num_items: number of items.
        offered: ``(num_items,)`` bool, the catalogue; None: all items.
        strategy: where negatives come from.
        count: K, negatives a click.
        seed: of the run.
        power: of training clicks, for popularity.

    Attributes:
        rate: K over the number of the other items of the catalogue, at most 1.
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        num_items: int,
        strategy: Strategy,
        count: int,
        seed: int,
        offered: Tensor | None = None,
        power: float = 1.0,
    ) -> None:
        self.count = count
        self._seed = seed
        self._num_items = num_items
        self._history_rows = interactions.history_rows
        candidates, labels = interactions.candidates, interactions.labels
        impressions, clicked = candidates.rows, labels == 1
        histories = interactions.histories
        self._read = PairSet(histories.rows, histories.values, num_items)
        self._clicked = PairSet(impressions[clicked], candidates.values[clicked], num_items)
        self._pools: Ragged | None = None
        self._pools_are_allowed = strategy == "impression"
        # a user's pool may hold what this very impression has read: draw more to choose from
        self._pool_draws = count * (_SPARE if strategy == "user" else 1)
        self._pool_of = torch.arange(len(interactions), device=labels.device)
        self._popularity: Tensor | None = None
        self._catalogue: Tensor | None = None
        if offered is not None and not bool(offered.all()):
            self._catalogue = offered.nonzero()[:, 0]
        if strategy == "impression":
            self._pools = self._impression_pools(impressions, candidates.values, labels == 0)
        elif strategy == "user":
            self._pool_of = interactions.users
            self._pools = self._user_pools(interactions)
        elif strategy == "popularity":
            counts = torch.bincount(candidates.values[clicked], minlength=num_items)
            weights = counts.double().pow(power).masked_fill(counts == 0, 0.0)
            self._popularity = weights.cumsum(0)
        size = num_items if self._catalogue is None else self._catalogue.numel()
        self.rate = sampling_rate(count, size)

    def draw(self, impressions: Tensor, rows: Tensor, *, pass_number: int) -> tuple[Tensor, Tensor]:
        """Negatives of training rows.

        Args:
            impressions: ``(B,)`` int64 impression of each row.
            rows: ``(B,)`` int64 row numbers, which name the draw.
            pass_number: how many times the training rows were gone through before.

        Returns:
            items ``(B, K)`` int64 and mask ``(B, K)`` bool; False where the catalogue holds no
            further item that is allowed.
        """
        items = torch.zeros(rows.numel(), self.count, dtype=torch.int64, device=rows.device)
        wanting = torch.ones_like(items, dtype=torch.bool)
        if self._pools is not None and self._pools.values.numel():
            bits = keyed_bits(rows, self._pool_draws, self._seed, pass_number, 0)
            items, wanting = self._from_pools(self._pools, impressions, bits)
        for attempt in range(1, _REDRAWS + 1):
            again = wanting.any(1).nonzero()[:, 0]  # few after the first time
            if not again.numel():
                break
            bits = keyed_bits(rows[again], self.count, self._seed, pass_number, attempt)
            drawn = torch.where(wanting[again], self._from_catalogue(bits), items[again])
            items[again] = drawn
            wanting[again] = self._forbidden(impressions[again], drawn) | _repeats(drawn)
        left = wanting.any(1).nonzero()[:, 0]
        for part in left.split(max(1, _LISTED // self._num_items)):
            keys = self._keys(rows[part], pass_number)
            found, allowed = self._from_list(keys, impressions[part], items[part], ~wanting[part])
            items[part], wanting[part] = found, ~allowed
        return items, ~wanting

    def _keys(self, rows: Tensor, pass_number: int) -> Tensor:
        """``(B, N)`` float64: the smallest come first, in proportion to an item's weight.

        Weighted draws without replacement by exponential keys (Efraimidis and Spirakis,
        "Weighted random sampling with a reservoir", 2006); items without a weight come last.
        """
        bits = keyed_bits(rows, self._num_items, self._seed, pass_number, _REDRAWS + 1)
        keys = (bits.double() + 0.5) / 2.0**62
        if self._popularity is None:
            return keys
        weights = self._popularity.diff(prepend=self._popularity.new_zeros(1))
        return torch.where(weights > 0, -keys.log() / weights, keys + _NEVER_CLICKED)

    def _from_list(
        self, keys: Tensor, impressions: Tensor, items: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fill the slots that are not kept with the allowed items of the smallest keys.

        Args:
            keys: ``(B, N)`` float64.
            impressions: ``(B,)`` int64.
            items: ``(B, K)`` int64.
            kept: ``(B, K)`` bool, slots of ``items`` that stay.

        Returns:
            items ``(B, K)`` and a mask ``(B, K)`` that is False where too few items are allowed.
        """
        everything = torch.arange(self._num_items, device=items.device).expand(len(items), -1)
        taken = self._forbidden(impressions, everything)  # (B, N)
        taken |= torch.zeros_like(taken, dtype=torch.int8).scatter_add_(1, items, kept.char()) > 0
        if self._catalogue is not None:
            offered = torch.zeros(self._num_items, dtype=torch.bool, device=items.device)
            offered[self._catalogue] = True
            taken |= ~offered
        count = min(self.count, self._num_items)
        smallest = keys.masked_fill(taken, torch.inf).topk(count, dim=1, largest=False)
        nth = (~kept).cumsum(1) - 1  # which of the smallest an open slot gets
        at = nth.clamp(0, count - 1)
        allowed = kept | (smallest.values.gather(1, at).isfinite() & (nth < count))
        return torch.where(kept | ~allowed, items, smallest.indices.gather(1, at)), allowed

    def _from_pools(
        self, pools: Ragged, impressions: Tensor, bits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``(B, K)`` items of each row's pool and where the pool had no further one allowed."""
        owner = self._pool_of[impressions]
        starts = pools.offsets[owner]
        positions, valid = distinct_positions(bits, pools.offsets[owner + 1] - starts)
        items = pools.values[torch.where(valid, starts[:, None] + positions, 0)]
        wanting = ~valid
        if not self._pools_are_allowed:
            wanting = wanting | self._forbidden(impressions, items)
        kept = wanting.int().sort(dim=1, stable=True).indices[:, : self.count]  # allowed ones first
        return items.gather(1, kept), wanting.gather(1, kept)

    def _from_catalogue(self, bits: Tensor) -> Tensor:
        if self._catalogue is not None and self._popularity is None:
            return self._catalogue[below(bits, self._catalogue.numel())]
        if self._popularity is None:
            return below(bits, self._num_items)
        mass = bits.double() / 2.0**62 * self._popularity[-1]
        return torch.searchsorted(self._popularity, mass, right=True).clamp(max=self._num_items - 1)

    def _forbidden(self, impressions: Tensor, items: Tensor) -> Tensor:
        read = self._read.contains(self._history_rows[impressions][:, None], items)
        return read | self._clicked.contains(impressions[:, None], items)

    def _impression_pools(self, impressions: Tensor, items: Tensor, shown: Tensor) -> Ragged:
        owners, items = impressions[shown], items[shown]
        allowed = ~self._read.contains(self._history_rows[owners], items)
        allowed &= ~self._clicked.contains(owners, items)
        rows, width = self._pool_of.numel(), self._num_items
        return distinct_rows(owners[allowed], items[allowed], rows=rows, width=width)

    def _user_pools(self, interactions: Interactions) -> Ragged:
        users = interactions.users[interactions.candidates.rows]
        items = interactions.candidates.values
        clicked = interactions.labels == 1
        chosen = PairSet(users[clicked], items[clicked], self._num_items)
        allowed = (interactions.labels == 0) & ~chosen.contains(users, items)
        num_users = int(users.max()) + 1 if users.numel() else 0
        return distinct_rows(users[allowed], items[allowed], rows=num_users, width=self._num_items)


def sampling_rate(count: int, items: int) -> float:
    """What share of the other items of a catalogue so many negatives are, at most 1."""
    return min(1.0, count / max(1, items - 1))


def distinct_rows(owners: Tensor, items: Tensor, *, rows: int, width: int) -> Ragged:
    """Pairs ``(P,)`` of a row and an item below ``width``, each once -> rows of ascending items."""
    keys = torch.unique(owners * width + items)
    return from_owners(keys % width, keys // width, rows)


def _repeats(items: Tensor) -> Tensor:
    """``(B, K)`` bool: the slot holds what an earlier slot of its row holds."""
    if items.shape[1] < _FEW:  # cheaper than to sort
        same = items[:, :, None] == items[:, None, :]  # (B, K, K)
        return same.tril(-1).any(2)
    ordered, slots = items.sort(dim=1, stable=True)
    repeats = torch.zeros_like(items, dtype=torch.bool)
    repeats[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(repeats).scatter_(1, slots, repeats)


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own keeps the sign)."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def mix(value: Tensor) -> Tensor:
    """Scramble int64 values so that neighbours become unrelated.

    The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014, figure 16); int64 arithmetic wraps as the method needs.
    """
    value = (value ^ _shift_right(value, 30)) * _FIRST
    value = (value ^ _shift_right(value, 27)) * _SECOND
    return value ^ _shift_right(value, 31)


def keyed_bits(rows: Tensor, slots: int, *keys: int) -> Tensor:
    """Random bits for each (row, slot) under the given keys.

    Args:
        rows: ``(B,)`` int64 row numbers.
        slots: how many draws a row needs.
        keys: what else names the draw, for example seed, pass and round.

    Returns:
        ``(B, slots)`` int64, uniform over [0, 2**62).
    """
    state = torch.zeros((), dtype=torch.int64, device=rows.device)
    for key in keys:
        state = mix(state + _GOLDEN + key)
    slot = torch.arange(slots, device=rows.device)
    return _shift_right(mix(mix(state + rows * _GOLDEN)[:, None] + (slot + 1) * _GOLDEN), 2)


def below(bits: Tensor, limit: Tensor | int) -> Tensor:
    """Integers in [0, limit) from random bits; the bias is below limit / 2**62.

    A limit of 0 gives 0, for the caller to mask.
    """
    if isinstance(limit, int):
        return bits % max(limit, 1)
    return bits % limit.clamp(min=1)


def distinct_positions(bits: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Draw without replacement from pools of different sizes.

    Args:
        bits: ``(B, K)`` random bits.
        sizes: ``(B,)`` int64 pool sizes.

    Returns:
        positions ``(B, K)`` in [0, size), all different in a row, and valid ``(B, K)`` bool: slot j
        is valid where the pool has more than j elements.
    """
    count = bits.shape[1]
    slots = torch.arange(count, device=bits.device)
    valid = slots < sizes[:, None]
    ranks = below(bits, (sizes[:, None] - slots).clamp(min=1))  # rank among what is not yet taken
    taken = ranks[:, :1]
    columns = [taken[:, 0]]
    for slot in range(1, count):
        position = ranks[:, slot]
        for earlier in taken.unbind(1):  # ascending: step over each taken position passed
            position = position + (position >= earlier)
        columns.append(position)
        taken = torch.cat([taken, position[:, None]], 1).sort(1).values
    return torch.stack(columns, 1).where(valid, torch.zeros_like(bits)), valid


def row_order(num_rows: int, *, seed: int, pass_number: int) -> Tensor:
    """The order in which one pass over the training rows visits them: ``(num_rows,)`` int64."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + pass_number) % 2**63)
    return torch.randperm(num_rows, generator=generator)
