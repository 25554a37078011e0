"""Vectors of whole items or users and semantic codes of items, read from files into their order.

Two formats. ``.npy``: an array, row i belongs to item (user) i of the tables. ``.safetensors``: a
tensor ``vectors`` or ``codes`` and, as metadata ``items`` (``users``), the JSON list of the raw ids
of its rows; it goes by id, so it may hold others and in another order than the tables. Metadata
``encoder`` says how ``python -m process.item_vectors`` made it, so that new items get theirs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from legos.data.tables import Tables
from legos.errors import DataError
from legos.files import atomic_path
from legos.records import (
    NUMBERS,
    Record,
    check_record,
    check_strings,
    parse_json,
    read_header,
    read_numbers,
)

VECTORS, CODES = "vectors", "codes"
NO_CODE = -1
_FINGERPRINT, _ENCODER = "fingerprint", "encoder"  # keys of the metadata
_NUMPY, _SAFETENSORS = ".npy", ".safetensors"


@dataclass(frozen=True)
class _Kind:
    """Whose vectors these are."""

    name: str
    vocabulary: str

    @property
    def plural(self) -> str:
        """Also the key of the metadata."""
        return self.name + "s"

    @property
    def article(self) -> str:
        return f"an {self.name}" if self.name == "item" else f"a {self.name}"


_ITEM, _USER = _Kind("item", "item_id"), _Kind("user", "user_id")


class Encoding(Record):
    """How a language model makes vectors out of texts, see :mod:`legos.lm.text_vectors`.

    Attributes:
        max_length: tokens that a text keeps; None: all that its sentence encoder reads.
        head: the mean of final states, or what the files of a sentence encoder say.
        prompt: words before every text.
        dimensions: numbers of a vector that are kept, scaled again where the head scales it.
        bidirectional: whether a decoder reads in both directions.
    """

    max_length: int | None = None
    head: Literal["mean", "shipped"] = "mean"  # files older than heads do not say
    prompt: str = ""
    dimensions: int | None = None
    bidirectional: bool = False


class Encoder(Encoding):
    """What made the vectors of a file.

    Attributes:
        model: name or folder of the language model.
        fields: text fields that are joined.
    """

    model: str
    fields: list[str]


@dataclass(frozen=True)
class NamedRows:
    """What a file says of items or users.

    Attributes:
        ids: raw id of each row; None where rows stand in the order of the tables.
        values: ``(rows, E)`` float32 vectors or ``(rows, L)`` int64 codes.
    """

    ids: list[str] | None
    values: Tensor


def read_item_vectors(path: Path, tables: Tables) -> Tensor:
    """``(items, E)`` float32; a row of NaN for an item the file does not have.

    Raises:
        DataError: the file is missing, damaged, or not for the items of these tables.
    """
    return _vectors(path, tables, _ITEM)


def read_user_vectors(path: Path, tables: Tables) -> Tensor:
    """``(users, E)`` float32; a row of NaN for a user the file does not have.

    Raises:
        DataError: the file is missing, damaged, or not for the users of these tables.
    """
    return _vectors(path, tables, _USER)


def read_item_codes(path: Path, tables: Tables) -> Tensor:
    """``(items, L)`` int64; a row of -1 for an item the file does not have.

    Raises:
        DataError: the file is missing, damaged, or not for the items of these tables.
    """
    return _aligned(path, read_code_rows(path), tables, NO_CODE, _ITEM)


def write_item_vectors(
    path: Path,
    ids: Sequence[str],
    vectors: Tensor,
    *,
    fingerprint: str | None = None,
    encoder: Encoder | None = None,
) -> None:
    """Write ``(rows, E)`` vectors of the items ``ids`` as ``.safetensors``, whole or not at all.

    ``fingerprint`` says what they were made from; :func:`file_fingerprint` reads it. ``encoder``
    says how; :func:`encoder_of` reads it.
    """
    _write(path, VECTORS, ids, vectors.float(), _ITEM, fingerprint, encoder)


def write_user_vectors(
    path: Path, ids: Sequence[str], vectors: Tensor, *, fingerprint: str | None = None
) -> None:
    """Write ``(rows, E)`` vectors of the users ``ids`` in the same way."""
    _write(path, VECTORS, ids, vectors.float(), _USER, fingerprint)


def write_item_codes(path: Path, ids: Sequence[str], codes: Tensor) -> None:
    """Write ``(rows, L)`` codes of the items ``ids`` as ``.safetensors``, whole or not at all."""
    _write(path, CODES, ids, codes.long(), _ITEM)


def file_fingerprint(path: Path) -> str | None:
    """What a ``.safetensors`` file was made from; None where it is missing or does not say."""
    return _metadata(path).get(_FINGERPRINT)


def encoder_of(path: Path) -> Encoder | None:
    """How a file of vectors was made; None where it does not say.

    Raises:
        DataError: it says so in another form.
    """
    text = _metadata(path).get(_ENCODER)
    if text is None:
        return None
    where = f"{path}: metadata {_ENCODER!r}"
    said = parse_json(text.encode("utf-8", "surrogatepass"), where)
    return check_record(said, Encoder, where)


def _metadata(path: Path) -> dict[str, str]:
    """Metadata of a ``.safetensors`` file; empty where there is no such file."""
    if path.suffix != _SAFETENSORS or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, str] = file.metadata() or {}
            return found
    except SafetensorError:
        return {}


def refuse_unwritable(path: Path) -> None:
    """Raise DataError unless a file of this name can hold ids; worth asking before long work."""
    if path.suffix != _SAFETENSORS:
        raise DataError(f"{path}: items are written with their ids, as {_SAFETENSORS}")


def read_vector_rows(path: Path) -> NamedRows:
    """Vectors of items in the order of the file.

    Raises:
        DataError: the file is missing or damaged, or not all of it is finite numbers.
    """
    return _vector_rows(path, _ITEM)


def _vectors(path: Path, tables: Tables, kind: _Kind) -> Tensor:
    return _aligned(path, _vector_rows(path, kind), tables, torch.nan, kind)


def _vector_rows(path: Path, kind: _Kind) -> NamedRows:
    rows = _read(path, VECTORS, kind)
    if not rows.values.is_floating_point():
        raise DataError(f"{path}: vectors are floating point numbers, found {_dtype(rows)}")
    vectors = rows.values.float()
    broken = (~vectors.isfinite().all(1)).nonzero()[:, 0]
    if broken.numel():
        raise DataError(
            f"{path}: {broken.numel():,} of {len(vectors):,} vectors are not finite (NaN, infinite "
            f"or beyond float32), the first is {_row(rows, broken, kind)}; leave such "
            f"{kind.plural} out of a {_SAFETENSORS}"
        )
    return NamedRows(rows.ids, vectors)


def read_code_rows(path: Path) -> NamedRows:
    """Codes in the order of the file.

    Raises:
        DataError: the file is missing or damaged, or a row mixes codes and numbers below 0.
    """
    rows = _read(path, CODES, _ITEM)
    if rows.values.is_floating_point() or rows.values.dtype == torch.bool:
        raise DataError(f"{path}: codes are integers, found {_dtype(rows)}")
    codes = rows.values.long()
    broken = ((codes < 0).any(1) & ~(codes == NO_CODE).all(1)).nonzero()[:, 0]
    if broken.numel():
        raise DataError(
            f"{path}: {broken.numel():,} of {len(codes):,} lists of codes have numbers below 0, "
            f"the first is {_row(rows, broken, _ITEM)}: {codes[broken[0]].tolist()}; codes count "
            f"from 0, and only a whole row of {NO_CODE} stands for an item without codes"
        )
    return NamedRows(rows.ids, codes)


def _aligned(path: Path, rows: NamedRows, tables: Tables, missing: float, kind: _Kind) -> Tensor:
    """One row an item or user of the tables, ``missing`` where the file has none."""
    count = tables.num_items if kind is _ITEM else tables.num_users
    if rows.ids is None:
        if len(rows.values) != count:
            raise DataError(
                f"{path}: {len(rows.values):,} rows, but {tables.folder} has {count:,} "
                f"{kind.plural}; a {_NUMPY} has one row {kind.article} in their order, a "
                f"{_SAFETENSORS} with ids may have fewer"
            )
        return rows.values
    known = {name: row for row, name in enumerate(tables.vocabulary(kind.vocabulary))}
    pairs = [(known[name], row) for row, name in enumerate(rows.ids) if name in known]
    if not pairs:
        raise DataError(
            f"{path}: none of its {len(rows.ids):,} {kind.plural} ({_some(rows.ids)}) is in "
            f"{tables.folder} ({_some(list(known))}); was it made for another data set?"
        )
    aligned = rows.values.new_full((count, rows.values.shape[1]), missing)
    own, places = torch.tensor(pairs).unbind(1)
    aligned[own] = rows.values[places]
    return aligned


def _read(path: Path, tensor: str, kind: _Kind) -> NamedRows:
    if path.suffix not in (_NUMPY, _SAFETENSORS):
        raise DataError(
            f"{path}: {tensor} of {kind.plural} are read from {_NUMPY} or {_SAFETENSORS}, not "
            f"{path.suffix or 'a file without ending'!r}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file with {tensor} of {kind.plural}")
    rows = _read_numpy(path) if path.suffix == _NUMPY else _read_safetensors(path, tensor, kind)
    shape = tuple(rows.values.shape)
    if len(shape) != 2 or 0 in shape:
        raise DataError(
            f"{path}: {tensor} are a table with a row {kind.article}, found shape {shape}"
        )
    return rows


def _read_numpy(path: Path) -> NamedRows:
    header = read_header(path)
    if header.dtype.kind not in NUMBERS:
        raise DataError(f"{path}: an array of {header.dtype}, not of numbers")
    array = read_numbers(path, header)
    if array.dtype.itemsize > 8 or not array.dtype.isnative:
        array = array.astype(np.dtype(f"{array.dtype.kind}{min(array.dtype.itemsize, 8)}"))
    return NamedRows(None, torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)))


def _read_safetensors(path: Path, tensor: str, kind: _Kind) -> NamedRows:
    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            values = file.get_tensor(tensor) if tensor in names else None
    except SafetensorError as error:
        raise DataError(f"{path}: damaged ({error})") from None
    if values is None:
        raise DataError(f"{path}: no tensor {tensor!r} in it; found {', '.join(names) or 'none'}")
    ids = _ids(path, metadata.get(kind.plural), kind)
    if values.dim() == 0 or len(values) != len(ids):
        raise DataError(
            f"{path}: {len(ids):,} {kind.name} ids for {tensor} of {tuple(values.shape)}"
        )
    return NamedRows(ids, values)


def _ids(path: Path, text: str | None, kind: _Kind) -> list[str]:
    key = kind.plural
    if text is None:
        raise DataError(
            f"{path}: no metadata {key!r}: a JSON list with the {kind.name} id of each row"
        )
    where = f"{path}: metadata {key!r}"
    ids = check_strings(parse_json(text.encode("utf-8", "surrogatepass"), where), where)
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{path}: {kind.name} {name!r} has more than one row")
        seen.add(name)
    return ids


def _write(
    path: Path,
    tensor: str,
    ids: Sequence[str],
    values: Tensor,
    kind: _Kind,
    fingerprint: str | None = None,
    encoder: Encoder | None = None,
) -> None:
    refuse_unwritable(path)
    metadata = {kind.plural: json.dumps(list(ids), ensure_ascii=False)}
    if fingerprint is not None:
        metadata[_FINGERPRINT] = fingerprint
    if encoder is not None:
        metadata[_ENCODER] = json.dumps(encoder.model_dump(), ensure_ascii=False)
    with atomic_path(path) as temporary:
        # save_file would write it for its owner's eyes alone
        temporary.write_bytes(save({tensor: values.cpu().contiguous()}, metadata=metadata))


def _dtype(rows: NamedRows) -> str:
    return str(rows.values.dtype).removeprefix("torch.")


def _row(rows: NamedRows, broken: Tensor, kind: _Kind) -> str:
    row = int(broken[0])
    return f"row {row}" if rows.ids is None else f"{kind.name} {rows.ids[row]!r}"


def _some(ids: Sequence[str]) -> str:
    return ", ".join([*map(repr, ids[:3]), *(["..."] if len(ids) > 3 else [])])
