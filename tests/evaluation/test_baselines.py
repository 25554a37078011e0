from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import sparse

from legos.baselines.base import make_baseline
from legos.baselines.data import BaselineData, unit_words
from legos.config.exp_schema import MINILM
from legos.data.tables import Tables
from legos.errors import DataError
from legos.evaluation.texts import own_text_vectors, text_source
from legos.item.fixed_vectors import FixedVectorsConfig
from legos.lm.states import unit_rows
from legos.metrics import grouped_metrics
from legos.registry import bricks
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from tests.modes.tiny_config import tiny_config
from tests.tiny import tiny_tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables.load(tiny_tables(tmp_path_factory.mktemp("data") / "tiny"))


def baseline_scores(name: str, data: BaselineData) -> np.ndarray:
    """Of the candidates of a split, with the baseline's defaults."""
    return make_baseline(name).pair_scores(data)


def dense_reads(tables: Tables) -> np.ndarray:
    """``(users, items)``: clicks and histories of the training split, one row at a time."""
    reads = np.zeros((tables.num_users, tables.num_items))
    shown, labels = tables.lists("train", "candidates"), tables.lists("train", "labels").values
    histories = tables.lists("histories", "items")
    for row, user in enumerate(tables.scalar("train", "user_id").tolist()):
        span = slice(int(shown.offsets[row]), int(shown.offsets[row + 1]))
        reads[user, shown.values[span][labels[span] == 1].tolist()] = 1
        state = int(tables.scalar("train", "history")[row])
        span = slice(int(histories.offsets[state]), int(histories.offsets[state + 1]))
        reads[user, histories.values[span].tolist()] = 1
    return reads


def histories_of(tables: Tables, split: str) -> list[list[int]]:
    histories = tables.lists("histories", "items")
    states = tables.scalar(split, "history").tolist()
    return [
        histories.values[int(histories.offsets[s]) : int(histories.offsets[s + 1])].tolist()
        for s in states
    ]


def test_popularity_counts_each_reader_once(tables: Tables) -> None:
    reading = BaselineData(tables, "test")
    counts = dense_reads(tables).sum(0)
    assert np.array_equal(baseline_scores("popularity", reading), counts[reading.candidates])


def test_item_knn_is_the_mean_cosine_of_readers(tables: Tables) -> None:
    reading = BaselineData(tables, "test")
    reads = dense_reads(tables)
    norms = np.sqrt(np.maximum(reads.sum(0), 1))
    cosine = (reads / norms).T @ (reads / norms)
    histories = histories_of(tables, "test")
    expected = [
        np.mean([cosine[read, item] for read in histories[row]]) if histories[row] else 0.0
        for row, item in zip(reading.impressions, reading.candidates, strict=True)
    ]
    assert np.allclose(baseline_scores("item_knn", reading), expected, atol=1e-6)


def test_a_cut_history_scores_by_its_newest_items(tables: Tables) -> None:
    cut = BaselineData(tables, "test", history_length=1)
    reads = dense_reads(tables)
    norms = np.sqrt(np.maximum(reads.sum(0), 1))
    cosine = (reads / norms).T @ (reads / norms)
    newest = [history[-1] if history else None for history in histories_of(tables, "test")]
    expected = [
        0.0 if newest[row] is None else cosine[newest[row], item]
        for row, item in zip(cut.impressions, cut.candidates, strict=True)
    ]
    assert np.allclose(baseline_scores("item_knn", cut), expected, atol=1e-6)


