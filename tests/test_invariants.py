"""What every registered brick must keep: one matrix over all registries (docs/design.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import legos.recommender  # noqa: F401 - fills the registries
from legos.data.items import ItemStore
from legos.data.ragged import Ragged
from legos.registry import item_encoders, predictors, user_encoders
from tests.bricks import (
    HIDDEN,
    ITEM_ENCODERS,
    ITEMS,
    PREDICTORS,
    USER_ENCODERS,
    build,
    histories,
    make_embeddings,
    make_store,
)

items_matrix = pytest.mark.parametrize("choice", ITEM_ENCODERS.values(), ids=ITEM_ENCODERS)
users_matrix = pytest.mark.parametrize("choice", USER_ENCODERS.values(), ids=USER_ENCODERS)
predictors_matrix = pytest.mark.parametrize("choice", PREDICTORS.values(), ids=PREDICTORS)


def close(first: Tensor, second: Tensor, tolerance: float = 1e-5) -> bool:
    return torch.allclose(first, second, atol=tolerance, rtol=tolerance)


def empty_texts(store: ItemStore) -> ItemStore:
    nothing = Ragged(torch.zeros(0, dtype=torch.int64), torch.zeros(ITEMS + 1, dtype=torch.int64))
    return ItemStore(
        fields=store.fields,
        texts=dict.fromkeys(store.texts, nothing),
        categories=store.categories,
        num_items=ITEMS,
    )


# --- batch independence -----------------------------------------------------------------------


@items_matrix
def test_item_alone_equals_item_in_batch(choice: dict) -> None:
    encoder, store = build(item_encoders, choice).eval(), make_store()
    together = encoder(store.batch(torch.arange(ITEMS)))
    assert together.shape == (ITEMS, HIDDEN)
    for item in (0, 3, ITEMS - 1):
        assert close(encoder(store.batch(torch.tensor([item])))[0], together[item])


@items_matrix
def test_items_do_not_depend_on_order_or_repetition(choice: dict) -> None:
    encoder, store = build(item_encoders, choice).eval(), make_store()
    order = torch.randperm(ITEMS).repeat(2)
    together = encoder(store.batch(torch.arange(ITEMS)))
    assert close(encoder(store.batch(order)), together[order])


@users_matrix
def test_user_alone_equals_user_in_batch(choice: dict) -> None:
    encoder = build(user_encoders, choice).eval()
    history, mask = histories()
    together = encoder(history, mask)
    for user in range(len(history)):
        assert close(encoder(history[user : user + 1], mask[user : user + 1])[0], together[user])


@predictors_matrix
def test_pair_alone_equals_pair_in_batch(choice: dict) -> None:
    predictor = build(predictors, choice).eval()
    user, candidates = torch.randn(4, HIDDEN), torch.randn(4, 5, HIDDEN)
    together = predictor(user, candidates)
    assert together.shape == (4, 5)
    assert close(predictor(user[2:3], candidates[2:3, 1:2])[0, 0], together[2, 1])


# --- padding and order ------------------------------------------------------------------------


@users_matrix
def test_user_encoder_ignores_padding(choice: dict) -> None:
    encoder = build(user_encoders, choice).eval()
    history, mask = histories()
    expected = encoder(history, mask)
    changed = torch.where(mask[..., None], history, 1e3 * torch.randn_like(history))
    assert close(encoder(changed, mask), expected)
    longer = torch.cat([history, torch.randn(len(history), 3, HIDDEN)], 1)
    padded = torch.cat([mask, torch.zeros(len(mask), 3, dtype=torch.bool)], 1)
    assert close(encoder(longer, padded), expected)


@users_matrix
def test_user_encoder_heeds_order_only_if_it_says_so(choice: dict) -> None:
    encoder = build(user_encoders, choice).eval()
    history = torch.randn(3, 7, HIDDEN)
    mask = torch.ones(3, 7, dtype=torch.bool)
    same = close(encoder(history.flip(1), mask), encoder(history, mask))
    assert same == (not encoder.order_aware)


# --- degenerate input -------------------------------------------------------------------------


@items_matrix
def test_items_without_any_text_are_finite(choice: dict) -> None:
    encoder, store = build(item_encoders, choice), empty_texts(make_store())
    vectors = encoder(store.batch(torch.arange(ITEMS)))
    vectors.sum().backward()
    assert vectors.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


@users_matrix
def test_empty_histories_are_finite(choice: dict) -> None:
    encoder = build(user_encoders, choice)
    history = torch.randn(3, 4, HIDDEN, requires_grad=True)
    vectors = encoder(history, torch.zeros(3, 4, dtype=torch.bool))
    vectors.sum().backward()
    assert vectors.isfinite().all()
    assert history.grad is not None
    assert history.grad.isfinite().all()


# --- gradients --------------------------------------------------------------------------------


def gradients_reach_everything(module: nn.Module, output: Tensor) -> list[str]:
    """Names of the trainable parameters that no gradient reaches."""
    if output.requires_grad:
        (output * torch.randn_like(output)).sum().backward()
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]


@items_matrix
def test_every_trainable_item_parameter_gets_a_gradient(choice: dict) -> None:
    encoder, store = build(item_encoders, choice), make_store()
    assert gradients_reach_everything(encoder, encoder(store.batch(torch.arange(ITEMS)))) == []


@users_matrix
def test_every_trainable_user_parameter_gets_a_gradient(choice: dict) -> None:
    encoder = build(user_encoders, choice)
    assert gradients_reach_everything(encoder, encoder(*histories())) == []


@predictors_matrix
def test_every_trainable_predictor_parameter_gets_a_gradient(choice: dict) -> None:
    predictor = build(predictors, choice)
    scores = predictor(torch.randn(4, HIDDEN), torch.randn(4, 5, HIDDEN))
    assert gradients_reach_everything(predictor, scores) == []


@items_matrix
def test_frozen_vectors_stay_bit_identical(choice: dict) -> None:
    encoder = build(item_encoders, choice, embeddings=make_embeddings(frozen=True))
    frozen = {n: p.detach().clone() for n, p in encoder.named_parameters() if not p.requires_grad}
    trained = {n: p.detach().clone() for n, p in encoder.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    encoder(make_store().batch(torch.arange(ITEMS))).square().sum().backward()
    optimizer.step()
    now = dict(encoder.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert any(not torch.equal(now[name], value) for name, value in trained.items())


# --- storage, precision, device ---------------------------------------------------------------

FAMILIES = {
    **{f"item {name}": (item_encoders, choice) for name, choice in ITEM_ENCODERS.items()},
    **{f"user {name}": (user_encoders, choice) for name, choice in USER_ENCODERS.items()},
    **{f"predictor {name}": (predictors, choice) for name, choice in PREDICTORS.items()},
}
everything = pytest.mark.parametrize(("registry", "choice"), FAMILIES.values(), ids=FAMILIES)


def output_of(module: nn.Module, registry: object, device: str = "cpu") -> Tensor:
    torch.manual_seed(3)
    if registry is item_encoders:
        store = make_store().to(device)
        return module(store.batch(torch.arange(ITEMS, device=device)))
    if registry is user_encoders:
        history, mask = histories()
        return module(history.to(device), mask.to(device))
    user, candidates = torch.randn(4, HIDDEN), torch.randn(4, 5, HIDDEN)
    return module(user.to(device), candidates.to(device))


@everything
def test_save_and_load_reproduce_outputs_exactly(
    registry: object, choice: dict, tmp_path: Path
) -> None:
    module = build(registry, choice).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    expected = output_of(module, registry)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    other = build(registry, choice).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(output_of(other, registry), expected)


@everything
def test_bf16_stays_close_to_fp32(registry: object, choice: dict) -> None:
    module = build(registry, choice).eval()
    exact = output_of(module, registry)
    with torch.autocast("cpu", torch.bfloat16):
        rough = output_of(module, registry).float()
    assert close(rough, exact, 0.05 * max(1.0, float(exact.detach().abs().max())))


@everything
def test_gpu_agrees_with_cpu(registry: object, choice: dict) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    module = build(registry, choice).eval()
    expected = output_of(module, registry)
    assert close(output_of(module.cuda(), registry, "cuda").cpu(), expected, 1e-4)
