"""Exact gradient caching: pages change memory, not gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import legos.training.trainer
from legos.blocks.packed import Penalised
from legos.config.load import load_run_config
from legos.data.batch import Batch, TrainingRows
from legos.data.items import ItemBatch, ItemStore
from legos.data.sampling import NegativeSampler
from legos.errors import ConfigError
from legos.item.cnn import CNNConfig
from legos.recommender import Recommender
from legos.registry import BrickConfig, item_encoders, predictors, user_encoders
from legos.systems.bricks import recipe
from legos.systems.bricks.losses import CachedItems, even_pages, row_losses
from legos.systems.bricks.recipe import BricksRecipe, Piece
from legos.training.trainer import take_step
from legos.user.fastformer import FastformerConfig
from legos.workplace.device import make_accelerator
from tests.brick_forms import default_forms, fitting
from tests.bricks import random_interactions, random_profiles, random_recommender, random_store
from tests.tiny import tiny_tables
from tests.training.tiny_training import DEFAULTS, final_weights, tiny_training, train_tiny
from tests.training.two_processes import in_two_processes

READING_ITEMS = ("flatten", "npa", "poly_attention", "profile", "target_attention")
BRICKS = [
    *default_forms(item_encoders),
    *(form for form in default_forms(user_encoders) if form.values[0].name in READING_ITEMS),
]
IN_FLOAT32 = ("cnn", "language_model", "iisan")
"""A language model and its states have a dtype of their own; one other brick for comparison."""
BATCH_SIZE = 12


def in_both_dtypes() -> list[Any]:
    """Every brick in float64, where the tolerance is narrow, but for a few; float32 at night."""
    parameters = []
    for brick in BRICKS:
        name = brick.values[0].name
        marks = [] if name in IN_FLOAT32 else [pytest.mark.nightly]
        parameters.append(pytest.param(*brick.values, False, id=f"{name}-float32", marks=marks))
        if name not in ("language_model", "iisan"):
            parameters.append(pytest.param(*brick.values, True, id=f"{name}-float64"))
    return parameters


def without_dropout(config: BrickConfig) -> BrickConfig:
    """The same settings with every rate 0, in the bricks inside, too."""
    changed: dict[str, Any] = {}
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, BrickConfig):
            changed[key] = without_dropout(value)
        elif key.endswith("dropout"):
            changed[key] = 0.0
    return config.model_copy(update=changed)


def brick_training(
    brick: BrickConfig, *, double: bool = False, page_size: int = 0, dropout: bool = False
) -> BricksRecipe:
    """An item encoder, or a user encoder over a CNN, about to be trained."""
    brick = brick if dropout else without_dropout(brick)
    bricks: dict[str, Any] = {"item": CNNConfig(dropout=0.5 if dropout else 0.0, attention_size=8)}
    if brick.name in item_encoders.names() and isinstance(brick, item_encoders.config(brick.name)):
        bricks["item"] = brick
    else:
        output = brick.output  # type: ignore[attr-defined]
        bricks["user"] = brick
        bricks["predictor"] = fitting(predictors, lambda config: output in config.accepts)
        bricks["predictor"] = without_dropout(bricks["predictor"])
    store, data = random_store(), random_interactions()
    model = random_recommender(store, frozen_words=False, **bricks)
    sampler = NegativeSampler(data, num_items=len(store), strategy="impression", count=3, seed=0)
    config: Any = SimpleNamespace(**{**DEFAULTS, "metric": "GAUC", "item_page_size": page_size})
    training = BricksRecipe(
        make_accelerator(device="cpu", precision="fp32", deterministic=True),
        model.double() if double else model,
        store,
        TrainingRows(data, sampler),
        config,
        profiles=random_profiles(),
    )
    training.model.train()
    return training


def batch_of(training: BricksRecipe) -> Batch:
    return training.rows.batch(torch.arange(BATCH_SIZE), pass_number=0)


def gradients(training: BricksRecipe) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Losses of a batch and the gradient of every parameter."""
    loss = training.loss(
        Piece(training.rows.batch(torch.arange(BATCH_SIZE), pass_number=0), BATCH_SIZE)
    )
    training.replicas.backward(loss.value, 1 / BATCH_SIZE)
    if loss.backward is not None:
        loss.backward()
    assert loss.rows is not None
    return loss.rows, {name: each.grad for name, each in training.bare_model.named_parameters()}


def assert_same_gradients(
    found: dict[str, Tensor | None], expected: dict[str, Tensor | None], tolerance: float
) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(
                found[name],
                gradient,
                rtol=tolerance,
                atol=tolerance,
                msg=lambda text, name=name: name + text,
            )


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("tiny") / "tables")


