"""Files of item vectors and codes: brought into the items' order by id, refused where unfit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import legos.files
from legos.data.tables import Tables
from legos.data.vector_files import (
    read_code_rows,
    read_item_codes,
    read_item_vectors,
    read_user_vectors,
    read_vector_rows,
    write_item_codes,
    write_item_vectors,
    write_user_vectors,
)
from legos.errors import DataError
from tests.tiny import tiny_tables

COUNT = 60


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables.load(tiny_tables(tmp_path_factory.mktemp("data") / "tiny", num_items=COUNT))


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "longdouble"])
def test_an_array_of_any_width_has_a_row_an_item(
    tables: Tables, tmp_path: Path, dtype: str
) -> None:
    array = numbers(COUNT, 4).numpy().astype(dtype)
    np.save(tmp_path / "v.npy", array)
    found = read_item_vectors(tmp_path / "v.npy", tables)
    assert found is not None
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), array.astype("f4"))


@pytest.mark.parametrize("dtype", ["i1", "u2", ">i4", "i8", "u8"])
def test_codes_of_any_integer_type(tables: Tables, tmp_path: Path, dtype: str) -> None:
    array = (np.arange(COUNT * 3).reshape(COUNT, 3) % 100).astype(dtype)
    np.save(tmp_path / "c.npy", np.asfortranarray(array))
    found = read_item_codes(tmp_path / "c.npy", tables)
    assert found is not None
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), array.astype("i8"))


def test_rows_go_to_their_items_by_id(tables: Tables, tmp_path: Path) -> None:
    ids = ["N7", "elsewhere", "N0", "N59"]
    vectors, codes = numbers(4, 5), torch.arange(8).view(4, 2)
    write_item_vectors(tmp_path / "v.safetensors", ids, vectors)
    write_item_codes(tmp_path / "c.safetensors", ids, codes)
    found_vectors = read_item_vectors(tmp_path / "v.safetensors", tables)
    found_codes = read_item_codes(tmp_path / "c.safetensors", tables)
    assert found_vectors is not None
    assert found_codes is not None
    for row, item in ((0, 7), (2, 0), (3, 59)):
        assert torch.equal(found_vectors[item], vectors[row])
        assert torch.equal(found_codes[item], codes[row])
    others = [item for item in range(COUNT) if item not in (0, 7, 59)]
    assert found_vectors[others].isnan().all()
    assert (found_codes[others] == -1).all()


def test_vectors_of_users_go_by_the_ids_of_users(tables: Tables, tmp_path: Path) -> None:
    names, vectors = tables.vocabulary("user_id"), numbers(2, 5)
    write_user_vectors(tmp_path / "u.safetensors", [names[3], names[0]], vectors)
    found = read_user_vectors(tmp_path / "u.safetensors", tables)
    assert found is not None
    assert torch.equal(found[[3, 0]], vectors)
    assert found[1].isnan().all()
    assert len(found) == tables.num_users
    with pytest.raises(DataError, match="no metadata 'items': a JSON list with the item id"):
        read_item_vectors(tmp_path / "u.safetensors", tables)
    write_user_vectors(tmp_path / "u.safetensors", ["elsewhere"], vectors[:1])
    with pytest.raises(DataError, match=r"none of its 1 users \('elsewhere'\) is in .*tiny"):
        read_user_vectors(tmp_path / "u.safetensors", tables)
    np.save(tmp_path / "u.npy", numbers(3, 4).numpy())
    with pytest.raises(DataError, match=r"3 rows, but .* users; a \.npy has one row a user in"):
        read_user_vectors(tmp_path / "u.npy", tables)


def test_what_is_written_names_its_items(tmp_path: Path) -> None:
    ids = ["a", 'with "quotes"', "ü"]
    write_item_codes(tmp_path / "c.safetensors", ids, torch.zeros(3, 2, dtype=torch.int32))
    assert read_code_rows(tmp_path / "c.safetensors").ids == ids
    assert read_code_rows(tmp_path / "c.safetensors").values.dtype == torch.int64


def test_a_row_of_minus_one_is_an_item_without_codes(tables: Tables, tmp_path: Path) -> None:
    codes = np.ones((COUNT, 2), dtype=np.int64)
    codes[4] = -1
    np.save(tmp_path / "c.npy", codes)
    found = read_item_codes(tmp_path / "c.npy", tables)
    assert found is not None
    assert np.array_equal(found.numpy(), codes)
    codes[5, 1] = -1
    np.save(tmp_path / "c.npy", codes)
    with pytest.raises(DataError, match=r"1 of 60 .* below 0, the first is row 5: \[1, -1\]"):
        read_item_codes(tmp_path / "c.npy", tables)


def test_half_precision_beyond_numpy_is_read(tables: Tables, tmp_path: Path) -> None:
    save(tmp_path / "v.safetensors", {"vectors": numbers(1, 3).bfloat16()}, ["N3"])
    found = read_item_vectors(tmp_path / "v.safetensors", tables)
    assert found is not None
    assert torch.equal(found[3], numbers(1, 3).bfloat16().float()[0])


def save(path: Path, tensors: dict[str, Tensor], ids: Any) -> Path:
    save_file(tensors, path, metadata={"items": json.dumps(ids)})
    return path


def saved_array(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "f.npy", array)
    return folder / "f.npy"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def without_items(path: Path) -> Path:
    save_file({"vectors": numbers(2, 3)}, path)
    return path


def one_infinite() -> np.ndarray:
    array = np.ones((COUNT, 2))
    array[4, 1] = np.inf
    return array


BAD_VECTORS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "v.npy", r"v\.npy: no such file"),
    "a folder": (lambda folder: _folder(folder / "v.npy"), "no such file"),
    "ending": (lambda folder: written(folder / "v.csv", b"1,2"), r"not '\.csv'"),
    "no ending": (lambda folder: written(folder / "v", b""), "a file without ending"),
    "integers": (
        lambda folder: saved_array(folder, np.ones((COUNT, 2), int)),
        "floating point numbers, found int64",
    ),
    "complex": (lambda folder: saved_array(folder, np.ones((COUNT, 2), complex)), "complex128"),
    "texts": (lambda folder: saved_array(folder, np.full((COUNT, 2), "x")), "not of numbers"),
    "one axis": (lambda folder: saved_array(folder, np.ones(COUNT)), r"found shape \(60,\)"),
    "no numbers": (lambda folder: saved_array(folder, np.ones((COUNT, 0))), r"shape \(60, 0\)"),
    "rows": (
        lambda folder: saved_array(folder, np.ones((COUNT - 1, 2))),
        r"59 rows, but .* has 60 items",
    ),
    "not finite": (
        lambda folder: saved_array(folder, one_infinite()),
        "1 of 60 vectors are not finite .* the first is row 4",
    ),
    "beyond float32": (
        lambda folder: saved_array(folder, np.full((COUNT, 2), 1e300)),
        "60 of 60 vectors are not finite",
    ),
    "objects": (
        lambda folder: saved_array(folder, np.full((COUNT, 2), None)),
        r"f\.npy: holds Python objects",
    ),
    "not an array": (lambda folder: written(folder / "v.npy", b"PK\x03\x04"), "damaged or no"),
    "not safetensors": (lambda folder: written(folder / "v.safetensors", b"x" * 99), "damaged"),
    "another tensor": (
        lambda folder: save(folder / "v.safetensors", {"codes": torch.ones(1, 2)}, ["N1"]),
        "no tensor 'vectors' in it; found codes",
    ),
    "no ids": (lambda folder: without_items(folder / "v.safetensors"), "no metadata 'items'"),
    "too few ids": (
        lambda folder: save(folder / "v.safetensors", {"vectors": numbers(2, 3)}, ["N1"]),
        r"1 item ids for vectors of \(2, 3\)",
    ),
    "no list of ids": (
        lambda folder: save(folder / "v.safetensors", {"vectors": numbers(2, 3)}, [1, 2]),
        "metadata 'items': entry 0: expected a string, found 1",
    ),
    "an id twice": (
        lambda folder: save(folder / "v.safetensors", {"vectors": numbers(2, 3)}, ["N1", "N1"]),
        "item 'N1' has more than one row",
    ),
    "not finite by id": (
        lambda folder: save(folder / "v.safetensors", {"vectors": numbers(1, 2) / 0}, ["N8"]),
        "the first is item 'N8'",
    ),
    "no common item": (
        lambda folder: save(folder / "v.safetensors", {"vectors": numbers(4, 3)}, list("abcd")),
        r"none of its 4 items \('a', 'b', 'c', \.\.\.\) is in .*tiny \('N0', 'N1', 'N2', \.\.\.\)",
    ),
}


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("case", BAD_VECTORS)
def test_an_unfit_file_of_vectors_is_refused(tables: Tables, tmp_path: Path, case: str) -> None:
    make, message = BAD_VECTORS[case]
    with pytest.raises(DataError, match=message):
        read_item_vectors(make(tmp_path), tables)


@pytest.mark.parametrize("array", [np.ones((COUNT, 2)), np.ones((COUNT, 2), bool)])
def test_codes_that_are_no_integers_are_refused(
    tables: Tables, tmp_path: Path, array: np.ndarray
) -> None:
    with pytest.raises(DataError, match=r"codes are integers, found (float64|bool)"):
        read_item_codes(saved_array(tmp_path, array), tables)


def test_codes_beyond_int64_are_refused(tables: Tables, tmp_path: Path) -> None:
    array = np.full((COUNT, 2), 2**64 - 2, dtype=np.uint64)
    with pytest.raises(DataError, match="below 0"):
        read_item_codes(saved_array(tmp_path, array), tables)


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v.{suffix}"
    if suffix == "npy":
        np.save(path, numbers(3, 4).numpy())
    else:
        write_item_vectors(path, ["a", "b", "c"], numbers(3, 4))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="damaged"):
            read_vector_rows(path)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.safetensors"
    write_item_vectors(path, ["a"], torch.ones(1, 2))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(legos.files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_item_vectors(path, ["b"], torch.zeros(1, 2))
    monkeypatch.undo()
    assert read_vector_rows(path).ids == ["a"]
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match=r"v\.npy: items are written with their ids"):
        write_item_vectors(tmp_path / "v.npy", ["a"], torch.ones(1, 2))
