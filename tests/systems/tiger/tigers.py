"""A small TIGER over random codes, and readers of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_rows
from legos.systems.tiger.model import Reading, Tiger
from legos.systems.tiger.quantiser import Quantiser
from legos.systems.tiger.settings import TigerModel
from legos.systems.tiger.writer import Histories

SIZES = (5, 4, 4, 3)
USERS = 7


def small_tiger(*, items: int = 30, seed: int = 0, **own: object) -> Tiger:
    """In float64 and evaluation mode; all tuples of codes differ."""
    torch.manual_seed(seed)
    tuples = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    codes = tuples[torch.randperm(len(tuples))[:items]]
    settings = TigerModel.model_validate(
        {
            "name": "tiger", "width": 8, "layers": 2, "heads": 2, "head_width": 4,
            "feed_forward": 12, "users": USERS, "softmax": "level", **own,
        }
    )  # fmt: skip
    model = Tiger(settings, codes, SIZES, Quantiser([], [])).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms, too
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def ragged(rows: list[list[int]]) -> Ragged:
    return from_rows([np.array(row, np.int64) for row in rows], "int64").tensors()


def histories(rows: list[list[int]], users: list[int] | None = None) -> Histories:
    tokens = torch.tensor(users or [at % USERS for at in range(len(rows))])
    return Histories(ragged(rows), tokens)


def reading(rows: list[list[int]], users: list[int] | None = None) -> Reading:
    """Every reader reads a history of its own."""
    found = histories(rows, users)
    return Reading(found.items, found.users, torch.arange(len(rows)), found.items.lengths)


def all_scores(model: Tiger, own: Reading) -> Tensor:
    """Log-probabilities of all items by their codes, ``(R, items)``."""
    with torch.no_grad():
        memory = model.read(own)
        return -model.losses(memory, model.codes.expand(len(own.rows), -1, -1))
