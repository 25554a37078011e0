"""Semantic codes: a vector a level, by code or by prefix, fused as described."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from legos.data.items import ItemBatch
from legos.errors import ConfigError
from legos.item.semantic_codes import SemanticCodes, SemanticCodesConfig
from legos.recommender import build_brick
from legos.registry import item_encoders
from legos.training.weights import load_model_tensors, model_tensors
from tests.item.padded import attend, dense, numbers

CODES = torch.tensor([[7, 0, 2], [7, 1, 2], [-1, -1, -1], [0, 1, 2], [7, 0, 2], [10**12, 0, 0]])
# numbered by hand, level after level, in the order of the codes
UNIGRAMS = {0: [1, 3, 6], 1: [1, 4, 6], 3: [0, 4, 6], 4: [1, 3, 6], 5: [2, 3, 5]}
PREFIXES = {0: [1, 4, 8], 1: [1, 5, 9], 3: [0, 3, 7], 4: [1, 4, 8], 5: [2, 6, 10]}


def batch(*ids: int) -> ItemBatch:
    return ItemBatch(torch.tensor(ids), {}, {})


def encoder(codes: torch.Tensor = CODES, **settings: Any) -> SemanticCodes:
    torch.manual_seed(0)
    config = SemanticCodesConfig(**settings)
    module = build_brick(item_encoders, config, {"item_codes": codes, "hidden_size": 4})
    assert isinstance(module, SemanticCodes)
    return module.double().eval()


@pytest.mark.parametrize(("prefix", "rows"), [(False, UNIGRAMS), (True, PREFIXES)])
@pytest.mark.parametrize("fusion", ["sum", "concat", "attention"])
def test_it_is_the_fusion_of_a_vector_a_level(
    fusion: str, prefix: bool, rows: dict[int, list[int]]
) -> None:
    module = encoder(fusion=fusion, prefix=prefix)
    assert len(module.table) == 1 + max(max(row) for row in rows.values())
    levels = numbers(module.table)[np.array(list(rows.values()))]  # (5, 3, 4)
    if fusion == "sum":
        expected = levels[:, 0] + levels[:, 1] + levels[:, 2]
    elif fusion == "concat":
        expected = dense(module.fuse.linear, np.concatenate(list(levels.transpose(1, 0, 2)), 1))
    else:
        expected = attend(module.fuse.attention, levels, np.ones((5, 3)))
    found = numbers(module(batch(*rows)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_prefix_tells_what_a_code_alone_means_apart() -> None:
    """Items 1 and 3 share their second and third code, under different first ones."""
    for prefix, shared in ((False, [False, True, True]), (True, [False, False, False])):
        rows = encoder(prefix=prefix).rows
        assert (rows[1] == rows[3]).tolist() == shared


def test_items_without_codes_and_new_items_share_a_learned_vector() -> None:
    module = encoder().train()
    vectors = module(batch(2, 6, 1000, 0))
    assert torch.equal(vectors[:3], module.missing.expand(3, -1))
    vectors.sum().backward()
    assert module.missing.grad is not None
    assert module.missing.grad.any()
    assert module.table.grad is not None
    assert module.table.grad.any(1).nonzero()[:, 0].tolist() == UNIGRAMS[0]


def test_a_checkpoint_knows_which_codes_its_tables_are_of() -> None:
    """Other codes of the same shape number other rows; those of training are restored."""
    trained = encoder()
    other = encoder(CODES[[4, 5, 1, 0, 3, 2]])
    load_model_tensors(other, model_tensors(trained), origin="here")
    everything = batch(*range(8))
    assert torch.equal(other(everything), trained(everything))


def test_codes_of_no_item_are_refused() -> None:
    with pytest.raises(ConfigError, match="none of the 6 items has semantic codes"):
        encoder(torch.full_like(CODES, -1))
