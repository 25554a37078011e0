"""Vectors of ids with a shared vector of zeros for the unknown (the learned one: item ids)."""

from __future__ import annotations

import torch

from legos.blocks.embedding import IDVectors


def test_unknown_ids_are_zeros_where_nothing_is_learned_for_them() -> None:
    known = torch.tensor([True, False, True])
    module = IDVectors(known=known, size=4, id_dropout=0.0, learn_unknown=False)
    found = module.look_up(torch.tensor([2, 1, 3, 0]))
    assert torch.equal(found[[0, 3]], module.vectors[[2, 0]])
    assert not found[[1, 2]].any()
    assert set(module.state_dict()) == {"vectors"}


def test_all_ids_at_once_are_as_in_two_parts_gradients_included() -> None:
    known, ids = torch.tensor([True, False, True, True]), torch.arange(4)
    module = IDVectors(known=known, size=3, id_dropout=0.0, initial_std=0.5)
    weights = torch.randn(4, 3)
    found = []
    for parts in ([ids], [ids[:1], ids[1:]]):
        module.zero_grad()
        vectors = torch.cat([module.look_up(part) for part in parts])
        (vectors * weights).sum().backward()
        found.append([vectors, *(each.grad for each in module.parameters())])
    for whole, parted in zip(*found, strict=True):
        assert torch.equal(whole, parted)
