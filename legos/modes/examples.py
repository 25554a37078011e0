"""A few readers of a test split and what a trained system recommends to them, for the report."""

from __future__ import annotations

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.ragged import Ragged
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.evaluation.rank import NO_ITEM
from legos.reports.examples import Examples, ShownItem, ShownReader
from legos.systems.protocol import Readers, System

_READERS, _READ, _TOP = 10, 5, 5
_DRAW = 83  # key of random numbers


def examples_of(
    system: System, tables: Tables, interactions: Interactions, *, seed: int
) -> Examples:
    """Recommend to readers that are drawn by the seed; every process calls it.

    Lists leave out what a reader had read before the impression, as evaluations do.

    Args:
        system: with trained weights.
        tables: its data set.
        interactions: a test split.
        seed: of the draw.
    """
    rows = _drawn(interactions, seed)
    users = interactions.users.cpu()[rows]
    stored = tables.lists("histories", "items").select(interactions.history_rows.cpu()[rows])
    histories = Ragged(stored.values.long(), stored.offsets)
    best = system.recommender().top(Readers(users, histories), _TOP, histories)
    clicked = interactions.candidates.keep(interactions.labels == 1)
    names, ids = _titles(tables), tables.vocabulary("item_id")
    people = tables.vocabulary("user_id")

    def shown(items: Tensor, clicks: frozenset[int] = frozenset()) -> list[ShownItem]:
        return [
            ShownItem(item=ids[item], title=names[item] or ids[item], clicked=item in clicks)
            for item in items.tolist()
            if item != NO_ITEM
        ]

    return Examples(
        split=interactions.split,
        readers=[
            ShownReader(
                user=people[user],
                read=shown(histories.row(place)[-_READ:].flip(0)),
                top=shown(best.items[place], frozenset(clicked.row(int(rows[place])).tolist())),
            )
            for place, user in enumerate(users.tolist())
        ],
    )


def _drawn(interactions: Interactions, seed: int) -> Tensor:
    """Impressions ``(n,)`` int64 of different users that have read something."""
    histories = interactions.histories.lengths.cpu()[interactions.history_rows.cpu()]
    rows = histories.nonzero()[:, 0]
    order = rows[keyed_bits(rows, 1, _DRAW, seed)[:, 0].argsort(stable=True)]
    chosen: dict[int, int] = {}
    for row, user in zip(order.tolist(), interactions.users.cpu()[order].tolist(), strict=True):
        chosen.setdefault(user, row)
        if len(chosen) == _READERS:
            break
    return torch.tensor(list(chosen.values()), dtype=torch.int64)


def _titles(tables: Tables) -> list[str]:
    """What each item is called; "" where nothing says."""
    field = tables.title_field
    return [""] * tables.num_items if field is None else tables.texts(field)
