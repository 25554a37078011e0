"""Vectors and semantic codes of whole items, read from files and brought into the items' order.

Two formats. ``.npy``: an array, row i belongs to item i of the tables. ``.safetensors``: a tensor
``vectors`` or ``codes`` and, as metadata ``items``, the JSON list of the raw item ids of its rows;
it goes by id, so it may hold other items and in another order than the tables.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from legos.data.tables import Tables
from legos.errors import DataError
from legos.files import atomic_path

VECTORS, CODES = "vectors", "codes"
NO_CODE = -1
_ITEMS, _FINGERPRINT = "items", "fingerprint"  # keys of the metadata
_NUMPY, _SAFETENSORS = ".npy", ".safetensors"


@dataclass(frozen=True)
class ItemRows:
    """What a file says of items.

    Attributes:
        ids: raw id of each row; None where rows stand in the order of the tables.
        values: ``(rows, E)`` float32 vectors or ``(rows, L)`` int64 codes.
    """

    ids: list[str] | None
    values: Tensor


def read_item_vectors(path: Path | None, tables: Tables) -> Tensor | None:
    """``(items, E)`` float32; a row of NaN for an item the file does not have.

    Raises:
        DataError: the file is missing, damaged, or not for the items of these tables.
    """
    return None if path is None else _aligned(path, read_vector_rows(path), tables, torch.nan)


def read_item_codes(path: Path | None, tables: Tables) -> Tensor | None:
    """``(items, L)`` int64; a row of -1 for an item the file does not have.

    Raises:
        DataError: the file is missing, damaged, or not for the items of these tables.
    """
    return None if path is None else _aligned(path, read_code_rows(path), tables, NO_CODE)


def write_item_vectors(
    path: Path, ids: Sequence[str], vectors: Tensor, *, fingerprint: str | None = None
) -> None:
    """Write ``(rows, E)`` vectors of the items ``ids`` as ``.safetensors``, whole or not at all.

    ``fingerprint`` says what they were made from; :func:`file_fingerprint` reads it.
    """
    _write(path, VECTORS, ids, vectors.float(), fingerprint)


def write_item_codes(path: Path, ids: Sequence[str], codes: Tensor) -> None:
    """Write ``(rows, L)`` codes of the items ``ids`` as ``.safetensors``, whole or not at all."""
    _write(path, CODES, ids, codes.long())


def file_fingerprint(path: Path) -> str | None:
    """What a ``.safetensors`` file was made from; None where it is missing or does not say."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            return metadata.get(_FINGERPRINT)
    except SafetensorError:
        return None


def refuse_unwritable(path: Path) -> None:
    """Raise DataError unless a file of this name can hold ids; worth asking before long work."""
    if path.suffix != _SAFETENSORS:
        raise DataError(f"{path}: items are written with their ids, as {_SAFETENSORS}")


def read_vector_rows(path: Path) -> ItemRows:
    """Vectors in the order of the file.

    Raises:
        DataError: the file is missing or damaged, or not all of it is finite numbers.
    """
    rows = _read(path, VECTORS)
    if not rows.values.is_floating_point():
        raise DataError(f"{path}: vectors are floating point numbers, found {_dtype(rows)}")
    vectors = rows.values.float()
    broken = (~vectors.isfinite().all(1)).nonzero()[:, 0]
    if broken.numel():
        raise DataError(
            f"{path}: {broken.numel():,} of {len(vectors):,} vectors are not finite (NaN, infinite "
            f"or beyond float32), the first is {_row(rows, broken)}; leave such items out of a "
            f"{_SAFETENSORS}"
        )
    return ItemRows(rows.ids, vectors)


def read_code_rows(path: Path) -> ItemRows:
    """Codes in the order of the file.

    Raises:
        DataError: the file is missing or damaged, or a row mixes codes and numbers below 0.
    """
    rows = _read(path, CODES)
    if rows.values.is_floating_point() or rows.values.dtype == torch.bool:
        raise DataError(f"{path}: codes are integers, found {_dtype(rows)}")
    codes = rows.values.long()
    broken = ((codes < 0).any(1) & ~(codes == NO_CODE).all(1)).nonzero()[:, 0]
    if broken.numel():
        raise DataError(
            f"{path}: {broken.numel():,} of {len(codes):,} lists of codes have numbers below 0, "
            f"the first is {_row(rows, broken)}: {codes[broken[0]].tolist()}; codes count from 0, "
            f"and only a whole row of {NO_CODE} stands for an item without codes"
        )
    return ItemRows(rows.ids, codes)


