"""A small random split over the items of tests/bricks.py."""

from __future__ import annotations

import torch

from legos.data.interactions import Interactions
from tests.bricks import ITEMS, ragged, random_lists


def make_interactions(
    impressions: int = 40, *, users: int = 12, history: int = 6, shown: int = 8, seed: int = 0
) -> Interactions:
    """Impressions with one to three clicks; some histories are empty, states are shared."""
    torch.manual_seed(seed)
    states = random_lists(2 * users, history, ITEMS)
    states[0] = []
    owners = torch.randint(0, users, (impressions,))
    candidates = [torch.randperm(ITEMS)[:shown].tolist() for _ in range(impressions)]
    labels = torch.zeros(impressions, shown, dtype=torch.int8)
    for row in range(impressions):
        labels[row, torch.randperm(shown)[: 1 + row % 3]] = 1
    return Interactions(
        split="train",
        users=owners,
        history_rows=owners + users * torch.randint(0, 2, (impressions,)),
        histories=ragged(states),
        history_users=torch.arange(2 * users) % users,
        history_clicks=ragged(states).lengths,
        candidates=ragged(candidates),
        labels=labels.view(-1),
        impression_vocabulary="impression_id@train",
        impression_ids=torch.arange(impressions),
    )
