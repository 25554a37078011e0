"""TIGER under other numbers: items, users and training rows may be renumbered.

Names of items are read by nobody, so renaming is renumbering. Codes follow from texts alone
(``test_codes_do_not_depend_on_the_order_of_the_items``); here items keep the tuples that they have.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.ragged import Ragged
from legos.systems.tiger.model import Tiger
from legos.systems.tiger.recipe import TrainingRows
from tests.data.test_windows import ITEMS, growing
from tests.systems.tiger.tigers import USERS, all_scores, reading, small_tiger

HISTORIES = [[3, 1, 4], [5], [], [9, 2, 6, 5]]
MODELS = pytest.mark.parametrize(
    "own",
    [
        {"reads": "causal", "history": "items", "softmax": "tree"},
        {"reads": "both_ways", "history": "codes", "softmax": "level"},
    ],
    ids=["tiger", "tiger_paper"],
)


def tiger(own: dict[str, str], back: Tensor | None = None) -> Tiger:
    """Equal weights in every call; item i has the codes that ``back[i]`` has without it."""
    model = small_tiger(items=ITEMS, **own)
    if back is not None:
        model.codes = model.codes[back]
    return model


def losses(model: Tiger, data: Interactions, tokens: Tensor, own: dict[str, str]) -> Tensor:
    """The losses of all next items, ascending, ``(R,)``; gradients stay in the model."""
    rows = TrainingRows(data, tokens, whole=own["reads"] == "causal")
    piece = rows.piece(torch.arange(rows.units), rows.units)
    found: Tensor = model(piece.reading, piece.items)
    found.sum().backward()
    return found.sort().values


def gradients(model: Tiger) -> list[Tensor]:
    return [torch.zeros(()) if p.grad is None else p.grad for p in model.parameters()]


def tokens_of(data: Interactions) -> Tensor:
    return torch.arange(int(data.users.max()) + 2) % USERS


@MODELS
def test_renumbered_items_have_the_same_scores_losses_and_gradients(own: dict[str, str]) -> None:
    back = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(4))
    new = back.argsort()
    model, other = tiger(own), tiger(own, back)
    renumbered = [new[torch.tensor(row, dtype=torch.int64)].tolist() for row in HISTORIES]
    before, after = all_scores(model, reading(HISTORIES)), all_scores(other, reading(renumbered))
    torch.testing.assert_close(after, before[:, back])
    data = growing([7, 1, 4, 9, 0, 2], most=20)
    moved = replace(
        data,
        histories=Ragged(new[data.histories.values], data.histories.offsets),
        candidates=Ragged(new[data.candidates.values], data.candidates.offsets),
    )
    tokens = tokens_of(data)
    torch.testing.assert_close(losses(other, moved, tokens, own), losses(model, data, tokens, own))
    for one, two in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(two, one)


@MODELS
def test_renumbered_users_learn_alike_where_their_tokens_go_with_them(own: dict[str, str]) -> None:
    data = growing([7, 1, 4, 9, 0, 2], most=20)
    tokens = tokens_of(data)
    new = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = replace(data, users=new[data.users])
    model, other = tiger(own), tiger(own)
    theirs = torch.cat([tokens[:-1][new.argsort()], tokens[-1:]])  # by id, so user by user
    torch.testing.assert_close(losses(other, moved, theirs, own), losses(model, data, tokens, own))
    for one, two in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(two, one)


@MODELS
def test_training_rows_in_another_order_have_the_same_losses(own: dict[str, str]) -> None:
    data = growing([7, 1, 4, 9, 0, 2], most=20)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(6))
    shuffled = data.select(order)
    model, other, tokens = tiger(own), tiger(own), tokens_of(data)
    before, after = losses(model, data, tokens, own), losses(other, shuffled, tokens, own)
    torch.testing.assert_close(after, before)
    for one, two in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(two, one)
