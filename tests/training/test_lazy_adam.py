"""LazyAdam: rows that are read change as with Adam, the others not at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, SparseAdam

from legos.blocks.embedding import IDVectors
from legos.errors import ConfigError
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.lazy_adam import LazyAdam, clip_sparse_norm
from tests.bricks import random_recommender, random_store

ROWS, WIDTH = 7, 3


def table() -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    return nn.Parameter(torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64))


def gradient(rows: Tensor, step: int) -> Tensor:
    """Sparse, with repeated rows as they come."""
    generator = torch.Generator().manual_seed(step)
    values = torch.randn(len(rows), WIDTH, generator=generator, dtype=torch.float64)
    return torch.sparse_coo_tensor(
        rows[None], values, (ROWS, WIDTH), check_invariants=True, is_coalesced=False
    )


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_with_a_gradient_for_every_row_it_is_adam(decay: float) -> None:
    lazy, dense = table(), table()
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": decay}
    optimizers = LazyAdam([lazy], **settings), Adam([dense], **settings)
    for step in range(5):
        lazy.grad = gradient(torch.randperm(ROWS).repeat(2), step)
        dense.grad = lazy.grad.to_dense()
        for each in optimizers:
            each.step()
            each.zero_grad()
    torch.testing.assert_close(lazy, dense, rtol=0, atol=1e-12)
    own, other = (each.state[p] for each, p in zip(optimizers, (lazy, dense), strict=True))
    assert own.keys() == other.keys()
    for name, value in own.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-12)


def test_it_is_torchs_sparse_adam_and_other_rows_keep_every_bit() -> None:
    own, reference, before = table(), table(), table()
    settings: dict[str, Any] = {"lr": 0.1, "eps": 1e-30}  # which torch adds at another place
    optimizers = LazyAdam([own], **settings), SparseAdam([reference], **settings)
    for step, rows in enumerate([[1, 4, 1], [4], [], [0, 4]]):
        for parameter, optimizer in zip((own, reference), optimizers, strict=True):
            parameter.grad = gradient(torch.tensor(rows, dtype=torch.int64), step)
            optimizer.step()
    torch.testing.assert_close(own, reference, rtol=0, atol=1e-12)
    assert torch.equal(own[[2, 3, 5, 6]], before[[2, 3, 5, 6]])
    assert not torch.isclose(own[[0, 1, 4]], before[[0, 1, 4]]).any()


def test_dense_gradients_are_those_of_adam_bit_by_bit() -> None:
    own, other = table(), table()
    optimizers = LazyAdam([own], lr=0.1, fused=True), Adam([other], lr=0.1, fused=True)
    for step in range(4):
        for parameter, optimizer in zip((own, other), optimizers, strict=True):
            parameter.grad = gradient(torch.arange(ROWS), step).to_dense()
            optimizer.step()
    assert torch.equal(own, other)


@pytest.mark.parametrize("clip", [0.5, 100.0])
def test_clipping_by_norm_counts_sparse_gradients_as_dense_ones(clip: float) -> None:
    own, other, sparse = (
        [table(), table()],
        [table(), table()],
        gradient(torch.tensor([1, 4, 1]), 0),
    )
    own[0].grad, own[1].grad = sparse, sparse.to_dense() * 2
    other[0].grad, other[1].grad = sparse.to_dense(), sparse.to_dense() * 2
    norm = clip_sparse_norm([*own, table()], clip)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(other, clip))
    for one, two in zip(own, other, strict=True):
        assert one.grad is not None
        assert two.grad is not None
        found = one.grad.to_dense() if one.grad.is_sparse else one.grad
        torch.testing.assert_close(found, two.grad)


def test_the_sparse_gradient_of_ids_is_the_dense_one() -> None:
    known = torch.tensor([True, True, False, True, True, True])
    ids, weights = torch.tensor([3, 0, 2, 3, 9]), torch.randn(5, WIDTH)
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        vectors = IDVectors(known=known, size=WIDTH, id_dropout=0.0)
        vectors.sparse = sparse
        functional.mse_loss(vectors.look_up(ids), weights).backward()
        assert vectors.vectors.grad is not None
        assert vectors.vectors.grad.is_sparse == sparse
        assert vectors.unknown is not None
        found.append((vectors.vectors.grad.to_dense(), vectors.unknown.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


@pytest.mark.parametrize("other", [{"num_processes": 2}, {"scaler": object()}])
def test_many_processes_and_fp16_are_refused(other: dict[str, Any]) -> None:
    accelerator: Any = SimpleNamespace(**{"num_processes": 1, "scaler": None, **other})
    config: Any = SimpleNamespace(optimizer="lazy_adam", item_page_size=0)
    store, rows = random_store(), SimpleNamespace()
    with pytest.raises(ConfigError, match="one process in fp32 or bf16"):
        BricksRecipe(accelerator, random_recommender(store), store, rows, config)  # type: ignore[arg-type]
