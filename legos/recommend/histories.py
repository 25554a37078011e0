"""What every user has had, out of all splits of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from legos.data.ragged import Ragged, RaggedArray, from_owners, join_rows
from legos.data.tables import Tables


@dataclass(frozen=True)
class _Impressions:
    """Impressions of some splits in the order of time.

    Attributes:
        users, states: ``(n,)`` int64.
        clicks: n rows of item numbers (int64).
    """

    users: np.ndarray
    states: np.ndarray
    clicks: RaggedArray


def whole_histories(tables: Tables, splits: Sequence[str]) -> Ragged:
    """Everything that each user has had, oldest first: U rows of item numbers (int64).

    A row begins with the history that held at the user's last impression. Behind it stand the
    clicks of impressions with this very history, and before those any others that are not in it,
    each item once. A history of the longest length that is stored has lost its oldest events: there
    the others come first.

    Args:
        tables: the data set.
        splits: in the order of time; within one the times of the impressions count, then their
            order.
    """
    parts = [_read(tables, split) for split in splits]
    users, states = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) for part in parts)])
        for name in ("users", "states")
    )
    newest = np.full(tables.num_users, -1)
    owners = tables.scalar("histories", "user_id").numpy()
    newest[owners] = np.arange(len(owners))  # of several writes the last one stays
    newest[users] = states
    read = histories_of(tables, newest)
    is_full = read.lengths == tables.lists("histories", "items").lengths.max().item()
    oldest = np.full(tables.num_users, -1)
    oldest[owners[::-1]] = np.arange(len(owners))[::-1]
    first = histories_of(tables, np.where(is_full, oldest, -1))  # no click of a split
    user = np.concatenate([first.rows, *(part.clicks.spread(part.users) for part in parts)])
    state = np.concatenate(
        [np.full(len(first.values), -1), *(part.clicks.spread(part.states) for part in parts)]
    )
    item = np.concatenate([first.values, *(part.clicks.values for part in parts)])
    pairs = user * tables.num_items + item
    after = state == newest[user]
    known = np.isin(pairs, read.rows * tables.num_items + read.values)
    kept = np.flatnonzero(after | ~known)
    order = kept[np.lexsort((after[kept], user[kept]))]  # stable: clicks after the state come last
    newest_first = order[::-1]
    _, last = np.unique(pairs[newest_first], return_index=True)  # splits may share impressions
    order = newest_first[np.sort(last)][::-1]
    is_lost = is_full[user[order]] & ~after[order]
    lost, clicks = (
        from_owners(item[some], user[some], tables.num_users)
        for some in (order[is_lost], order[~is_lost])
    )
    return join_rows([lost, read, clicks]).tensors()


def histories_before(tables: Tables, split: str) -> RaggedArray:
    """The history that held at each user's last impression of a split; empty without one."""
    impressions = _read(tables, split)
    newest = np.full(tables.num_users, -1)
    newest[impressions.users] = impressions.states
    return histories_of(tables, newest)


def histories_of(tables: Tables, states: np.ndarray) -> RaggedArray:
    """Histories by number, ``(n,)`` int64; -1: an empty one."""
    found = tables.lists("histories", "items").numpy()
    offsets = np.append(found.offsets, found.offsets[-1:])  # one more row, without items
    return Ragged(found.values.astype(np.int64), offsets).select(states)


def clicks_in(tables: Tables, split: str) -> Ragged:
    """The items that each user clicked in a split: U rows of item numbers (int64)."""
    impressions = _read(tables, split)
    users = impressions.clicks.spread(impressions.users)
    order = users.argsort(kind="stable")
    items = impressions.clicks.values[order]
    return from_owners(items, users[order], tables.num_users).tensors()


def _read(tables: Tables, split: str) -> _Impressions:
    """The impressions of a split by time; unlabelled candidates are no clicks."""
    candidates = tables.lists(split, "candidates")
    labels = tables.lists(split, "labels").values
    times = tables.scalar(split, "time").numpy()
    order = times.argsort(kind="stable")
    clicks = candidates.keep(labels == 1).select(torch.from_numpy(order)).numpy()
    return _Impressions(
        users=tables.scalar(split, "user_id").numpy()[order].astype(np.int64),
        states=tables.scalar(split, "history").numpy()[order].astype(np.int64),
        clicks=Ragged(clicks.values.astype(np.int64), clicks.offsets),
    )
