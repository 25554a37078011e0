"""Lists of shown items with clicks: they are impressions as they are, nothing is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from legos.data.ragged import Ragged, from_owners, offsets_of
from legos.errors import DataError
from process.interactions.rows import Interactions
from process.interactions.splits import SPLITS, VALID
from process.raw import Impressions, Numbered
from process.table.times import TICKS
from process.ties import mix, pair_hashes


@dataclass(frozen=True)
class ShownLists:
    """Impressions in the order of users and time; ``L`` lists, ``M`` items in them.

    Attributes:
        interactions: one row a list; its ``item`` means nothing.
        items: the shown items of each list, in an order that tells nothing.
        clicked: ``(M,)`` bool.
        names: ``(L,)`` str objects, the ids of the lists; None where they have none.
    """

    interactions: Interactions
    items: Ragged[np.ndarray]
    clicked: np.ndarray
    names: np.ndarray | None

    def take(self, order: np.ndarray) -> ShownLists:
        """The lists in another order ``(L,)``, by user as before."""
        return ShownLists(
            self.interactions.take(order),
            self.items.select(order),
            Ragged(self.clicked, self.items.offsets).select(order).values,
            None if self.names is None else self.names[order],
        )

    def impressions(
        self, codes: np.ndarray, *, longest: int, again: np.ndarray | None = None
    ) -> dict[str, Impressions]:
        """Impressions by split; a history has the clicks of the user's earlier lists.

        Args:
            codes: ``(L,)`` split of each list.
            longest: clicks that a history keeps.
            again: ``(L,)`` a split that has the list, too; -1 = none.
        """
        inter = self.interactions
        clicks = self.items.keep(self.clicked)
        before = clicks.offsets[:-1]  # of each list among all clicks
        begins = before[inter.user_offsets[:-1].clip(max=max(0, len(inter) - 1))][inter.user]
        lengths = np.minimum(before - begins, longest)
        found = {}
        for code, name in enumerate(SPLITS):
            asked = codes == code
            if again is not None:
                asked = asked | (again == code)
            rows = np.flatnonzero(asked)
            if not len(rows):
                continue
            shown = self.items.select(rows)
            labels = Ragged(self.clicked, self.items.offsets).select(rows).values
            names = self.names[rows] if self.names is not None else Numbered(len(rows))
            found[name] = Impressions(
                impression_id=names,
                user=inter.user[rows].astype(np.int32),
                time=inter.seconds[rows],
                history_values=clicks.values.astype(np.int32),
                history_offsets=offsets_of(lengths[rows]),
                history_starts=(before - lengths)[rows],
                candidate_values=shown.values.astype(np.int32),
                candidate_offsets=shown.offsets,
                labels=labels.astype(np.int8),
                negatives="shown",
            )
        return found


def shown_lists(
    shown: Interactions, owner: np.ndarray, clicked: np.ndarray, names: list[str] | None
) -> ShownLists:
    """Lay rows of a user, an item and a list together to lists.

    Args:
        shown: one row an item of a list.
        owner: ``(K,)`` int number of each row's list.
        clicked: ``(K,)`` bool.
        names: of the lists, by number.

    Raises:
        DataError: a list has two users, or nothing was clicked.
    """
    if not clicked.any():
        raise DataError("no item of any list was clicked; is --label the right column?")
    hashes = pair_hashes(shown.user_ids, shown.item_ids, shown.user, shown.item, 0)
    order = np.lexsort((~clicked, hashes, owner))  # clicked ones first of a repeated item
    owner, user, item = owner[order], shown.user[order], shown.item[order]
    once = np.ones(len(order), dtype=bool)
    once[1:] = (owner[1:] != owner[:-1]) | (item[1:] != item[:-1])
    other = (owner[1:] == owner[:-1]) & (user[1:] != user[:-1])
    if other.any():
        row = int(owner[1:][other][0])
        name = names[row] if names is not None else str(row + 1)
        raise DataError(f"impression {name!r} has more than one user")
    order, owner, user, item = order[once], owner[once], user[once], item[once]
    found, first, number = np.unique(owner, return_index=True, return_inverse=True)
    lists = from_owners(item, number, len(found))
    clicks = clicked[order]
    time = np.maximum.reduceat(shown.time[order], first)
    content = lists.sums(mix(hashes[order] ^ clicks.astype(np.uint64)).view(np.int64))
    in_time = np.lexsort((content, time, user[first]))
    flat = Ragged(clicks, lists.offsets).select(in_time)
    named = None if names is None else np.array(names, dtype=object)[found[in_time]]
    rows = Interactions(
        user_ids=shown.user_ids,
        item_ids=shown.item_ids,
        user=user[first][in_time],
        item=np.zeros(len(found), dtype=np.int32),
        rating=np.full(len(found), np.nan, dtype=np.float32),
        time=time[in_time],
        place=found[in_time].astype(np.int64),
        content=content[in_time].view(np.uint64),
        ticks=TICKS,
    )
    return ShownLists(rows, lists.select(in_time), flat.values, named)


def last_of_some(interactions: Interactions, most: int, seed: int) -> np.ndarray:
    """``(K,)`` int8: valid for the last row of at most ``most`` users that have two, else -1.

    Args:
        interactions: ordered by user and time.
        most: users.
        seed: draws them.
    """
    lengths = np.diff(interactions.user_offsets)
    able = np.flatnonzero(lengths >= 2)
    drawn = np.random.default_rng(seed).permutation(len(able))[:most]
    codes = np.full(len(interactions), -1, dtype=np.int8)
    codes[interactions.user_offsets[1:][able[np.sort(drawn)]] - 1] = VALID
    return codes