def _aligned(path: Path, rows: ItemRows, tables: Tables, missing: float) -> Tensor:
    """One row an item of the tables, ``missing`` where the file has none."""
    if rows.ids is None:
        if len(rows.values) != tables.num_items:
            raise DataError(
                f"{path}: {len(rows.values):,} rows, but {tables.folder} has {tables.num_items:,} "
                f"items; a {_NUMPY} has one row an item in their order, a {_SAFETENSORS} with ids "
                "may have fewer"
            )
        return rows.values
    known = {name: row for row, name in enumerate(tables.vocabulary("item_id"))}
    pairs = [(known[name], row) for row, name in enumerate(rows.ids) if name in known]
    if not pairs:
        raise DataError(
            f"{path}: none of its {len(rows.ids):,} items ({_some(rows.ids)}) is in "
            f"{tables.folder} ({_some(list(known))}); was it made for other data?"
        )
    aligned = rows.values.new_full((tables.num_items, rows.values.shape[1]), missing)
    items, places = torch.tensor(pairs).unbind(1)
    aligned[items] = rows.values[places]
    return aligned


def _read(path: Path, tensor: str) -> ItemRows:
    if path.suffix not in (_NUMPY, _SAFETENSORS):
        raise DataError(
            f"{path}: {tensor} of items are read from {_NUMPY} or {_SAFETENSORS}, not "
            f"{path.suffix or 'a file without ending'!r}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file with {tensor} of items")
    rows = _read_numpy(path) if path.suffix == _NUMPY else _read_safetensors(path, tensor)
    shape = tuple(rows.values.shape)
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{path}: {tensor} are a table with a row an item, found shape {shape}")
    return rows


def _read_numpy(path: Path) -> ItemRows:
    try:
        with path.open("rb") as handle:
            array = np.lib.format.read_array(handle, allow_pickle=False)
    except (ValueError, EOFError, MemoryError, OverflowError) as error:
        raise DataError(f"{path}: damaged or not a plain array ({error})") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: an array of {array.dtype}, not of numbers")
    if array.dtype.itemsize > 8 or not array.dtype.isnative:
        array = array.astype(np.dtype(f"{array.dtype.kind}{min(array.dtype.itemsize, 8)}"))
    return ItemRows(None, torch.from_numpy(array))


def _read_safetensors(path: Path, tensor: str) -> ItemRows:
    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            values = file.get_tensor(tensor) if tensor in names else None
    except SafetensorError as error:
        raise DataError(f"{path}: damaged ({error})") from None
    if values is None:
        raise DataError(f"{path}: no tensor {tensor!r} in it; found {', '.join(names) or 'none'}")
    ids = _ids(path, metadata.get(_ITEMS))
    if values.dim() == 0 or len(values) != len(ids):
        raise DataError(f"{path}: {len(ids):,} item ids for {tensor} of {tuple(values.shape)}")
    return ItemRows(ids, values)


def _ids(path: Path, text: str | None) -> list[str]:
    if text is None:
        raise DataError(f"{path}: no metadata {_ITEMS!r}: a JSON list with the item id of each row")
    try:
        ids = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: metadata {_ITEMS!r} is not valid JSON ({error})") from None
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise DataError(f"{path}: metadata {_ITEMS!r} is not a JSON list of texts")
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{path}: item {name!r} has more than one row")
        seen.add(name)
    return ids


def _write(
    path: Path, tensor: str, ids: Sequence[str], values: Tensor, fingerprint: str | None = None
) -> None:
    refuse_unwritable(path)
    metadata = {_ITEMS: json.dumps(list(ids), ensure_ascii=False)}
    if fingerprint is not None:
        metadata[_FINGERPRINT] = fingerprint
    with atomic_path(path) as temporary:
        # save_file would write it for its owner's eyes alone
        temporary.write_bytes(save({tensor: values.cpu().contiguous()}, metadata=metadata))


def _dtype(rows: ItemRows) -> str:
    return str(rows.values.dtype).removeprefix("torch.")


def _row(rows: ItemRows, broken: Tensor) -> str:
    row = int(broken[0])
    return f"row {row}" if rows.ids is None else f"item {rows.ids[row]!r}"


def _some(ids: Sequence[str]) -> str:
    return ", ".join([*map(repr, ids[:3]), *(["..."] if len(ids) > 3 else [])])
