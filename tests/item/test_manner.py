"""MANNeR as a whole: its modules, their losses and the weighted z-scores, against plain loops."""

from __future__ import annotations

import copy
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import legos
import worker
from legos.commands import recommend
from legos.data.batch import TrainingRows
from legos.data.labelled_rows import LabelDraws
from legos.data.sampling import NegativeSampler
from legos.errors import CheckpointError, ConfigError
from legos.item.cnn import CNNConfig
from legos.item.manner import Manner, MannerConfig
from legos.modes.main import run
from legos.predictor.manner import MannerConfig as ScoreConfig
from legos.recommender import Recommender
from legos.systems.bricks.catalogue import FactoredScores, as_products
from legos.systems.bricks.losses import batch_loss
from legos.systems.bricks.score import cache_items, score_split, score_split_directly
from legos.user.pooling import PoolingConfig
from tests.bricks import (
    HIDDEN_SIZE,
    NUM_ITEMS,
    lists,
    random_interactions,
    random_recommender,
    random_store,
)
from tests.modes.tiny_config import MANNER, tiny_config
from tests.tiny import tiny_tables

ENCODER = CNNConfig(attention_size=8, dropout=0.0)
WEIGHTS = {"category": 0.7, "subcategory": -0.4}


def manner(*, weights: dict[str, float] | None = None, **settings: Any) -> Recommender:
    return random_recommender(
        random_store(),
        item=MannerConfig(encoder=ENCODER, **settings),
        user=PoolingConfig(),
        predictor=ScoreConfig(weights=WEIGHTS if weights is None else weights),
        frozen_words=False,
    ).double()