@pytest.fixture
def item_vectors(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """``(items, 5)`` of length 1 that stand for the language model's; item 3 has an empty text."""
    vectors = np.random.default_rng(0).normal(size=(tables.num_items, 5)).astype(np.float32)
    vectors = unit_rows(vectors)
    vectors[3] = 0

    def encode(texts: list[str], folder: Path, **settings: object) -> np.ndarray:
        assert texts == tables.texts("title")
        assert settings["normalise"] is True
        return vectors

    monkeypatch.setattr("legos.lm.text_vectors.text_vectors", encode)
    return vectors


def test_text_cosine_compares_with_the_mean_of_the_history(
    tables: Tables, item_vectors: np.ndarray
) -> None:
    reading = BaselineData(tables, "test")
    expected = []
    histories = histories_of(tables, "test")
    for row, item in zip(reading.impressions, reading.candidates, strict=True):
        if not histories[row] or item == 3:
            expected.append(0.0)
            continue
        user = item_vectors[histories[row]].mean(0)
        expected.append(float(user @ item_vectors[item] / np.linalg.norm(user)))
    assert np.allclose(baseline_scores("text_cosine", reading), expected, atol=1e-6)


@pytest.mark.usefixtures("item_vectors")
def test_blend_adds_scores_standardised_within_the_impression(tables: Tables) -> None:
    reading = BaselineData(tables, "test")
    parts = [baseline_scores(name, reading) for name in ("item_knn", "text_cosine")]
    blend = baseline_scores("item_knn_text_cosine", reading)
    for begin, end in zip(reading.offsets[:-1], reading.offsets[1:], strict=True):
        rows = [part[begin:end].astype(np.float64) for part in parts]
        scaled = [(row - row.mean()) / (row.std() if row.std() > 1e-9 else 1) for row in rows]
        assert np.allclose(blend[begin:end], np.sum(scaled, 0), atol=1e-4)


def test_text_cosine_of_items_without_text_is_refused(tables: Tables) -> None:
    fields = {"category": tables.manifest["fields"]["category"]}
    bare = Tables(tables.folder, {**tables.manifest, "fields": fields})
    with pytest.raises(DataError, match="the items have no text field to compare"):
        baseline_scores("text_cosine", BaselineData(bare, "test"))


def test_random_is_reproducible_and_fair(tables: Tables) -> None:
    reading = BaselineData(tables, "test")
    scores = baseline_scores("random", reading)
    assert np.array_equal(scores, baseline_scores("random", reading))
    assert len(np.unique(scores)) > 0.9 * len(scores)


@pytest.mark.usefixtures("item_vectors")
def test_no_baseline_looks_at_the_labels_it_is_measured_by(tables: Tables) -> None:
    reading = BaselineData(tables, "test")
    of_others = {"oracle", "recent_popularity"}  # of columns that these data lack
    names = [name for name in bricks("baseline").names() if name not in of_others]
    before = {name: baseline_scores(name, reading) for name in names}
    labels = tables.lists("test", "labels").values
    labels.copy_(1 - labels)  # the mapping is private: the file stays as it is
    after = {name: baseline_scores(name, BaselineData(tables, "test")) for name in names}
    assert all(np.array_equal(before[name], after[name]) for name in names)


def test_unknown_baseline_and_missing_oracle_are_named(tables: Tables) -> None:
    reading = BaselineData(tables, "test")
    with pytest.raises(ValidationError, match="unknown baseline 'popular'; did you mean 'popula"):
        baseline_scores("popular", reading)
    with pytest.raises(DataError, match="'test' has no column 'oracle'"):
        baseline_scores("oracle", reading)


SHARED = Path(os.environ.get("LEGOS_SHARED", Path(__file__).parents[2].parent / "shared"))
# GAUC of ../shared/data/README.md on `test` and `test_uniform`
PUBLISHED = {"random": (0.500, 0.499), "popularity": (0.439, 0.764), "item_knn": (0.749, 0.776)}


@pytest.mark.slow
def test_goodreads_figures_come_out(tmp_path: Path) -> None:
    raw = SHARED / "data" / "goodreads-once"
    if not raw.is_dir():
        pytest.skip(f"no Goodreads at {raw}; set LEGOS_SHARED")
    from process.goodreads.once import read_once
    from process.raw import TokenizerSpec
    from process.tables import write_tables

    data = read_once(raw, name="goodreads")
    write_tables(data, tmp_path / "t", [TokenizerSpec("words", "words")], unitok=False)
    tables = Tables.load(tmp_path / "t")
    for place, split in enumerate(("test", "test_uniform")):
        reading = BaselineData(tables, split)
        labels = tables.lists(split, "labels").values.numpy()
        for name, published in PUBLISHED.items():
            scores = baseline_scores(name, reading)
            found = grouped_metrics(scores, labels, reading.offsets, ["GAUC"]).values["GAUC"]
            assert found == pytest.approx(published[place], abs=0.004), (name, split)


def test_own_words_are_compared_exactly(tables: Tables) -> None:
    """tf-idf over the tables' tokens, where MiniLM does not know the texts: cosines by hand."""
    titles = tables.lists("items", "title@words")
    counts = np.zeros((tables.num_items, 33))
    np.add.at(counts, (titles.rows.numpy(), titles.values.numpy()), 1)
    weights = counts * np.log(tables.num_items / np.maximum((counts > 0).sum(0), 1))
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    own = unit_words(sparse.csr_matrix(weights.astype(np.float32)))
    reading = BaselineData(tables, "test", own_vectors=own)
    expected = []
    for row, item in zip(reading.impressions, reading.candidates, strict=True):
        history = histories_of(tables, "test")[row]
        mean = unit[history].mean(0) if history else np.zeros(33)
        expected.append(unit[item] @ mean / max(np.linalg.norm(mean), 1e-12))
    assert np.allclose(baseline_scores("text_cosine", reading), expected, atol=1e-5)


@pytest.mark.slow
def test_text_cosine_reads_what_the_run_itself_reads(tables: Tables, tmp_path: Path) -> None:
    """Given item vectors, and tokens of a table other than MiniLM's; a named model goes first."""
    vectors = np.random.default_rng(1).normal(size=(tables.num_items, 4)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    plain = tiny_config(tables.folder, tmp_path)
    fixed = plain.model_copy(
        update={
            "model": plain.model.model_copy(update={"item": FixedVectorsConfig()}),
            "embed": plain.embed.model_copy(update={"item_vectors": tmp_path / "vectors.npy"}),
        }
    )
    assert text_source(fixed, tables, None) == "given"
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    workplace = Workplace.open(fixed, accelerator, tables)
    assert np.allclose(own_text_vectors(workplace, None), unit_rows(vectors), atol=1e-6)
    assert text_source(fixed, tables, MINILM) == "model"
    glove = plain.embed.model_copy(update={"source": "text_file", "path": "glove.txt"})
    assert text_source(plain.model_copy(update={"embed": glove}), tables, None) == "tokens"
    assert text_source(plain, tables, None) == "model"  # its only tokenizer is plain words


def test_texts_that_minilm_does_not_know_are_compared_by_words(
    tables: Tables, tmp_path: Path
) -> None:
    tokenizers = {"words": {"source": "smollm2", "sha256": "0"}}
    other = Tables(tables.folder, {**tables.manifest, "tokenizers": tokenizers})
    assert text_source(tiny_config(tables.folder, tmp_path), other, None) == "words"
