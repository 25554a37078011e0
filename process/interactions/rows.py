"""Who bought or reviewed what and when: the common form of every origin, as arrays."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from legos.data.ragged import Ragged, RaggedArray, offsets_of
from legos.data.spans import first_rows
from process.moments import UNKNOWN_TIME
from process.ties import by_hash, by_id, pair_hashes, ranks, without_unused

ItemOrder = Literal["hash", "appearance"]


@dataclass(frozen=True)
class Interactions:
    """Interactions; ``K`` of them, ``U`` users, ``N`` items.

    Attributes:
        user_ids: ``U`` ids; item_ids: ``N`` ids.
        user, item: ``(K,)`` int32 positions in them.
        rating: ``(K,)`` float32 stars, NaN = unknown.
        time: ``(K,)`` int64 Unix time in ticks, -1 = unknown.
        place: ``(K,)`` int64, where it stands among all interactions that were read.
        content: ``(K,)`` uint64 hash of all that its line says. None where the source orders a
            user's interactions itself: there ``place`` is the order.
        weight: ``(K,)`` int16 train impressions that each makes; None = one.
        ticks: of ``time`` a second.
    """

    user_ids: list[str]
    item_ids: list[str]
    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    time: np.ndarray
    place: np.ndarray
    content: np.ndarray | None = None
    weight: np.ndarray | None = None
    ticks: int = 1

    def __len__(self) -> int:
        return len(self.user)

    @property
    def seconds(self) -> np.ndarray:
        """``(K,)`` int64 Unix seconds, -1 = unknown."""
        return self.time if self.ticks == 1 else self.time // self.ticks

    @property
    def by_user(self) -> RaggedArray:
        """The items of every user; the interactions must be ordered by user."""
        return Ragged(self.item, self.user_offsets)

    @property
    def user_offsets(self) -> np.ndarray:
        """``(U + 1,)`` int64: where every user's interactions begin, when ordered by user."""
        return offsets_of(np.bincount(self.user, minlength=len(self.user_ids)))

    @property
    def rank(self) -> np.ndarray:
        """``(K,)`` int64: the how-manieth of its user, from 0, when ordered by user."""
        ranks: np.ndarray = np.arange(len(self)) - self.user_offsets[:-1][self.user]
        return ranks

    def take(self, rows: np.ndarray) -> Interactions:
        """Interactions by number or by mask, in the order asked; ids stay."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            rating=self.rating[rows],
            time=self.time[rows],
            place=self.place[rows],
            content=None if self.content is None else self.content[rows],
            weight=None if self.weight is None else self.weight[rows],
        )

    def chronological(self, seed: int) -> Interactions:
        """Ordered by user, then time (unknown first).

        Equal times go by a seeded hash of user and item, and repetitions of a pair by what their
        lines say, so the order of the lines decides nothing. Where the source orders a user's
        interactions itself, its order stays.

        Args:
            seed: of the hash.
        """
        if self.content is None:
            return self.take(np.lexsort((self.place, self.time, self.user)))
        pairs = pair_hashes(self.user_ids, self.item_ids, self.user, self.item, seed)
        return self.take(np.lexsort((self.content, pairs, self.time, self.user)))

    def without_unused(self) -> Interactions:
        """Forget users and items without interactions; the others keep their order."""
        user_ids, user = without_unused(self.user_ids, self.user)
        item_ids, item = without_unused(self.item_ids, self.item)
        return replace(self, user_ids=user_ids, item_ids=item_ids, user=user, item=item)

    def with_items_in(self, order: ItemOrder, further: Sequence[str] = ()) -> Interactions:
        """Give the items other row numbers.

        Args:
            order: ``hash``: by the SHA-256 of their ids, so that a number tells nothing of who
                bought an item or when. ``appearance``: as they first appear in the interactions,
                which puts next to each other what one user bought (CLLM4Rec's, P5's).
            further: ids of items without interactions; with ``appearance`` they come last.
        """
        if order == "hash":
            every = [*self.item_ids, *further]
            item_ids, item = _reordered(every, self.item, by_hash(every))
        else:
            ranked = np.argsort(first_rows(self.item), kind="stable")
            item_ids, item = _reordered(self.item_ids, self.item, ranked)
            item_ids += [further[i] for i in by_hash(further)]
        return replace(self, item_ids=item_ids, item=item)


@dataclass
class Collector:
    """Grows interactions one by one.

    Attributes:
        ordered: the source orders a user's interactions itself, by the order of ``add``.
        users, items: id -> number in order of first appearance.
        content: 8 bytes an interaction.
    """

    ordered: bool = False

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    user: array[int] = field(default_factory=lambda: array("i"))
    item: array[int] = field(default_factory=lambda: array("i"))
    rating: array[float] = field(default_factory=lambda: array("f"))
    time: array[int] = field(default_factory=lambda: array("q"))
    content: bytearray = field(default_factory=bytearray)

    def add(
        self,
        user: str,
        item: str,
        rating: float = float("nan"),
        time: int = UNKNOWN_TIME,
        *,
        content: bytes = bytes(8),
    ) -> None:
        """Add an interaction.

        Args:
            user, item: ids.
            rating: NaN = unknown.
            time: Unix seconds.
            content: a hash of all that is said about it (``line_hash``).
        """
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.rating.append(rating)
        self.time.append(time)
        self.content += content

    def done(self) -> Interactions:
        """The interactions in the order they came; users ordered by id, items by its hash.

        The collector is empty afterwards.
        """
        user_ids, item_ids = list(self.users), list(self.items)
        self.users, self.items = {}, {}  # they take more memory than all else
        user, item = np.asarray(self.user, dtype=np.int32), np.asarray(self.item, dtype=np.int32)
        return ordered_interactions(
            user_ids, user, item_ids, item, rating=self.rating, time=self.time,
            content=None if self.ordered else self.content,
        )  # fmt: skip


def ordered_interactions(
    user_ids: list[str],
    user: np.ndarray,
    item_ids: list[str],
    item: np.ndarray,
    *,
    rating: array[float],
    time: array[int],
    content: bytearray | None,
) -> Interactions:
    """Interactions with users ordered by id, and items by its hash.

    Args:
        user_ids, item_ids: in any order.
        user, item: ``(K,)`` int32 positions in them.
        rating, time: ``K`` each.
        content: 8 bytes each; None where their order counts.
    """
    user_ids, user = _reordered(user_ids, user, by_id(user_ids))
    item_ids, item = _reordered(item_ids, item, by_hash(item_ids))
    return Interactions(
        user_ids=user_ids,
        item_ids=item_ids,
        user=user,
        item=item,
        rating=np.asarray(rating, dtype=np.float32),
        time=np.asarray(time, dtype=np.int64),
        place=np.arange(len(user), dtype=np.int64),
        content=None if content is None else np.frombuffer(content, dtype="<u8"),
    )


def _reordered(ids: list[str], rows: np.ndarray, order: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Ids in another order, and ``(K,)`` int32 row numbers that follow them."""
    return [ids[i] for i in order], ranks(order)[rows]