def apart(model: Recommender) -> Recommender:
    """Modules whose weights differ: they start alike."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for each in model.parameters():
            each += 0.1 * torch.randn(each.shape, generator=generator, dtype=each.dtype)
    return model


def parts_of(model: Recommender) -> Tensor:
    """``(3, items, D)`` by clicks, category and subcategory."""
    with torch.no_grad():
        vectors = model.item_encoder(random_store().whole())
    return vectors.view(NUM_ITEMS, 3, HIDDEN_SIZE).transpose(0, 1)


def late_fusion(vectors: Tensor, history: list[int], item: int) -> float:
    """The mean inner product of a candidate with what was clicked."""
    if not history:
        return 0.0
    return sum(float(vectors[each] @ vectors[item]) for each in history) / len(history)


def z_scores(scores: list[float]) -> list[float]:
    root = statistics.stdev(scores) if len(scores) > 1 else 0.0
    return [(score - statistics.mean(scores)) / root if root else 0.0 for score in scores]


def weighed(parts: Tensor, history: list[int], candidates: list[int]) -> list[float]:
    columns = [
        z_scores([late_fusion(vectors, history, item) for item in candidates]) for vectors in parts
    ]
    return [
        sum(w * z for w, z in zip((1.0, 0.7, -0.4), row, strict=True))
        for row in zip(*columns, strict=True)
    ]


def test_scores_of_shown_candidates_are_weighted_z_scores_of_late_fusion() -> None:
    model, data = apart(manner()), random_interactions()
    parts, histories = parts_of(model), lists(data.histories)
    expected = [
        weighed(parts, histories[row], candidates)
        for row, candidates in zip(data.history_rows.tolist(), lists(data.candidates), strict=True)
    ]
    flat = torch.tensor([score for row in expected for score in row])
    cached = score_split(model, random_store(), data, page_size=7).scores
    torch.testing.assert_close(cached, flat, rtol=1e-5, atol=1e-5)
    direct = score_split_directly(model, random_store(), data)
    torch.testing.assert_close(direct, flat, rtol=1e-5, atol=1e-5)


def test_all_items_are_ranked_by_z_scores_over_what_is_offered() -> None:
    model, store = apart(manner()).eval(), random_store()
    items, offered = cache_items(model, store, page_size=9).double(), torch.arange(NUM_ITEMS) > 3
    history = [5, 9, 30]
    product, prepared = as_products(model, items, offered)
    users = prepared(items[history].mean(0, keepdim=True))
    found = FactoredScores(product, items, users)(torch.tensor([0]))[0, offered].double()
    expected = torch.tensor(weighed(parts_of(model), history, offered.nonzero()[:, 0].tolist()))
    differences = (found - expected).tolist()  # one number for this user
    assert max(differences) - min(differences) < 1e-4


def test_encoders_read_texts_alone_and_start_alike_with_weights_of_their_own() -> None:
    model, store = manner(), random_store()
    other = copy.deepcopy(store)
    for name in other.categories:
        other.categories[name] = (other.categories[name] + 1) % 5
    assert torch.equal(model.item_encoder(store.whole()), model.item_encoder(other.whole()))
    parts = parts_of(model)
    assert torch.equal(parts[0], parts[1])
    names = [name for name, _ in model.named_parameters()]
    assert len(names) % 3 == 0
    assert len({each.data_ptr() for each in model.parameters()}) == len(names)


def test_frozen_parameters_stay_in_memory_once() -> None:
    choice: dict[str, Any] = {"item": MannerConfig(encoder=ENCODER), "user": PoolingConfig()}
    model = random_recommender(random_store(), **choice)
    frozen = [each for each in model.item_encoder.parameters() if not each.requires_grad]
    assert len(frozen) == 1  # the word vectors of three encoders


def training_loss(model: Recommender, step: int, rows: Tensor) -> Tensor:
    """Summed over rows, with draws of both aspects."""
    store, data = random_store(), random_interactions()
    known = torch.ones(NUM_ITEMS, dtype=torch.bool)
    sampler = NegativeSampler(data, num_items=NUM_ITEMS, strategy="impression", count=3, seed=0)
    batch = TrainingRows(data, sampler).batch(rows, pass_number=0)
    labels = [store.categories[name] for name in ("category", "subcategory")]
    draws = [LabelDraws(each, known, classes=3, samples=4, seed=1) for each in labels]
    labelled = [store.batch(each.draw(step)) for each in draws]
    scored = model.train()(batch, store.batch(batch.items), None, None, labelled)
    return batch_loss("softmax", scored, batch, len(batch))[0]


def test_the_loss_of_clicks_is_the_supervised_contrastive_loss_of_one_positive() -> None:
    model, store, data = apart(manner()), random_store(), random_interactions()
    sampler = NegativeSampler(data, num_items=NUM_ITEMS, strategy="impression", count=3, seed=0)
    batch = TrainingRows(data, sampler).batch(torch.arange(9), pass_number=0)
    scored = model.train()(batch, store.batch(batch.items))
    _, losses = batch_loss("softmax", scored, batch, len(batch))
    content = parts_of(model)[0]
    for row, loss in enumerate(losses.tolist()):
        history = batch.items[batch.history[row][batch.history_mask[row]]].tolist()
        shown = batch.items[batch.candidates[row][batch.candidate_mask[row]]].tolist()
        scores = [late_fusion(content, history, item) / 0.42 for item in shown]
        expected = math.log(sum(map(math.exp, scores))) - scores[0]
        assert loss == pytest.approx(expected, rel=1e-9)


def test_the_loss_of_labels_counts_once_a_step_however_its_rows_are_split() -> None:
    model, rows = apart(manner()), torch.arange(12)
    whole = training_loss(model, 0, rows) / 12
    split = sum(training_loss(model, 0, part) for part in rows.split(5)) / 12
    torch.testing.assert_close(whole, split, rtol=1e-12, atol=1e-12)


def test_modules_trained_together_are_those_trained_apart() -> None:
    together = apart(manner())
    alone = {part: copy.deepcopy(together) for part in ("content", "modules_of_aspects")}
    models = {"": together, **alone}
    optimizers = {
        part: torch.optim.Adam(
            [p for name, p in model.item_encoder.named_parameters() if name.startswith(part)],
            lr=0.01,
        )
        for part, model in models.items()
    }
    for step in range(4):
        for part, model in models.items():
            optimizers[part].zero_grad()
            training_loss(model, step, torch.arange(8)).backward()
            optimizers[part].step()
    for part, model in alone.items():
        for name, value in model.item_encoder.named_parameters():
            if name.startswith(part):
                mine = together.item_encoder.get_parameter(name)
                torch.testing.assert_close(mine, value, rtol=1e-12, atol=1e-12)


def test_a_training_step_encodes_clicked_items_for_clicks_alone() -> None:
    model = apart(manner())
    vectors = model.train().encode_items(random_store().whole())
    assert torch.equal(vectors[:, :HIDDEN_SIZE], parts_of(model)[0])
    assert not vectors[:, HIDDEN_SIZE:].any()
    whole = torch.cat([*parts_of(model)], 1)
    assert torch.equal(model.eval().encode_items(random_store().whole()), whole)


def test_unknown_aspects_are_refused() -> None:
    unknown = (
        r"model.item \(manner\): aspects: no category field 'categry'; did you mean 'category'"
    )
    with pytest.raises(ConfigError, match=unknown):
        manner(aspects=("categry",), weights={})
    with pytest.raises(ConfigError, match="weights: no aspect 'subcategory'; did you mean"):
        manner(aspects=("category",), weights=WEIGHTS)
    with pytest.raises(ConfigError, match="weights: no aspect 'category'; item encoder `manner`"):
        random_recommender(
            random_store(), user=PoolingConfig(), predictor=ScoreConfig(weights={"category": 1.0})
        )
    assert isinstance(manner(aspects=(), weights={}).item_encoder, Manner)


def test_it_says_that_it_needs_texts_and_aspects() -> None:
    def built(*fields: str, **settings: Any) -> Recommender:
        return random_recommender(
            random_store(fields=fields),
            item=MannerConfig(encoder=ENCODER, **settings),
            user=PoolingConfig(),
            predictor=ScoreConfig(),
            frozen_words=False,
        )

    no_texts = (
        r"model.item \(manner\): manner reads only texts, and data.fields names no text field"
    )
    with pytest.raises(ConfigError, match=no_texts):
        built("category", "subcategory")
    with pytest.raises(ConfigError, match=r"aspects: null .* data.fields names none; name a categ"):
        built("title", "abstract")
    assert built("title", aspects=()).item_encoder.aspects == ()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("manner")
    tables = tiny_tables(root / "tables", num_items=40)
    run(tiny_config(tables, root / "runs", model=MANNER, train={"epochs": 10}))
    (folder,) = (root / "runs" / "tiny" / "manner").iterdir()
    return folder


def share_of_favourite(folder: Path, weight: float) -> float:
    """How much of the lists has the category that readers of one category read."""
    loaded = legos.open(folder, settings={"model.predictor.weights.category": weight})
    table = loaded.items.set_index("item_id")["category"]
    shares = []
    for category, group in table.groupby(table):
        listed = loaded.recommend(history=list(group.index[:4]), k=5)
        shares.append((table[listed["item_id"]] == category).mean())
    return statistics.mean(shares)


def test_a_trained_run_personalises_or_diversifies_by_its_weights(trained: Path) -> None:
    fewer, plain, more = (share_of_favourite(trained, weight) for weight in (-9.0, 0.0, 9.0))
    assert fewer < plain <= more
    assert fewer < 0.2
    assert more > 0.7


def test_the_commands_take_other_weights(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = []
    for weight in ("9", "-9"):
        key = "model.predictor.weights.category"
        words = [str(trained), "--history", "N0", "N5", "--json", "--set", key, weight]
        assert recommend.main(words) == 0
        listed.append(json.loads(capsys.readouterr().out)[0]["items"])
    assert listed[0] != listed[1]
    assert recommend.main([*words[:-2], "model.predictor.weights.categry", "1"]) == 2
    assert "no aspect 'categry'; did you mean 'category'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_run_is_measured_with_other_weights(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for weight in ("0.5", "-9", "0.5"):
        words = ["--load", str(trained), "--model.predictor.weights.category", weight]
        assert worker.main(words) == 0
        found.append(legos.open(trained).metrics["test"]["GAUC"])
    assert found[0] == found[2] > found[1]
    capsys.readouterr()


def test_a_setting_that_needs_another_training_is_refused(trained: Path) -> None:
    told = r"settings: model.item.temperature: another value needs another training, this run was "
    with pytest.raises(CheckpointError, match=told):
        legos.open(trained, settings={"model.item.temperature": 0.1})
    with pytest.raises(ConfigError, match=r"settings: model.predictor.weight: unknown key"):
        legos.open(trained, settings={"model.predictor.weight": 1})
