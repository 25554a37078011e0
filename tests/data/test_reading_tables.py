"""Opening a tables folder: what is read, and what a damaged or unknown thing gets."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from legos.config.data_schema import FieldConfig
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.tables import Tables
from legos.errors import DataError
from tests.bricks import lists
from tests.tiny import tiny_tables


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("tiny") / "tables")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "tables"))


def column(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / "columns" / name, allow_pickle=False)


def edit(folder: Path, name: str, values: np.ndarray) -> None:
    """Replace a column by another of the same size, which the manifest's sizes do not notice."""
    old = column(folder, name)
    np.save(folder / "columns" / name, values.astype(old.dtype))
    assert values.shape == old.shape


def test_a_folder_tells_its_name_sizes_and_splits(written: Path) -> None:
    tables = Tables.load(written)
    assert (tables.name, tables.num_items, tables.num_users) == ("tiny", 60, 40)
    assert tables.splits == ["train", "valid", "test"]
    assert tables.fingerprint == json.loads((written / "manifest.json").read_text())["fingerprint"]
    assert tables.has("items", "category")
    assert not tables.has("items", "titel")
    assert not tables.has("nothing", "category")


def test_columns_are_what_was_written(written: Path) -> None:
    tables = Tables.load(str(written))
    category = tables.scalar("items", "category")
    assert category.dtype == torch.int32
    assert category.tolist() == column(written, "items/category.npy").tolist()
    titles = tables.lists("items", "title@words")
    offsets = column(written, "items/title@words.offsets.npy").tolist()
    values = column(written, "items/title@words.values.npy").tolist()
    pairs = itertools.pairwise(offsets)
    assert lists(titles) == [values[start:end] for start, end in pairs]
    words = tables.vocabulary("words")
    assert [" ".join(words[word] for word in title) for title in lists(titles)] == tables.texts(
        "title"
    )


def test_writing_into_what_was_read_does_not_reach_the_file(written: Path) -> None:
    before = column(written, "items/category.npy").tolist()
    Tables.load(written).scalar("items", "category").fill_(3)
    assert Tables.load(written).scalar("items", "category").tolist() == before


def test_a_folder_without_manifest_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json.*make them with `python -m"):
        Tables.load(tmp_path)


def test_another_format_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))
    with pytest.raises(DataError, match="tables of format 0, this version reads format 1"):
        Tables.load(folder)


@pytest.mark.parametrize("text", ['{"format": 1,', "", "[1, 2]", '"manifest"'])
def test_a_damaged_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json.*: .*make the"):
        Tables.load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "columns/train/labels.values.npy").unlink()
    with pytest.raises(DataError, match=r"labels\.values\.npy: is missing, the manifest says \d+"):
        Tables.load(folder)


def test_a_file_cut_short_is_named(folder: Path) -> None:
    path = folder / "columns/histories/items.values.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    expected = f"has {len(content) - 4} bytes, the manifest says {len(content)}"
    with pytest.raises(DataError, match=rf"items\.values\.npy: {expected}"):
        Tables.load(folder)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.scalar("itemz", "category"), "no table 'itemz'; did you mean 'items'?"),
        (lambda t: t.scalar("items", "categori"), "no column 'categori'; did you mean 'category'?"),
        (lambda t: t.lists("items", "title"), "no column 'title'; did you mean 'title@words'?"),
        (lambda t: t.lists("items", "category"), "items.category is a scalar column, not a list"),
        (lambda t: t.scalar("items", "title@words"), "title@words is a list column, not a scalar"),
        (lambda t: t.vocabulary("word"), "no vocabulary 'word'; did you mean 'words'?"),
        (lambda t: t.texts("tittle"), "no item field 'tittle'; did you mean 'title'?"),
        (
            lambda t: Interactions.from_tables(t, "vaild", history_length=3),
            "no split 'vaild'; did you mean 'valid'? choose from: test, train, valid",
        ),
    ],
    ids=["table", "column", "list", "kind", "other-kind", "vocabulary", "texts", "split"],
)
def test_an_unknown_name_is_told_the_nearest(written: Path, ask, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as error:
        ask(Tables.load(written))
    assert message in str(error.value)
    assert str(written) in str(error.value)


def fields(length: int | None = None) -> list[FieldConfig]:
    return [
        FieldConfig(name="title", column="title@words", length=length),
        FieldConfig(name="topic", column="category"),
    ]


def test_an_item_store_knows_its_fields(written: Path) -> None:
    tables = Tables.load(written)
    store = ItemStore.from_tables(tables, fields())
    assert len(store) == 60
    title, topic = store.fields["title"], store.fields["topic"]
    assert (title.is_text, title.vocabulary, title.size, title.length) == (True, "words", 33, 7)
    assert (topic.is_text, topic.vocabulary, topic.size, topic.length) == (False, "category", 5, 1)
    assert lists(store.texts["title"]) == lists(tables.lists("items", "title@words"))
    assert store.texts["title"].values.dtype == torch.int64


def test_a_text_keeps_its_first_tokens(written: Path) -> None:
    tables = Tables.load(written)
    store = ItemStore.from_tables(tables, fields(length=4))
    whole = lists(tables.lists("items", "title@words"))
    assert lists(store.texts["title"]) == [title[:4] for title in whole]
    assert store.fields["title"].length == 4


def test_a_batch_of_items_holds_their_content_in_the_order_asked(written: Path) -> None:
    store = ItemStore.from_tables(Tables.load(written), fields())
    ids = torch.tensor([7, 0, 7, 59])
    batch = store.batch(ids)
    assert len(batch) == 4
    assert torch.equal(batch.ids, ids)
    titles = lists(store.texts["title"])
    assert lists(batch.texts["title"]) == [titles[item] for item in ids.tolist()]
    assert batch.categories["topic"].tolist() == store.categories["topic"][ids].tolist()


@pytest.mark.parametrize(
    ("name", "spoiled", "rows"),
    [
        ("train/candidates.values.npy", r"train\.candidates", 60),
        ("histories/items.values.npy", r"histories\.items", 60),
        ("train/user_id.npy", r"train\.user_id", 40),
        ("train/history.npy", r"train\.history", 40),
    ],
)
@pytest.mark.parametrize("beyond", [False, True])
def test_rows_outside_the_tables_are_refused(
    folder: Path, name: str, spoiled: str, rows: int, beyond: bool
) -> None:
    values = column(folder, name)
    values[-1] = rows if beyond else -1
    edit(folder, name, values)
    message = rf"{spoiled}.* holds (ids|rows) outside 0 to {rows - 1}"
    with pytest.raises(DataError, match=message):
        Interactions.from_tables(Tables.load(folder), "train", history_length=5)


def test_labels_that_do_not_match_the_candidates_are_refused(folder: Path) -> None:
    offsets = column(folder, "train/labels.offsets.npy")
    offsets[1] -= 1
    edit(folder, "train/labels.offsets.npy", offsets)
    with pytest.raises(DataError, match=r"train: \d+ labels for \d+ candidates"):
        Interactions.from_tables(Tables.load(folder), "train", history_length=5)


def test_moving_to_a_device_keeps_everything(written: Path) -> None:
    tables = Tables.load(written)
    data = Interactions.from_tables(tables, "test", history_length=4)
    moved = data.to("cpu")
    assert torch.equal(moved.candidates.values, data.candidates.values)
    assert torch.equal(moved.labels, data.labels)
    assert moved.impression_vocabulary == data.impression_vocabulary
    store = ItemStore.from_tables(tables, fields())
    assert lists(store.to("cpu").texts["title"]) == lists(store.texts["title"])
    assert store.to("cpu").fields == store.fields
