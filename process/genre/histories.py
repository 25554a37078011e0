"""Which of a user's clicks a language model may see."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from legos.data.ragged import RaggedArray, from_lengths
from legos.data.tables import Tables
from legos.errors import ConfigError, nearest

History = Literal["train", "valid", "all"]
HISTORIES: tuple[str, ...] = get_args(History)
LEAKY = "all"
MEANING = {
    "train": "what the training impressions show of a user; nothing of valid or test",
    "valid": "what precedes a user's first validation click; neither target is in it",
    "all": "every click, the held-out ones included: LEAKS the targets, an upper bound only",
}


def user_histories(tables: Tables, history: str) -> RaggedArray:
    """The clicks of every user, oldest first; empty where there are none.

    ``train`` is the longest state of a user's training impressions, ``valid`` the shortest of the
    validation impressions; ``all`` is the longest state of any split, then every click of a split
    that is not in it.

    Raises:
        ConfigError: no such history, or the tables lack the split.
    """
    if history not in HISTORIES:
        raise ConfigError(f"--history {history}: {nearest(history, HISTORIES)}")
    if history != LEAKY and history not in tables.splits:
        raise ConfigError(f"--history {history}: {tables.folder} has no split of this name")
    states = tables.lists("histories", "items").numpy()
    splits = tables.splits if history == LEAKY else [history]
    users = np.concatenate([tables.scalar(split, "user_id").numpy() for split in splits])
    rows = np.concatenate([tables.scalar(split, "history").numpy() for split in splits])
    rows = rows.astype(np.int64)
    lengths = states.lengths[rows]
    order = np.lexsort((rows, -lengths if history == "valid" else lengths))
    chosen = np.full(tables.num_users, -1, dtype=np.int64)
    chosen[users[order]] = rows[order]  # of several writes the last one stays
    found = chosen >= 0
    taken = states.select(chosen[found])
    counts = np.zeros(tables.num_users, dtype=np.int64)
    counts[found] = taken.lengths
    histories = from_lengths(taken.values, counts)
    return _with_clicks(tables, histories, splits) if history == LEAKY else histories


def clicks(tables: Tables, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The clicked candidates of a split: ``(n,)`` users and ``(n,)`` items, in order."""
    candidates, labels = tables.lists(split, "candidates"), tables.lists(split, "labels")
    clicked = labels.values.numpy() == 1
    rows = candidates.rows.numpy()[clicked]
    return tables.scalar(split, "user_id").numpy()[rows], candidates.values.numpy()[clicked]


def _with_clicks(tables: Tables, histories: RaggedArray, splits: list[str]) -> RaggedArray:
    whole = [dict.fromkeys(histories.row(user).tolist()) for user in range(len(histories))]
    for split in splits:
        for user, item in zip(*(part.tolist() for part in clicks(tables, split)), strict=True):
            whole[user].setdefault(item)
    lengths = np.array([len(row) for row in whole], dtype=np.int64)
    values = np.array([item for row in whole for item in row], dtype=np.int32)
    return from_lengths(values, lengths)
