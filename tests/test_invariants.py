"""What every registered brick must do, in one matrix over the registries: a new brick is in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from legos.blocks.packed import Penalised
from legos.data.items import ItemStore
from legos.data.ragged import Ragged
from legos.recommender import Recommender
from legos.registry import (
    BrickConfig,
    PredictorConfig,
    UserEncoderConfig,
    UserOutput,
    item_encoders,
    predictors,
    user_encoders,
)
from legos.training.weights import load_model_tensors, model_tensors
from tests.as_on_cuda import AsOnCuda
from tests.brick_forms import fitting, forms
from tests.bricks import (
    FIELDS,
    HIDDEN_SIZE,
    NUM_ITEMS,
    needs_gpu,
    output_shape,
    random_recommender,
    random_store,
    user_input,
)

ITEMS = pytest.mark.parametrize("config", forms(item_encoders))


def items_with(*fields: tuple[str, ...]) -> pytest.MarkDecorator:
    """The first form of each item encoder with all these fields, its others with the first."""
    parameters, seen = [], set()
    for form in forms(item_encoders):
        name = form.values[0].name
        for choice in fields:
            later = name in seen and choice != fields[0] and not form.marks
            parameters.append(
                pytest.param(
                    _on(form.values[0], choice),
                    choice,
                    id=f"{choice}-{form.id}",
                    marks=[pytest.mark.nightly] if later else form.marks,
                )
            )
        seen.add(name)
    return pytest.mark.parametrize(("config", "fields"), parameters)


def _on(config: BrickConfig, fields: tuple[str, ...]) -> BrickConfig:
    """MANNeR without aspects where there are no categories to take them from."""
    if config.name != "manner" or "category" in fields:
        return config
    return config.model_copy(update={"aspects": ()})


USERS = pytest.mark.parametrize("config", forms(user_encoders))
PREDICTORS_AND_OUTPUTS = pytest.mark.parametrize(
    ("config", "output"),
    [
        pytest.param(*form.values, output, id=f"{form.id}-{output}", marks=form.marks)
        for form in forms(predictors)
        for output in sorted(form.values[0].accepts)
    ],
)
EVERY_BRICK = pytest.mark.parametrize(
    ("family", "config"),
    [
        pytest.param(family, *form.values, id=f"{family}-{form.id}", marks=form.marks)
        for family, registry in (
            ("item", item_encoders),
            ("user", user_encoders),
            ("predictor", predictors),
        )
        for form in forms(registry)
    ],
)
EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64: only another order of summation is allowed
USERS_IN_BATCH, HISTORY, CANDIDATES, INTERESTS = 6, 7, 5, 3
LENGTHS = torch.tensor([0, 1, 3, 7, 2, 5])


def brick(family: str, config: BrickConfig, *, seed: int = 1) -> nn.Module:
    """One brick of a recommender over the random items, in evaluation mode."""
    choice: dict[str, BrickConfig] = {family: config}
    if isinstance(config, UserEncoderConfig):
        choice["predictor"] = fitting(predictors, lambda other: config.output in other.accepts)
    if isinstance(config, PredictorConfig):
        choice["user"] = fitting(user_encoders, lambda other: other.output in config.accepts)
    model: Recommender = random_recommender(random_store(), seed=seed, **choice)
    parts = {"item": model.item_encoder, "user": model.user_encoder, "predictor": model.predictor}
    if isinstance(config, PredictorConfig):
        return PredictorBrick(model.predictor, config.accepts).eval()
    return parts[family].eval()


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def run(
    family: str, module: nn.Module, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Tensor:
    """A brick on inputs that hold every special case: no text, no history, an unknown reader."""
    if family == "item":
        store = random_store().to(device)
        return module(store.batch(torch.arange(len(store), device=device)))
    if family == "user":
        return user_input(dtype=dtype, device=device)(module)
    predictor = cast(PredictorBrick, module)
    outputs = sorted(predictor.accepted)
    return torch.cat([predictor(*scored(output, dtype=dtype, device=device)) for output in outputs])


class PredictorBrick(nn.Module):
    """A predictor that remembers what its settings accept."""

    def __init__(self, module: nn.Module, accepted: frozenset[UserOutput]) -> None:
        super().__init__()
        self.module = module
        self.accepted = accepted

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.module(*inputs)


def scored(
    output: UserOutput, *, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> tuple[Tensor, ...]:
    """What a predictor gets of a user encoder with this output: user, candidates, (mask)."""
    shapes: dict[UserOutput, tuple[int, ...]] = {
        "vector": (1,),
        "vector_per_candidate": (CANDIDATES,),
        "interests": (1, INTERESTS),
        "interests_per_candidate": (CANDIDATES, INTERESTS),
        "sequence": (HISTORY,),
    }
    user = random(USERS_IN_BATCH, *shapes[output], HIDDEN_SIZE, dtype=dtype).to(device)
    candidates = random(USERS_IN_BATCH, CANDIDATES, HIDDEN_SIZE, seed=1, dtype=dtype).to(device)
    if output != "sequence":
        return user, candidates
    mask = torch.arange(HISTORY) < LENGTHS[:, None]
    return user * mask[..., None].to(user), candidates, mask.to(device)


def width_of(encoder: nn.Module) -> int:
    return getattr(encoder, "output_size", HIDDEN_SIZE)


ALONE = 10
"""Items that are encoded alone, too: without texts, without a title, short and long ones."""


def one_by_one(encode: Callable[[Tensor], Tensor], count: int) -> Tensor:
    return torch.cat([encode(torch.tensor([row])) for row in range(count)])


@ITEMS
def test_an_item_alone_equals_the_item_in_a_batch(config: BrickConfig) -> None:
    store, encoder = random_store(), brick("item", config).double()
    together = encoder(store.batch(torch.arange(len(store))))
    alone = one_by_one(lambda ids: encoder(store.batch(ids)), ALONE)
    assert together.shape == (NUM_ITEMS, width_of(encoder))
    torch.testing.assert_close(together[:ALONE], alone, **EXACT)


@ITEMS
def test_items_differ(config: BrickConfig) -> None:
    vectors = brick("item", config)(random_store().batch(torch.arange(1, 5)))
    assert torch.unique(vectors, dim=0).shape[0] == 4


@ITEMS
def test_an_item_ignores_which_other_items_stand_where(config: BrickConfig) -> None:
    store, encoder = random_store(), brick("item", config).double()
    together = encoder(store.batch(torch.arange(len(store))))
    shuffled = torch.randperm(len(store), generator=torch.Generator().manual_seed(3))[:20]
    repeated = torch.cat([shuffled, shuffled[:5]])
    torch.testing.assert_close(encoder(store.batch(repeated)), together[repeated], **EXACT)


@ITEMS
def test_an_item_ignores_the_content_of_its_neighbours(config: BrickConfig) -> None:
    store, other, encoder = random_store(), random_store(seed=9), brick("item", config).double()
    kept = 7  # has a title of its own in both stores
    for name, column in store.texts.items():
        other.texts[name] = _with_row(
            other.texts[name], kept, column.select(torch.tensor([kept])).values
        )
    for name, values in store.categories.items():
        other.categories[name][kept] = values[kept]
    for name, read in store.language.items():
        other.language[name] = _with_row(
            cast(Ragged, other.language[name]), kept, read.select(torch.tensor([kept])).values
        )
    before, after = (encoder(s.batch(torch.arange(len(s))))[kept] for s in (store, other))
    torch.testing.assert_close(before, after, **EXACT)


def _with_row(column: Ragged, row: int, values: Tensor) -> Ragged:
    rows = list(column.values.split(column.lengths.tolist()))
    rows[row] = values
    lengths = torch.tensor([0, *map(len, rows)])
    return Ragged(torch.cat(rows), lengths.cumsum(0))


@items_with(FIELDS, ("title",))
def test_items_without_any_text_are_finite_with_finite_gradients(
    config: BrickConfig, fields: tuple[str, ...]
) -> None:
    store = random_store(fields=fields, texts=False)
    encoder = random_recommender(store, item=config).item_encoder.double()
    vectors = encoder(store.batch(torch.arange(4)))
    assert vectors.shape == (4, width_of(encoder))
    assert torch.isfinite(vectors).all()
    vectors.square().sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@items_with(FIELDS, ("title",))
def test_no_items_give_no_vectors(config: BrickConfig, fields: tuple[str, ...]) -> None:
    store = random_store(fields=fields)
    encoder = random_recommender(store, item=config).item_encoder
    assert encoder(store.batch(torch.zeros(0, dtype=torch.int64))).shape == (0, width_of(encoder))


@ITEMS
def test_encoding_does_not_change_the_store(config: BrickConfig) -> None:
    store, encoder = random_store(), brick("item", config)
    untouched = copy.deepcopy(store)
    ids = torch.arange(len(store))
    assert torch.equal(encoder(store.batch(ids)), encoder(store.batch(ids)))
    assert torch.equal(ids, torch.arange(len(store)))
    assert _same_content(store, untouched)


def _same_content(left: ItemStore, right: ItemStore) -> bool:
    texts = all(
        torch.equal(left.texts[name].values, right.texts[name].values) for name in left.texts
    )
    return texts and all(
        torch.equal(left.categories[name], right.categories[name]) for name in left.categories
    )


@items_with(("title",), ("title", "abstract"), ("title", "category"))
def test_an_item_encoder_trains_all_it_has_on_any_choice_of_fields(
    config: BrickConfig, fields: tuple[str, ...]
) -> None:
    store = random_store(fields=fields)
    encoder = random_recommender(store, item=config).item_encoder
    assert_all_learns(encoder, lambda: encoder(store.batch(torch.arange(len(store)))))


@USERS
def test_a_user_alone_equals_the_user_in_a_batch(config: UserEncoderConfig) -> None:
    encoder, given = brick("user", config).double(), user_input()
    alone = torch.cat([given.row(row)(encoder) for row in range(USERS_IN_BATCH)])
    together = given(encoder)
    shape = output_shape(config.output, batch=USERS_IN_BATCH, candidates=5, history=HISTORY)
    assert [size and found for size, found in zip(shape, together.shape, strict=True)] == shape
    torch.testing.assert_close(together, alone, **EXACT)


@USERS
def test_a_user_encoder_ignores_padding(config: UserEncoderConfig) -> None:
    encoder, given = brick("user", config).double(), user_input()
    longer = given.reading(
        torch.cat([given.history, random(USERS_IN_BATCH, 4, HIDDEN_SIZE, seed=2)], 1),
        torch.cat([given.mask, torch.zeros(USERS_IN_BATCH, 4, dtype=torch.bool)], 1),
        torch.cat([given.users.history, torch.ones(USERS_IN_BATCH, 4, dtype=torch.int64)], 1),
    )
    found = longer(encoder)
    if config.output == "sequence":
        assert not found[:, HISTORY:].any()
        found = found[:, :HISTORY]
    torch.testing.assert_close(found, given(encoder), **EXACT)


@USERS
def test_a_user_encoder_ignores_what_stands_under_the_mask(config: UserEncoderConfig) -> None:
    encoder, given = brick("user", config).double(), user_input()
    garbage = 1e3 * random(*given.history.shape, seed=4)
    other = given.reading(
        torch.where(given.mask[..., None], given.history, garbage),
        given.mask,
        given.users.history.where(given.mask, 9),
    )
    torch.testing.assert_close(other(encoder), given(encoder), **EXACT)


@USERS
def test_only_an_order_aware_user_encoder_sees_the_order(config: UserEncoderConfig) -> None:
    encoder, given = brick("user", config).double(), user_input((4, 7, 5))
    order = torch.tensor([2, 0, 3, 1, 4, 5, 6])
    shuffled = given.reading(given.history[:, order], given.mask, given.users.history[:, order])
    before, after = given(encoder), shuffled(encoder)
    if encoder.order_aware:
        assert not torch.allclose(before, after)
    else:
        torch.testing.assert_close(before, after, **EXACT)


@USERS
def test_empty_histories_are_finite_with_finite_gradients(config: UserEncoderConfig) -> None:
    encoder, given = brick("user", config).double(), user_input((0, 0, 0))
    history = given.history.requires_grad_()
    user = given(encoder)
    assert torch.isfinite(user).all()
    loss = user.square().sum()
    if isinstance(encoder, Penalised):
        penalty = encoder.penalty(user)
        assert penalty.shape == (3,)
        loss = loss + penalty.sum()
    if loss.requires_grad:
        loss.backward()
    tensors = [history, *encoder.parameters()]
    assert all(torch.isfinite(t.grad).all() for t in tensors if t.grad is not None)


@PREDICTORS_AND_OUTPUTS
def test_a_score_depends_on_its_user_and_candidate_alone(
    config: PredictorConfig, output: UserOutput
) -> None:
    predictor = brick("predictor", config).double()
    inputs = scored(output)
    together = predictor(*inputs)
    assert together.shape == (USERS_IN_BATCH, CANDIDATES)
    alone = one_by_one(lambda row: predictor(*(part[row] for part in inputs)), USERS_IN_BATCH)
    torch.testing.assert_close(together, alone, **EXACT)
    user, candidates, *mask = inputs
    parts = [
        predictor(user[:, [c]] if "per_candidate" in output else user, candidates[:, [c]], *mask)
        for c in range(CANDIDATES)
    ]
    torch.testing.assert_close(together, torch.cat(parts, 1), **EXACT)


@PREDICTORS_AND_OUTPUTS
def test_a_score_tells_users_and_candidates_apart(
    config: PredictorConfig, output: UserOutput
) -> None:
    scores = brick("predictor", config).double()(*scored(output))
    if output == "sequence":  # without two items to weigh, a candidate may change nothing
        scores = scores[LENGTHS > 1]
    assert torch.unique(scores).numel() == scores.numel()


@EVERY_BRICK
def test_every_trainable_parameter_learns_and_frozen_ones_stay(
    family: str, config: BrickConfig
) -> None:
    module = brick(family, config)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    assert_all_learns(module, lambda: run(family, module))
    optimizer = torch.optim.AdamW([*module.parameters(), nn.Parameter(torch.zeros(1))], lr=0.1)
    optimizer.step()
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]) == (not parameter.requires_grad), name


def assert_all_learns(module: nn.Module, compute: Callable[[], Tensor]) -> None:
    if _untrained(module, compute):  # a weight that starts at zero hides others
        torch.optim.SGD(module.parameters(), lr=1e-3).step()
        assert _untrained(module, compute) == []


def _untrained(module: nn.Module, compute: Callable[[], Tensor]) -> list[str]:
    """Names of trainable parameters that no gradient reaches, in training mode."""
    torch.manual_seed(0)
    module.train()
    output = compute()
    if output.requires_grad:
        (output * random(*output.shape, dtype=output.dtype)).sum().backward()
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]


@EVERY_BRICK
def test_a_saved_brick_comes_back_exactly(family: str, config: BrickConfig, tmp_path: Path) -> None:
    trained, fresh = brick(family, config), brick(family, config, seed=2)
    save_file(model_tensors(trained), tmp_path / "brick.safetensors")
    load_model_tensors(fresh, load_file(tmp_path / "brick.safetensors"), origin=tmp_path)
    assert torch.equal(run(family, trained), run(family, fresh))


@EVERY_BRICK
def test_bf16_stays_close_to_fp32(family: str, config: BrickConfig) -> None:
    module = brick(family, config)
    full = run(family, module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run(family, module).float()
    assert (half - full).norm() < 0.02 * full.norm()
    assert not torch.isnan(half).any()


@EVERY_BRICK
def test_fp16_as_autocast_computes_it_on_cuda_stays_close_to_fp32(
    family: str, config: BrickConfig
) -> None:
    module = brick(family, config)
    full = run(family, module)
    with AsOnCuda(), torch.autocast("cpu", dtype=torch.float16):
        half = run(family, module).float()
    if half.requires_grad:
        half.sum().backward()
    assert (half - full).norm() < 0.02 * full.norm()
    assert all(
        bool(parameter.grad.isfinite().all())
        for parameter in module.parameters()
        if parameter.grad is not None
    )


@needs_gpu
@EVERY_BRICK
def test_cpu_and_gpu_agree(family: str, config: BrickConfig) -> None:
    module = brick(family, config)
    on_cpu = run(family, module)
    on_gpu = run(family, module.to("cuda"), device="cuda").cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)
