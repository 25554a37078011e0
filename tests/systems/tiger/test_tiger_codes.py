"""Codes of items: residual quantisation by hand, an RQ-VAE's loss by hand, tuples that differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from legos.systems.tiger.quantiser import (
    Quantiser,
    _RqVae,
    further_codes,
    semantic_ids,
)
from legos.systems.tiger.settings import CodeSettings
from legos.systems.tiger.texts import _dense


def _vectors(count: int = 60, width: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(5, width, generator=generator)
    noise = torch.randn(count, width, generator=generator)
    return centres[torch.arange(count) % 5] + 0.3 * noise


def test_codes_by_hand() -> None:
    # level 0: nearest of 0 and 10; level 1: what is left, nearest of -1 and 2
    books = [torch.tensor([[0.0], [10.0]]), torch.tensor([[-1.0], [2.0]])]
    vectors = torch.tensor([[1.5], [9.0], [12.5], [-0.2], [4.9]])
    expected = [[0, 1], [1, 0], [1, 1], [0, 0], [0, 1]]
    assert Quantiser([], books)(vectors).tolist() == expected


def test_an_encoder_comes_before_the_codes() -> None:
    layers = [
        (torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 1.0])),  # x and 1 - x, then ReLU
        (torch.tensor([[1.0, 2.0]]), torch.tensor([-1.0])),
    ]
    quantiser = Quantiser(layers, [torch.tensor([[0.0], [3.0]])])
    # x = 4: relu(4), relu(-3) -> 4 - 1 = 3; x = -1: 0, 2 -> 4 - 1 = 3; x = 0.9: 0.9 + 0.2 - 1 = 0.1
    assert quantiser(torch.tensor([[4.0], [-1.0], [0.9]]))[:, 0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("method", ["kmeans", "rq_vae"])
def test_tuples_differ_follow_from_the_seed_and_can_be_made_again(method: str) -> None:
    vectors = torch.cat([_vectors(), _vectors()[:4], torch.zeros(3, 6)])  # some say the same
    own = CodeSettings.model_validate(
        {"method": method, "size": 4, "levels": 2}
        | ({"hidden": (8,), "width": 4, "epochs": 5} if method == "rq_vae" else {})
    )
    found, again = (semantic_ids(vectors, own, seed=3) for _ in range(2))
    assert torch.equal(found.codes, again.codes)
    assert len(found.codes.unique(dim=0)) == len(vectors)
    assert found.codes[:, :2].max() < 4
    assert torch.equal(found.quantiser(vectors), found.codes[:, :2])
    kept = Quantiser.from_tensors(dict(found.quantiser.state_dict()))
    assert torch.equal(kept(vectors), found.codes[:, :2])
    assert torch.equal(found.codes[60:64, :2], found.codes[:4, :2])  # of equal texts


def test_further_items_are_numbered_on() -> None:
    known = torch.tensor([[1, 2, 0], [1, 2, 1], [3, 3, 0]])
    found = torch.tensor([[1, 2], [0, 0], [3, 3], [1, 2], [0, 0]])
    expected = [[1, 2, 2], [0, 0, 0], [3, 3, 1], [1, 2, 3], [0, 0, 1]]
    assert further_codes(known, found).tolist() == expected


def test_the_loss_of_an_rq_vae_by_hand() -> None:
    model = _RqVae([1, 1], levels=2, size=2)
    encoder, decoder = model.encoder[0], model.decoder[0]
    with torch.no_grad():
        for layer, weight, bias in ((encoder, 2.0, 0.0), (decoder, 0.5, 1.0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
        model.codebooks[0].copy_(torch.tensor([[0.0], [5.0]]))
        model.codebooks[1].copy_(torch.tensor([[1.0], [-1.0]]))
    # x = 3: z = 6; level 0: 5, left 1; level 1: 1, left 0; decoded 0.5 * 6 + 1 = 4, off by 1
    # codes: (6 - 5)² + (1 - 1)² = 1 and beta = 0.5 times that
    loss = model.loss(torch.tensor([[3.0]]), 0.5)
    assert loss.item() == pytest.approx(1 + 0.5 + 1)
    loss.backward()
    # d/dz: straight through the decoder 2 * (4 - 3) * 0.5 = 1, commitment 0.5 * 2 * 1 = 1 on level
    # 0 and 0 on level 1; dz/dw = 3
    assert float(encoder.weight.grad) == pytest.approx(3 * 2.0)
    assert model.codebooks[0].grad.flatten().tolist() == [0.0, -2.0]  # 2 * (5 - 6)


@pytest.mark.parametrize("method", ["kmeans", "rq_vae"])
def test_codes_do_not_depend_on_the_order_of_the_items(method: str) -> None:
    vectors = torch.cat([_vectors(), _vectors()[:4]])
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(7))
    own = CodeSettings.model_validate(
        {"method": method, "size": 4, "levels": 2, "iterations": 3}
        | ({"hidden": (8,), "width": 4, "epochs": 3} if method == "rq_vae" else {})
    )
    found, other = (semantic_ids(each, own, seed=3) for each in (vectors, vectors[order]))
    books, others = found.quantiser.state_dict(), other.quantiser.state_dict()
    assert all(torch.equal(books[name], others[name]) for name in books)
    assert torch.equal(other.codes[:, :-1], found.codes[order, :-1])
    # the last code tells items of equal codes apart by their rows: the same ones, handed out anew
    assert sorted(other.codes.tolist()) == sorted(found.codes.tolist())


def test_an_rq_vae_steps_by_the_optimizer_that_is_named() -> None:
    own = {"method": "rq_vae", "size": 4, "levels": 1, "hidden": (), "width": 4, "epochs": 1}
    vectors = _vectors()

    def encoder(**more: object) -> Tensor:
        settings = CodeSettings.model_validate({**own, "batch_size": 60, **more})
        return semantic_ids(vectors, settings, seed=0).quantiser.state_dict()["weight_0"]

    start = encoder(lr=1e-30)
    for optimizer in ("adam", "adagrad"):  # the first step of both: lr times the gradient's sign
        moved = encoder(optimizer=optimizer, lr=0.4) - start
        torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.4))
    twice = {name: encoder(optimizer=name, lr=0.4, epochs=2) for name in ("adam", "adagrad")}
    assert not torch.allclose(twice["adam"], twice["adagrad"], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.01), ("adagrad", 0.4)])
def test_training_an_rq_vae_lowers_its_loss(optimizer: str, lr: float) -> None:
    said: list[str] = []
    losses = []
    for epochs in (1, 60):
        own = CodeSettings.model_validate(
            {
                "method": "rq_vae", "size": 4, "levels": 2, "hidden": (8,), "width": 4,
                "epochs": epochs, "batch_size": 16, "optimizer": optimizer, "lr": lr,
            }
        )  # fmt: skip
        semantic_ids(_vectors(), own, seed=0, say=said.append)
        losses.append(float(said[-1].rpartition(" ")[2]))
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize("shape", [(1, 5), (4, 1)])
def test_one_item_or_one_word_has_nothing_to_factorise(shape: tuple[int, int]) -> None:
    words = sparse.csr_matrix(np.ones(shape))
    assert np.array_equal(_dense(words), np.ones(shape))
