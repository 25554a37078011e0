"""Which items readers of the training split opened after which others."""

from __future__ import annotations

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.ragged import Ragged, from_owners


def click_graph(train: Interactions, num_items: int) -> Ragged:
    """The items that were read right before each item, those of most readers first.

    GLORY's trajectory graph (Yang et al., RecSys 2023): an edge for every two items that follow
    each other in a reader's history, weighted by how often. A reader counts once, with the longest
    history that an impression of the training split has; the authors take that of the first
    impression, and MIND has no other. Histories of other splits are not read, and clicks of the
    training split only where a later history has them.

    Args:
        train: the training split.
        num_items: number of items.

    Returns:
        A row an item, ids by falling weight, equal ones by number; an item itself is left out.
    """
    histories = train.histories.select(_longest(train))
    rows, items = histories.rows, histories.values
    follows = (rows[1:] == rows[:-1]) & (items[1:] != items[:-1])
    before, after = items[:-1][follows], items[1:][follows]
    edges, weights = torch.unique(after * num_items + before, return_counts=True)  # by item, number
    after, before = edges // num_items, edges % num_items
    order = weights.argsort(descending=True, stable=True)
    order = order[after[order].argsort(stable=True)]
    return from_owners(before[order], after[order], num_items)


def _longest(train: Interactions) -> Tensor:
    """Of every reader with an impression the state with most clicks, ``(R,)`` int64."""
    states: Tensor = torch.unique(train.history_rows)
    states = states[train.history_clicks[states].argsort(stable=True)]
    states = states[train.history_users[states].argsort(stable=True)]
    users = train.history_users[states]
    last = torch.ones_like(users, dtype=torch.bool)
    last[:-1] = users[1:] != users[:-1]
    return states[last]