@pytest.mark.slow
@pytest.mark.parametrize(("brick", "double"), in_both_dtypes())
def test_pages_give_the_gradients_of_one_graph(brick: BrickConfig, double: bool) -> None:
    losses, expected = gradients(brick_training(brick, double=double))
    assert any(gradient is not None and gradient.any() for gradient in expected.values())
    tolerance = 1e-12 if double else 1e-6
    for page_size in (1, 3, 7):
        paged = brick_training(brick, double=double, page_size=page_size)
        found_losses, found = gradients(paged)
        torch.testing.assert_close(found_losses, losses, rtol=0, atol=10 * tolerance)
        assert_same_gradients(found, expected, tolerance)
    whole = brick_training(brick, double=double, page_size=batch_of(paged).items.numel())
    assert_same_gradients(gradients(whole)[1], expected, 0.0)


@pytest.mark.slow
def test_the_penalty_is_part_of_the_loss() -> None:
    miner = brick_training(user_encoders.config("poly_attention")(), page_size=3)
    assert isinstance(miner.bare_model.user_encoder, Penalised)
    losses, _ = gradients(miner)
    miner.bare_model.user_encoder.penalty = lambda user: user.new_zeros(len(user))
    assert not torch.allclose(gradients(miner)[0], losses)


@pytest.mark.slow
def test_dropout_of_every_page_is_replayed_exactly() -> None:
    found = brick_training(FastformerConfig(dropout=0.3), double=True, page_size=7, dropout=True)
    torch.manual_seed(5)
    found_losses, found_gradients = gradients(found)
    after = torch.get_rng_state()
    expected = brick_training(FastformerConfig(dropout=0.3), double=True, dropout=True)
    torch.manual_seed(5)
    losses = paged_in_one_graph(expected, 7)
    assert torch.equal(torch.get_rng_state(), after)  # as if every page were encoded once
    torch.testing.assert_close(found_losses, losses, rtol=0, atol=1e-12)
    named = {name: each.grad for name, each in expected.bare_model.named_parameters()}
    assert_same_gradients(found_gradients, named, 1e-12)
    torch.manual_seed(6)
    assert not torch.allclose(paged_in_one_graph(expected, 7), losses)  # there is dropout


def paged_in_one_graph(training: BricksRecipe, page_size: int) -> Tensor:
    """Losses of a batch whose pages are encoded one after the other, all kept; and backward."""
    batch, store, model = batch_of(training), training.store, training.bare_model
    words = store.texts["title"].lengths + store.texts["abstract"].lengths
    words = words + sum(read.lengths for read in store.language.values())
    order = words[batch.items].argsort(stable=True)
    count = math.ceil(len(order) / page_size)
    places = [order[page::count] for page in range(count)]  # short and long items in every page
    pages = [model.encode_items(store.batch(batch.items[page])) for page in places]
    vectors = torch.cat(pages)[torch.cat(places).argsort()]
    scores, _ = model(batch, store.batch(batch.items), training.profiles, vectors)
    losses = row_losses("softmax", scores, batch.labels, batch.candidate_mask)
    losses.mean().backward()
    return losses.detach()


class Spy:
    """Counts the items that an item encoder has encoded and whose graph still waits."""

    def __init__(self, model: Recommender) -> None:
        self.waiting, self.most, self.without_graph = 0, 0, 0
        self._forward: Callable[[ItemBatch], Tensor] = model.item_encoder.forward
        model.item_encoder.forward = self

    def __call__(self, items: ItemBatch) -> Tensor:
        vectors, count = self._forward(items), len(items)
        if not vectors.requires_grad:
            self.without_graph += count
            return vectors
        self.waiting += count
        self.most = max(self.most, self.waiting)

        def done(_: Tensor) -> None:
            self.waiting -= count

        vectors.register_hook(done)
        return vectors


@pytest.mark.slow
def test_no_graph_holds_more_items_than_a_page(tables: Path) -> None:
    for acc_batch in (1, 2):
        paged = tiny_training(tables, item_page_size=5, acc_batch=acc_batch)
        spy = Spy(paged.bare_model)
        take_step(paged, [])
        assert (spy.most, spy.waiting) == (5, 0)
        assert spy.without_graph > 5
    plain = tiny_training(tables)
    spy = Spy(plain.bare_model)
    take_step(plain, [])
    assert spy.most > 30
    assert spy.without_graph == 0


def test_items_without_anything_trained_are_encoded_once() -> None:
    training = brick_training(CNNConfig(attention_size=8), page_size=5)
    training.bare_model.item_encoder.requires_grad_(False)
    spy = Spy(training.bare_model)
    _, found = gradients(training)
    assert (spy.most, spy.without_graph) == (0, batch_of(training).items.numel())
    assert all(found[name] is None for name in found if name.startswith("item_encoder."))
    assert all(found[name] is not None for name in found if name.startswith("user_encoder."))


