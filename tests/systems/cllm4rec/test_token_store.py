"""Texts are tokenized once; a killed writer goes on, a damaged store is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from legos.config.data_schema import DataConfig
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from legos.systems.cllm4rec.batches import content_kind
from legos.systems.cllm4rec.corpus import (
    Corpus,
    TokenStore,
    chosen_kinds,
    known_kinds,
    read_corpus,
    train_items,
)
from tests.systems.cllm4rec.small import lists, ragged
from tests.systems.cllm4rec.world import CLUSTERS, ITEMS, USERS, world_tables


class Encoder:
    """A text is its letters; counts the texts it has seen, and may break off."""

    def __init__(self, breaks_at: int = 10**9) -> None:
        self.seen, self.breaks_at = 0, breaks_at

    def __call__(self, texts: Sequence[str]) -> Ragged:
        self.seen += len(texts)
        if self.seen > self.breaks_at:
            raise KeyboardInterrupt
        return ragged([[ord(letter) for letter in text] for text in texts])


def corpus(count: int = 7) -> Corpus:
    numbers = torch.arange(count)
    return Corpus(numbers % 2, numbers, numbers + 1, ["ab" * row + "c" for row in range(count)])


def test_a_killed_writer_goes_on_with_the_part_it_was_at(tmp_path: Path) -> None:
    store, texts = TokenStore(tmp_path, {"kinds": ["title"]}), corpus()
    with pytest.raises(KeyboardInterrupt):
        store.write(texts, Encoder(breaks_at=5), part_texts=2)
    assert not store.finished
    with pytest.raises(DataError, match="not tokenized yet"):
        store.open()
    encoder, done = Encoder(), []
    store.write(texts, encoder, part_texts=2, advance=done.append)
    assert encoder.seen == 3
    assert done == [2, 2, 2, 1]
    found = store.open()
    assert lists(found.texts) == [[ord(letter) for letter in text] for text in texts.texts]
    assert found.texts.values.dtype == torch.int32
    for name in ("kinds", "users", "items"):
        assert torch.equal(getattr(found, name), getattr(texts, name))
    store.write(texts, Encoder(breaks_at=0))  # nothing is left to do
    assert not (store.path / "parts").exists()


def test_other_facts_are_another_store_and_damage_is_seen(tmp_path: Path) -> None:
    store = TokenStore(tmp_path, {"kinds": ["title"]})
    store.write(corpus(), Encoder())
    assert not TokenStore(tmp_path, {"kinds": ["title", "review"]}).finished
    path = store.path / "values.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"values\.npy: damaged"):
        store.open()


def world(folder: Path) -> tuple[DataConfig, Tables]:
    tables = Tables.load(world_tables(folder / "tables", reviews=True))
    data = {"name": "world", "folder": str(tables.folder), "fields": ["title@words"]}
    return DataConfig.model_validate({**data, "history_length": 2}), tables


def test_train_items_are_those_of_training_alone(tmp_path: Path) -> None:
    data, tables = world(tmp_path)
    train = Interactions.from_tables(tables, "train", history_length=data.history_length)
    items = train_items(tables, train)
    assert len(items) == CLUSTERS * USERS
    shown = tables.lists("train", "candidates")
    assert lists(items) == lists(shown)
    for split in ("valid", "test"):
        held_out = lists(tables.lists(split, "candidates"))
        assert all(not set(a) & set(b) for a, b in zip(lists(items), held_out, strict=True))
    # from the histories of the valid split the same rows come: a cut history is not what is read
    valid = Interactions.from_tables(tables, "valid", history_length=data.history_length)
    read = lists(train_items(tables, valid))
    pairs = zip(read, lists(shown), lists(tables.lists("valid", "candidates")), strict=True)
    assert all(found == sorted({*a, *b}) for found, a, b in pairs)


def test_the_corpus_has_reviews_of_training_pairs_and_texts_of_all_items(tmp_path: Path) -> None:
    data, tables = world(tmp_path)
    assert known_kinds(data, tables) == ["review", "title", "content"]
    assert chosen_kinds([], data, tables) == ["review", "title"]
    with pytest.raises(ConfigError, match="no texts of kind 'explanation'"):
        chosen_kinds(["explanation"], data, tables)
    found = read_corpus(["review", "title"], data, tables)
    reviews = found.kinds == content_kind("review")
    pairs = set(zip(found.users[reviews].tolist(), found.items[reviews].tolist(), strict=True))
    bought = lists(tables.lists("train", "candidates"))
    assert pairs == {(user, item) for user, row in enumerate(bought) for item in row}
    assert found.users[~reviews].eq(-1).all()
    assert found.items[~reviews].tolist() == list(range(CLUSTERS * ITEMS))
    assert found.texts[-1] == tables.texts("title")[-1]
    whole = read_corpus(["content"], data, tables)
    assert whole.texts == tables.texts("title")
