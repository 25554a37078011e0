"""New items of models that read a language model, whole or above a cache of hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.data.vector_files import write_item_vectors
from legos.errors import ConfigError
from legos.modes.train_test import open_system
from legos.recommend.catalogue import Opened
from legos.recommend.run import TrainedRun
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from process.item_vectors import build_parser as parser_of_vectors
from process.item_vectors import main as item_vectors
from tests.modes.tiny_config import NAML, tiny_config
from tests.tiny import tiny_tables

SHAPE = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 16, "num_hidden_layers": 3,
    "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64,
}  # fmt: skip
SOURCE = {"name": "tiny", "random": True, "tokenizer": "minilm", "shape": SHAPE}
ITEMS: dict[str, dict[str, Any]] = {
    "whole": {"name": "language_model", "model": SOURCE, "attention_size": 8},
    "cached": {"name": "language_model", "model": SOURCE, "attention_size": 8, "layer": 2},
    "iisan": {"name": "iisan", "model": SOURCE, "adapter_size": 4},
    "with_ids": {
        "name": "id_and_content",
        "content": {"name": "cnn", "attention_size": 8},
    },
}


def opened(config: RunConfig) -> TrainedRun:
    """A run as it is opened, with its first weights."""
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    tables = Tables.load(config.data.folder)
    workplace = Workplace.open(config, accelerator, tables)
    recommender = open_system(workplace).recommender()
    return TrainedRun(tables.folder, config, tables, lambda: Opened(workplace, recommender))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("language") / "tables", num_items=24, num_users=12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in ITEMS if kind != "with_ids"])
def test_an_item_added_again_is_as_it_was(tables: Path, kind: str) -> None:
    cache = {"folder": str(tables.parent / "cache")}
    config = tiny_config(tables, tables, model={**NAML, "item": ITEMS[kind]}, cache=cache)
    run = opened(config)
    known = run.items
    run.add_items(known.iloc[:5].assign(item_id=list("abcde")))
    run.add_items(known.iloc[5:7].assign(item_id=list("fg")))
    scores = run.score([["N3", "N7"], ["a", "N9"]], [*known["item_id"][:7], *"abcdefg"])
    assert np.allclose(scores.iloc[:, :7], scores.iloc[:, 7:], atol=1e-5)
    assert scores.iloc[0].nunique() > 5


def test_an_item_without_a_learned_vector_goes_by_what_it_says(tables: Path) -> None:
    run = opened(tiny_config(tables, tables, model={**NAML, "item": ITEMS["with_ids"]}))
    title = " ".join(["music1"] * 4)
    run.add_items(pd.DataFrame({"item_id": ["a", "b"], "title": [title, title]}))
    assert run.score([["N3"]], ["a", "b"]).iloc[0].nunique() == 1


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True])
def test_a_new_item_gets_a_given_vector_as_the_others_did(
    tables: Path, tmp_path: Path, inside: bool
) -> None:
    path = tmp_path / "vectors.safetensors"
    item_vectors(parser_of_vectors().parse_args(["--tables", str(tables), "--output", str(path)]))
    given: dict[str, Any] = {"name": "fixed_vectors", "normalise": True}
    item = {"name": "id_and_content", "content": given} if inside else given
    config = tiny_config(tables, tables, model={**NAML, "item": item}).model_dump()
    config["embed"]["item_vectors"] = str(path)
    run = opened(RunConfig.model_validate(config))
    known = run.items.iloc[:7]
    for rows, ids in ((slice(0, 5), "abcde"), (slice(5, 7), "fg")):
        run.add_items(known.iloc[rows].assign(item_id=list(ids)))
    vectors = run.item_vectors()
    encoder = run.catalogue.model.model.item_encoder  # type: ignore[attr-defined]
    shared = encoder.id.unknown.detach() if inside else 0.0
    learnt = encoder.id.vectors[:7].detach() if inside else 0.0
    expected = vectors.iloc[:7].to_numpy() - np.asarray(learnt) + np.asarray(shared)
    assert np.allclose(vectors.loc[list("abcdefg")], expected, atol=1e-5)
    write_item_vectors(path, list(known["item_id"]), torch.ones(7, 4))  # says nothing of its maker
    other = opened(RunConfig.model_validate(config))
    with pytest.raises(ConfigError, match=r"nothing in .* says what made its vectors"):
        other.add_items(known.iloc[:1].assign(item_id="a"))


@pytest.mark.parametrize("item", [{"name": "id"}])
def test_a_model_of_ids_alone_has_nothing_to_read(tables: Path, item: dict[str, Any]) -> None:
    run = opened(tiny_config(tables, tables, model={**NAML, "item": item}))
    with pytest.raises(ConfigError, match="reads nothing that a new item says"):
        run.add_items(pd.DataFrame({"item_id": ["a"], "title": ["music1"]}))
