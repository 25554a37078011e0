"""Item encoders over a sentence encoder as it is shipped: its own vectors, cached, cut, tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from legos.config.schema import RunConfig
from legos.data.items import ItemBatch, ItemStore
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.item.language_model import LanguageModelConfig, LanguageModelEncoder
from legos.item.text_vectors import TextVectors, TextVectorsConfig
from legos.lm.load import LanguageModel
from legos.lm.text_vectors import as_shipped, text_vectors
from legos.modes.main import run
from legos.workplace.language import Reading, part_read
from tests.lm.shipped import WIDTH, dense, ship, write
from tests.modes.tiny_config import NAML, tiny_config
from tests.tiny import tiny_tables

HEADS = (dense(WIDTH, 24, "GELU"), dense(24, 6, "Identity", bias=False), ("Normalize", {}))
PROMPTS = {"passage": "passage : "}
CPU = torch.device("cpu")


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables.load(tiny_tables(tmp_path / "tables", num_items=20))


def config_of(
    tables: Tables, tmp_path: Path, *, bricks: Any = (), exp: Any = (), **item: Any
) -> RunConfig:
    """Titles alone and as they are, so that the library would read the same tokens."""
    brick = {"prompts": False, **item}
    whole = {**NAML, "item": brick, **dict(bricks)}
    cache = {"cache": {"folder": str(tmp_path / "cache")}, "data": {"fields": ["title@words"]}}
    return tiny_config(tables.folder, tmp_path / "runs", model=whole, **cache, **dict(exp))


def read(config: RunConfig, tables: Tables) -> tuple[LanguageModel, ItemBatch]:
    """What the brick reads of all items, through a cache where there is one."""
    settings: Any = config.bricks.item
    model = LanguageModel(settings.model, settings, bidirectional=settings.bidirectional)
    reading = Reading.of(config, tables, model)
    part = part_read(settings, model)
    language: dict[str, Any] = {"tokens": reading.tokens}
    if part is not None:
        reading.write([part], CPU, batch_tokens=64)
        language = {part.name: reading.cache.open(part.name)}
    store = ItemStore(fields={}, texts={}, categories={}, num_items=20, language=language)
    return model, store.batch(torch.arange(20))


def shipped(tables: Tables, folder: Path, **how: Any) -> Tensor:
    """``(items, 6)`` of process.item_vectors."""
    found = text_vectors(tables.texts("title"), folder, as_shipped(folder, task="plain", **how))
    return torch.from_numpy(found)


@pytest.mark.parametrize(
    ("kind", "prompt_name", "dimensions"),
    [("bert", None, None), ("bert", "passage", 3), ("qwen3", "passage", None)],
)
def test_cached_text_vectors_are_those_that_are_shipped(
    tables: Tables, tmp_path: Path, kind: str, prompt_name: str | None, dimensions: int | None
) -> None:
    folder = ship(tmp_path / "model", kind, heads=HEADS, whole={"prompts": PROMPTS})
    item = {"name": "text_vectors", "model": str(folder), "prompt_name": prompt_name}
    item |= {"dimensions": dimensions}
    config = config_of(tables, tmp_path, **item)
    model, batch = read(config, tables)
    settings = config.bricks.item
    assert isinstance(settings, TextVectorsConfig)
    brick = TextVectors(settings, language_model=model, hidden_size=8).eval()
    expected = shipped(tables, folder, prompt_name=prompt_name, dimensions=dimensions)
    assert expected.shape == (20, dimensions or 6)
    torch.testing.assert_close(brick(batch), brick.project(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["modernbert", "qwen3"])
def test_a_tuned_encoder_begins_with_the_shipped_vectors_cut_or_not(
    tables: Tables, tmp_path: Path, kind: str, bidirectional: bool, layer: int
) -> None:
    folder = ship(tmp_path / "model", kind, heads=HEADS)
    item = {"layer": layer, "lora_rank": 2, "lora_dropout": 0.0, "pooling": "shipped"}
    item |= {"name": "language_model", "model": str(folder), "bidirectional": bidirectional}
    config = config_of(tables, tmp_path, **item)
    model, batch = read(config, tables)
    settings = config.bricks.item
    assert isinstance(settings, LanguageModelConfig)
    brick = LanguageModelEncoder(settings, language_model=model, hidden_size=8).eval()
    found = brick(batch)
    expected = shipped(tables, folder, bidirectional=bidirectional)
    torch.testing.assert_close(found, brick.project(expected), atol=1e-5, rtol=0)
    found.sum().backward()  # type: ignore[no-untyped-call]
    learns = {name for name, each in brick.named_parameters() if each.grad is not None}
    assert any("lora_B" in name for name in learns)
    assert not any(name.startswith("head.") for name in learns)


def test_full_tuning_trains_the_heads_at_the_rate_of_the_language_model(tmp_path: Path) -> None:
    folder = ship(tmp_path / "model", heads=HEADS)
    settings = LanguageModelConfig.model_validate({"model": str(folder), "pooling": "shipped"})
    model = LanguageModel(settings.model, settings)
    brick = LanguageModelEncoder(settings, language_model=model, hidden_size=8)
    assert brick.head is not None
    assert all(each.requires_grad for each in brick.head.parameters())
    assert brick.head.is_language_model


def test_switches_are_part_of_a_cache_and_of_no_older_run_id(
    tables: Tables, tmp_path: Path
) -> None:
    folder = ship(tmp_path / "model", "qwen3", heads=HEADS)
    item = {"name": "text_vectors", "model": str(folder)}
    fingerprints = set()
    for more in ({}, {"bidirectional": True}, {"head": "mean", "dimensions": 3}):
        config = config_of(tables, tmp_path, **item, **more)
        settings: Any = config.bricks.item
        told = settings.told_in_ids()
        assert {"bidirectional", "dimensions", "head", "prompt_name"} & told.keys() == more.keys()
        model = LanguageModel(settings.model, settings, bidirectional=settings.bidirectional)
        fingerprints.add(Reading.of(config, tables, model).cache.path)
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("change", "item", "message"),
    [
        ({"prompt_name": "pasage"}, {}, "no prompt is called 'pasage'; choose from: docu"),
        ({}, {"include_prompt": False, "pooling_mode": "max"}, r"process\.item_vectors, and read"),
        ({}, {"pooling_mode": "men"}, "pooling_mode 'men'; did you mean 'mean'"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tables: Tables, tmp_path: Path, change: dict[str, Any], item: dict[str, Any], message: str
) -> None:
    folder = ship(tmp_path / "model", heads=HEADS)
    if item:
        write(folder / "1_Pooling/config.json", {"embedding_dimension": WIDTH, **item})
    config = config_of(tables, tmp_path, name="text_vectors", model=str(folder), **change)
    with pytest.raises(ConfigError, match=message):
        read(config, tables)
    if item:  # their mean asks for nothing of it
        config = config_of(
            tables, tmp_path, name="text_vectors", model=str(folder), head="mean", **change
        )
        read(config, tables)


def test_a_model_without_modules_has_no_shipped_pooling(tmp_path: Path) -> None:
    folder = ship(tmp_path / "model")
    (folder / "modules.json").unlink()
    settings = LanguageModelConfig.model_validate({"model": str(folder), "pooling": "shipped"})
    with pytest.raises(ConfigError, match=r"no modules\.json beside it says how vectors are made"):
        LanguageModelEncoder(
            settings, language_model=LanguageModel(settings.model, settings), hidden_size=8
        )


@pytest.mark.slow
def test_contrastive_tuning_over_cached_states_in_pages(tables: Tables, tmp_path: Path) -> None:
    """Shared negatives by popularity, cosines over a temperature, LoRA, exact gradient caching."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    folder = ship(tmp_path / "model", heads=HEADS, config=still)
    item = {"name": "language_model", "model": str(folder), "pooling": "shipped", "layer": 1}
    negatives = {"strategy": "popularity", "shared": True, "count": 32}
    train = {"epochs": 2, "metric": "nDCG@10", "loss": "sampled_softmax", "negatives": negatives}
    bricks = {"predictor": {"name": "cosine", "temperature": 0.05}}
    results = []
    for page in (0, 4):
        exp = {
            "train": {**train, "item_page_size": page},
            "evaluate": {"ranking": "all", "metrics": ["nDCG@10", "MRR"]},
        }
        place = tmp_path / str(page)
        config = config_of(
            tables, place, bricks=bricks, exp=exp, lora_rank=2, lora_dropout=0.0, **item
        )
        results.append(run(config)["splits"]["test"]["rows"]["all"])
    assert results[1] == pytest.approx(results[0], abs=1e-3)
