"""Number fields from the data YAML into item vectors: scales, unknown values, gradients, units."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from legos.blocks.embedding import NumberEmbedding
from legos.config.data_schema import FieldConfig
from legos.config.load import load_run_config
from legos.config.refusals import check_tables
from legos.data.batch import BatchUsers
from legos.data.items import ItemField, ItemStore
from legos.data.numbers import NumberScale, Treatment, scale_of
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from legos.item.pooling import PoolingConfig
from legos.predictor.dot import DotConfig
from legos.recommender import Recommender, build_recommender
from legos.registry import BrickConfig, item_encoders
from legos.settings import OF_WEIGHTS, deciding
from legos.user.pooling import PoolingConfig as UserPoolingConfig
from legos.user.profile import ProfileConfig
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from tests.brick_forms import forms
from tests.bricks import NUM_ITEMS, random_recommender, random_store
from tests.config.test_check import manifest
from tests.modes.tiny_config import tiny_config
from tests.tiny import add_number, tiny_tables

TREATMENTS: tuple[Treatment, ...] = ("standardised", "bucketed", "projected")
NAN = float("nan")


def scaled(values: Sequence[float], treatment: Treatment, buckets: int = 10) -> NumberScale:
    scale = scale_of(np.array(values, np.float32), treatment, buckets)
    assert scale is not None
    return scale


def test_a_scale_is_mean_and_deviation_of_the_known_values() -> None:
    scale = scaled([2, 4, NAN, 9], "standardised")
    assert scale.mean == 5
    assert scale.deviation == pytest.approx((26 / 3) ** 0.5)
    assert scaled([7, 7], "projected") == NumberScale("projected", 7.0, 1.0)
    assert scale_of(np.array([NAN], np.float32), "standardised") is None


@pytest.mark.parametrize(
    ("values", "buckets", "edges"),
    [
        (range(1, 11), 5, (2, 4, 6, 8)),
        ([5, 1, NAN, 3, 2, 4], 2, (3,)),
        ([1, 1, 1, 1, 9], 4, (1,)),
        ([3, 3, 3], 4, ()),
        ([1, 2], 10, (1,)),
    ],
)
def test_edges_are_quantiles_that_occur(
    values: Sequence[float], buckets: int, edges: tuple[float, ...]
) -> None:
    assert scaled(values, "bucketed", buckets).edges == edges


def test_each_treatment_by_hand() -> None:
    numbers = torch.tensor([1.0, 2.0, 3.0, 100.0, NAN])
    standardised = NumberEmbedding(NumberScale("standardised", 2.0, 0.5), hidden_size=3)
    expected = torch.tensor([-2.0, 0, 2, 196])[:, None] * standardised.table[1]
    torch.testing.assert_close(standardised(numbers)[:4], expected)
    projected = NumberEmbedding(NumberScale("projected", 2.0, 0.5), hidden_size=3)
    assert projected.project is not None
    expected = torch.tensor([-2.0, 0, 2, 196])[:, None] @ projected.project.weight.T
    torch.testing.assert_close(projected(numbers)[:4], expected + projected.project.bias)
    bucketed = NumberEmbedding(NumberScale("bucketed", edges=(1.0, 2.5)), hidden_size=3)
    assert torch.equal(bucketed(numbers), bucketed.table[torch.tensor([1, 2, 3, 3, 0])])
    for each in (standardised, projected):
        assert torch.equal(each(numbers)[4], each.table[0])


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_gradients_reach_known_and_unknown_values_and_stay_finite(treatment: Treatment) -> None:
    embedding = NumberEmbedding(scaled([1, 2, 3, 4], treatment, 2), hidden_size=3)
    embedding(torch.tensor([1.0, NAN, 4.0])).square().sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert embedding.table.grad is not None
    assert embedding.table.grad[0].any(), "the vector of unknown values learns"


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_a_change_of_units_changes_nothing(treatment: Treatment) -> None:
    prices = np.round(np.random.default_rng(0).lognormal(3, 1, 500), 2)
    prices[::9] = np.nan
    vectors = []
    for values in (prices, 100 * prices, prices / 7 + 273.15):
        numbers = torch.tensor(values, dtype=torch.float32)
        torch.manual_seed(0)
        embedding = NumberEmbedding(scaled(numbers.tolist(), treatment), hidden_size=4)
        vectors.append(embedding(numbers))
    exact = treatment == "bucketed"
    for other in vectors[1:]:
        torch.testing.assert_close(other, vectors[0], rtol=0, atol=0 if exact else 1e-4)


def with_number(treatment: Treatment, *, texts: bool = True) -> ItemStore:
    """The random items with a price; every fifth has none."""
    store = random_store() if texts else random_store(fields=())
    prices = torch.arange(NUM_ITEMS).float()
    prices[::5] = NAN
    scale = scaled(prices.tolist(), treatment)
    fields = {**store.fields, "price": ItemField("price", False, "", 0, 1, scale)}
    return ItemStore(
        fields=fields,
        texts=store.texts,
        categories=store.categories,
        num_items=len(store),
        language=store.language,
        numbers={"price": prices},
    )


READ_CATEGORIES = (
    "cnn", "cnn_concat", "attention", "additive_attention", "pooling", "transformer", "fastformer",
)  # fmt: skip
READ_FIELDS = [
    form
    for form in forms(item_encoders)
    if form.values[0].name in READ_CATEGORIES
    and getattr(form.values[0], "mode", "") != "max"  # a maximum need not change with a part of it
]


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("config", READ_FIELDS)
def test_every_encoder_that_reads_categories_reads_numbers(
    config: BrickConfig, treatment: Treatment
) -> None:
    store = with_number(treatment)
    encoder = random_recommender(store, item=config).item_encoder.eval()
    ids = torch.tensor([1, 5, 9, 42])
    before = encoder(store.batch(ids))
    assert before.isfinite().all()
    torch.testing.assert_close(encoder(store.whole())[ids], before, rtol=0, atol=1e-5)
    store.numbers["price"] = store.numbers["price"].clone()
    store.numbers["price"][9] = 0.0
    changed = (encoder(store.batch(ids)) - before).abs().amax(1) > 1e-6
    assert changed.tolist() == [False, False, True, False]


def test_numbers_alone_are_enough_of_an_item() -> None:
    store = with_number("projected", texts=False)
    encoder = random_recommender(store, item=PoolingConfig()).item_encoder
    vectors: Tensor = encoder(store.whole())
    vectors.sum().backward()
    assert vectors.shape[0] == NUM_ITEMS
    selected = store.whole().select(torch.tensor([3, 5]))
    assert torch.equal(encoder(selected), vectors[[3, 5]])


def test_the_scale_is_in_the_checkpoint() -> None:
    trained = random_recommender(with_number("standardised"), item=PoolingConfig())
    other = with_number("standardised")
    scale = NumberScale("standardised", 0.0, 1.0)
    other.fields["price"] = ItemField("price", False, "", 0, 1, scale)
    loaded = random_recommender(other, item=PoolingConfig(), seed=9)
    loaded.load_state_dict(trained.state_dict())
    vectors = [model.eval().encode_items(other.whole()) for model in (trained, loaded)]
    assert torch.equal(*vectors)


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_an_age_alone_is_a_profile(treatment: Treatment) -> None:
    scale = scaled([20, 30, 50], treatment, 3)
    ages = torch.tensor([20.0, 30, 50, NAN])
    profiles = ItemStore(
        fields={"age": ItemField("age", False, "", 0, 1, scale)},
        texts={}, categories={}, num_items=4, numbers={"age": ages},
    )  # fmt: skip
    config = ProfileConfig(history=UserPoolingConfig(), profile=PoolingConfig(), fusion="gate")
    choice: Any = SimpleNamespace(
        hidden_size=8, item=PoolingConfig(), user=config, predictor=DotConfig()
    )
    store = random_store()
    known = SimpleNamespace(items=torch.ones(len(store)) > 0, users=torch.ones(4) > 0)
    model = build_recommender(choice, store, known=known, seed=1, profiles=profiles)
    users = BatchUsers(
        torch.arange(4), store.whole(), torch.zeros(4, 1, dtype=torch.int64), profiles=profiles
    )
    history = torch.ones(4, 1, 8)
    vectors = model.encode_users(history, torch.ones(4, 1) > 0, users)
    vectors.sum().backward()
    assert len(vectors.detach().unique(dim=0)) == 4, "no two ages are alike, nor is none"
    assert vectors.isfinite().all()


def test_a_scale_is_of_what_training_shows(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32)
    values[[0, 59]] = np.nan
    add_number(tiny_tables(tmp_path), "items", "price", values)
    tables, seen = Tables.load(tmp_path), torch.arange(60) < 4
    choices = [FieldConfig(column="price", number="bucketed", buckets=3)]
    store = ItemStore.from_tables(tables, choices, seen=seen)
    assert store.fields["price"].number == NumberScale("bucketed", edges=(1, 2))
    np.testing.assert_array_equal(store.numbers["price"].numpy(), values)
    assert tables.texts("price")[:3] == ["", "1", "2"], "as a language model reads it"
    with pytest.raises(DataError, match=r"items\.price: of what the training split shows no value"):
        ItemStore.from_tables(tables, choices, seen=torch.arange(60) < 1)
    wrong = [FieldConfig(column="category", number="projected")]
    with pytest.raises(DataError, match=r"items\.category is not a number field"):
        ItemStore.from_tables(tables, wrong)


def test_new_items_are_scaled_as_those_of_training(tmp_path: Path) -> None:
    old, new = tiny_tables(tmp_path / "old"), tiny_tables(tmp_path / "new", num_items=70)
    add_number(old, "items", "price", np.arange(60, dtype=np.float32))
    prices = np.concatenate([np.arange(60), np.full(10, 1e6)]).astype(np.float32)
    add_number(new, "items", "price", prices)
    config = tiny_config(old, tmp_path / "runs")
    fields = (FieldConfig(column="price", number="standardised"),)
    data = config.data.model_copy(update={"fields": fields})
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=True)
    workplace = Workplace.open(
        config.model_copy(update={"data": data}), accelerator, Tables.load(old)
    )
    shown = workplace.known.shown.numpy()
    assert 0 < shown.sum() < len(shown)
    number = workplace.store.fields["price"].number
    assert number is not None
    assert number.mean == pytest.approx(np.arange(60)[shown].mean())
    over = workplace.over(Tables.load(new))
    assert over.store.fields == workplace.store.fields
    assert over.store.numbers["price"][-1] == 1e6


CONFIG = ["--data", "newsroom", "--model", "naml", "--exp", "train"]


def test_a_number_that_is_not_named_changes_no_run_id() -> None:
    found = deciding(load_run_config(CONFIG), OF_WEIGHTS)
    assert not any("number" in key or "buckets" in key for key in found)
    fields = "[{column: price, number: bucketed, buckets: 5}]"
    named = deciding(load_run_config([*CONFIG, "--data.fields", fields]), OF_WEIGHTS)
    assert named["data.fields.0.number"] == "bucketed"
    assert named["data.fields.0.buckets"] == 5


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "price",
            r"\.0\.number: missing, 'price' is a number; choose from: standardised, bucketed",
        ),
        ("price@bert", r"no column 'price@bert'; it is a number, write column: price"),
        (
            "{column: category, number: projected}",
            r"0\.number: 'category' is not a number; remove",
        ),
        ("synthetic", r"0\.column: 'synthetic' is not a text, category or number"),
    ],
)
def test_a_field_of_another_kind_is_refused(field: str, message: str) -> None:
    described = manifest()
    number = {"kind": "scalar", "dtype": "float32", "vocabulary": None}
    columns = described["tables"]["items"]["columns"]
    columns["price"], columns["synthetic"] = number, number | {"dtype": "bool"}
    fits = load_run_config(
        [*CONFIG, "--data.fields", "[title@bert, {column: price, number: projected}]"]
    )
    check_tables(fits, described)
    with pytest.raises(ConfigError, match=message):
        check_tables(load_run_config([*CONFIG, "--data.fields", f"[{field}]"]), described)


def test_a_category_bias_needs_a_category() -> None:
    described = manifest()
    described["tables"]["items"]["columns"]["price"] = {
        "kind": "scalar", "dtype": "float32", "vocabulary": None,
    }  # fmt: skip
    words = ["--data", "newsroom", "--model", "miner", "--exp", "train"]
    words += ["--data.fields", "[title@bert, {column: price, number: bucketed}]"]
    config = load_run_config([*words, "--model.user.category_bias", "price"])
    with pytest.raises(ConfigError, match=r"category_bias: 'price' is a number"):
        check_tables(config, described)


@pytest.mark.parametrize(
    "field",
    [
        {"column": "price", "buckets": 5},
        {"column": "price", "number": "standardised", "buckets": 5},
        {"column": "price@bert", "number": "bucketed"},
        {"column": "price", "number": "bucketed", "buckets": 1},
        {"column": "price", "number": "log"},
    ],
)
def test_settings_that_mean_nothing_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"buckets|applies only to numbers|standardised"):
        FieldConfig(**field)


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_a_model_learns_from_a_number_alone(treatment: Treatment) -> None:
    """Readers of cheap items click the cheaper of two, all others the dearer."""
    generator = torch.Generator().manual_seed(0)
    prices = torch.rand(400, generator=generator) * 90 + 10
    scale = scaled(prices.tolist(), treatment)
    store = ItemStore(
        fields={"price": ItemField("price", False, "", 0, 1, scale)},
        texts={}, categories={}, num_items=400, numbers={"price": prices},
    )  # fmt: skip
    known = SimpleNamespace(items=torch.ones(400) > 0, users=torch.ones(1) > 0)
    choice: Any = SimpleNamespace(
        hidden_size=8, item=PoolingConfig(), user=UserPoolingConfig(), predictor=DotConfig()
    )
    model = build_recommender(choice, store, known=known, seed=1)
    order = prices.argsort()
    cheap, dear = order[:200], order[200:]

    def scores(model: Recommender, rows: int) -> Tensor:
        half = rows // 2
        likes = [side[torch.randint(200, (half, 4), generator=generator)] for side in (cheap, dear)]
        history = torch.cat([each[:, :3] for each in likes])
        clicked, other = (torch.cat([each[:, 3] for each in pair]) for pair in (likes, likes[::-1]))
        vectors = model.encode_items(store.whole())
        users = model.encode_users(
            vectors[history],
            torch.ones_like(history, dtype=torch.bool),
            None,  # type: ignore[arg-type]
        )
        return model.score(users, vectors[torch.stack([clicked, other], 1)])

    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        loss = -scores(model, 64).log_softmax(1)[:, 0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = scores(deepcopy(model).eval(), 400)
    assert (found[:, 0] > found[:, 1]).float().mean() > 0.95