@pytest.mark.slow
def test_mixed_precision_keeps_its_dtype_and_every_gradient() -> None:
    training = brick_training(CNNConfig(attention_size=8))
    model, store, items = training.bare_model, training.store, batch_of(training).items

    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    with autocast():
        expected = model.encode_items(store.batch(items))
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected.backward(upstream.to(expected.dtype))
    plain = {name: each.grad for name, each in model.item_encoder.named_parameters()}
    model.zero_grad()
    cached = CachedItems(model, store, items, page_size=4, autocast=autocast)
    assert cached.vectors.dtype == expected.dtype
    cached.vectors.grad = upstream.to(expected.dtype)
    cached.backward()
    for name, parameter in model.item_encoder.named_parameters():
        gradient = plain[name]
        assert (parameter.grad is None) == (gradient is None), name
        if parameter.grad is not None and gradient is not None:
            error = (parameter.grad - gradient).norm() / gradient.norm().clamp(min=1e-3)
            assert error < 0.02, name


@pytest.mark.slow
@pytest.mark.parametrize("acc_batch", [1, 2])
def test_a_whole_training_has_the_same_losses(tables: Path, tmp_path: Path, acc_batch: int) -> None:
    settings = {"dropout": 0.0, "double": True, "epochs": 2, "acc_batch": acc_batch}
    trained, losses = [], []
    for page_size in (0, 9):
        training = tiny_training(tables, item_page_size=page_size, **settings)
        losses.append(logged_losses(training, tmp_path / str(page_size)))
        trained.append(final_weights(training))
    assert len(losses[0]) > 10
    assert losses[1] == pytest.approx(losses[0], abs=1e-9)
    for name, weight in trained[0].items():
        torch.testing.assert_close(trained[1][name], weight, rtol=0, atol=1e-9)


def logged_losses(
    training: BricksRecipe, folder: Path, *, stop_at: int | None = None
) -> list[float]:
    """Train; the loss of every step. ``stop_at``: break off after so many steps."""
    losses: list[float] = []

    def stepping(*arguments: Any) -> Any:
        if training.progress.step == stop_at:
            raise RuntimeError("killed")
        answer = take_step(*arguments)
        losses.append(answer[0]["loss"])
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legos.training.trainer, "take_step", stepping)
        killed = pytest.raises(RuntimeError, match="killed") if stop_at else nullcontext()
        with killed:
            train_tiny(training, folder)
    return losses


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tables: Path, tmp_path: Path) -> None:
    settings = {"epochs": 2, "item_page_size": 9, "checkpoint_steps": 5, "dropout": 0.3}
    straight = tiny_training(tables, **settings)
    expected = logged_losses(straight, tmp_path / "straight")
    logged_losses(tiny_training(tables, **settings), tmp_path / "killed", stop_at=8)
    resumed = tiny_training(tables, **settings)
    assert logged_losses(resumed, tmp_path / "killed") == expected[5:]
    weights = final_weights(straight)
    for name, weight in final_weights(resumed).items():
        assert torch.equal(weight, weights[name])


@pytest.mark.multiprocess
def test_two_processes_equal_one(tables: Path, tmp_path: Path) -> None:
    in_two_processes(["-m", "tests.systems.bricks.two_paged", str(tables), str(tmp_path)])
    one = tiny_training(
        tables, batch_size=16, item_page_size=7, dropout=0.0, double=True, acc_batch=2
    )
    for _ in range(one.stream.steps_per_pass + 1):
        take_step(one, [])
    found = load_file(tmp_path / "weights.safetensors")
    for name, weight in final_weights(one).items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-9)


def test_page_size_is_read_from_the_command_line() -> None:
    arguments = ["--data", "mind", "--model", "naml", "--exp", "tt"]

    def page_size(*words: str) -> int:
        return load_run_config([*arguments, *words]).exp.train.item_page_size

    assert page_size() == 0
    assert page_size("--item_page_size", "256") == 256
    assert page_size("--exp.train.item_page_size", "32") == 32
    with pytest.raises(ConfigError, match=r"exp\.train\.item_page_size"):
        page_size("--exp.train.item_page_size", "-1")


def test_pages_of_shared_layers_are_refused(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "is_shared_out", lambda model: True)
    with pytest.raises(ConfigError, match="item_page_size 4 cannot be combined with"):
        tiny_training(tables, item_page_size=4)


def test_lengths_count_everything_that_is_read() -> None:
    store = random_store()
    words = store.texts["title"].lengths + store.texts["abstract"].lengths
    read = store.language["tokens"].lengths + 2  # and the rows of pooled and of final states
    assert torch.equal(store.lengths, words + read)
    bare = ItemStore(
        fields=store.fields, texts={}, categories=store.categories, num_items=len(store)
    )
    assert bare.lengths.tolist() == [0] * len(store)


def test_no_page_has_more_to_read_than_another() -> None:
    """Memory is that of a page, so it must not grow with the batch: as many items, as long."""
    lengths = torch.randint(1, 60, (1000,), generator=torch.Generator().manual_seed(0))
    pages = even_pages(lengths, 64)
    assert sorted(torch.cat(pages).tolist()) == list(range(1000))
    assert max(map(len, pages)) <= 64
    read = torch.stack([lengths[page].sum() for page in pages]).float()
    assert read.max() / read.min() < 1.15
