"""The files of a hidden-state cache: their names, their contents, their checks, their lock.

    <folder>/<model>/<fingerprint>/
        facts.json                     all that the fingerprint covers
        tokens.npy, offsets.npy        (P,) int32 token ids, (N + 1,) int64: what was read
        layout.json                    hashes of these two, and which items a shard holds
        <part>/00000.npy, 00000.json   (rows, width) of whole items; beside it its size and SHA-256
        <part>/manifest.json           all shards, written last: with it the part is finished
        used                           touched at every opening
        lock                           held by the process that writes

bf16 lies in a file as uint16, since numpy has no such type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import DataError
from legos.files import InUseError, hold, sha256_of_file, sha256_of_text
from legos.lm.settings import Dtype
from legos.lm.text_model import DTYPES
from legos.records import (
    Count,
    Model,
    Record,
    Sha256,
    check_offsets,
    read_array,
    read_header,
    read_record,
)

FORMAT = 1
FACTS, LAYOUT, MANIFEST = "facts.json", "layout.json", "manifest.json"
LABEL = "data"  # the fact that is for readers only
TOKENS, OFFSETS, USED, LOCK = "tokens.npy", "offsets.npy", "used", "lock"
FINGERPRINT = re.compile(r"[0-9a-f]{24}")

_NUMPY_TYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}


class CacheInUseError(InUseError):
    """Another process writes this cache."""


@dataclass(frozen=True)
class CachedPart:
    """One thing a cache holds: a row for each token or each item."""

    name: str  # ``layer_12`` or ``pooled``; it names a folder
    width: int  # numbers a row: E, or (L + 1) * E for ``pooled``
    per: Literal["token", "item"]

    def rows(self, offsets: Tensor, first: int, stop: int) -> int:
        """How many rows the items ``first`` to ``stop`` have; offsets ``(N + 1,)`` int64."""
        return stop - first if self.per == "item" else int(offsets[stop] - offsets[first])

    def row_bytes(self, dtype: str) -> int:
        """Bytes of a row."""
        return self.width * DTYPES[dtype].itemsize


class Content(Record):
    """What a file must be."""

    bytes: Count
    sha256: Sha256


class Shard(Content):
    """One file of a part: the rows of the items ``first`` to ``stop``."""

    first: Count
    stop: Count
    rows: Count


class Manifest(Record):
    """A finished part."""

    per: Literal["token", "item"]
    width: Count
    dtype: Dtype
    shards: list[Shard]


class Layout(Record):
    """What the parts of a cache have in common."""

    items: Count
    tokens: Content
    offsets: Content
    bounds: list[int]
    """Shard i holds the items ``bounds[i]`` to ``bounds[i + 1]``."""

    @model_validator(mode="after")
    def _bounds_hold_every_item_once(self) -> Self:
        rising = all(first < stop for first, stop in pairwise(self.bounds))
        if not rising or not self.bounds or (self.bounds[0], self.bounds[-1]) != (0, self.items):
            raise ValueError("bounds are not those of the items")
        return self


class Facts(Record):
    """All that decides the states of a cache."""

    format: int
    facts: dict[str, Any]


def read_json(path: Path, model: type[Model]) -> Model:
    """Read one of the JSON files; DataError: missing, or not what such a file says."""
    return read_record(path, model, hint=f"delete {path.parent} and start again")


def fingerprint(facts: Mapping[str, Any]) -> str:
    """The name of a cache's folder: 24 hexadecimal digits of its facts and the format.

    How the data set was called when a cache was made decides nothing.
    """
    deciding = {key: value for key, value in facts.items() if key != LABEL}
    content = {"format": FORMAT, "facts": deciding}
    return sha256_of_text(json.dumps(content, sort_keys=True, allow_nan=False))[:24]


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a cache; DataError: missing, damaged, of another format or folder."""
    found = read_json(path / FACTS, Facts)
    if found.format != FORMAT:
        raise DataError(f"{path}: a cache of format {found.format}, this legos reads {FORMAT}")
    if fingerprint(found.facts) != path.name:
        raise DataError(f"{path / FACTS}: damaged, these are not the facts of a cache of that name")
    return found.facts


def shard_path(folder: Path, number: int) -> Path:
    """File of a part's shard; its size and hash lie beside it as ``.json``."""
    return folder / f"{number:05d}.npy"


def content_of(path: Path) -> Content:
    """Size and hash of a file as it is."""
    return Content(bytes=path.stat().st_size, sha256=sha256_of_file(path))


def content_problem(path: Path, content: Content, *, hashed: bool = True) -> str | None:
    """How a file differs from what was written, without ``hashed`` in size; None: not at all."""
    if not path.is_file():
        return f"{path}: missing"
    size = path.stat().st_size
    if size != content.bytes:
        return f"{path}: damaged, it has {size:,} bytes of the {content.bytes:,} that were written"
    if hashed and sha256_of_file(path) != content.sha256:
        return f"{path}: damaged, its SHA-256 is not that of what was written"
    return None


def shard_problem(path: Path, shard: Shard, width: int, dtype: str) -> str | None:
    """How a shard differs from what was written, every byte read; None: not at all."""
    problem = content_problem(path, shard)
    if problem is not None:
        return problem
    header = read_header(path)
    expected = ((shard.rows, width), np.dtype(_NUMPY_TYPES[dtype]))
    if (header.shape, header.dtype) != expected or header.fortran:
        return (
            f"{path}: holds {header.dtype} of shape {header.shape}, expected {expected[1]} of "
            f"{expected[0]}"
        )
    return None


def read_manifest(path: Path, name: str, layout: Layout, offsets: Tensor) -> Manifest:
    """The manifest of a part, its shards in order and with as many rows as the items have.

    ``offsets`` ``(N + 1,)`` int64 are the first token of each item; DataError: missing or damaged.
    """
    manifest = read_json(path / name / MANIFEST, Manifest)
    part = CachedPart(name, manifest.width, manifest.per)
    expected = [
        (first, stop, part.rows(offsets, first, stop)) for first, stop in pairwise(layout.bounds)
    ]
    if [(shard.first, shard.stop, shard.rows) for shard in manifest.shards] != expected:
        raise DataError(f"{path / name / MANIFEST}: damaged, its shards are not those of the items")
    return manifest


def read_head(path: Path, ours: Ragged | None = None) -> tuple[Layout, Ragged]:
    """What all parts of a cache share: its layout, and the int32 token ids that were read.

    DataError: missing, damaged, or made from other token ids than ``ours``.
    """
    read_facts(path)
    layout = read_json(path / LAYOUT, Layout)
    for name, content in ((TOKENS, layout.tokens), (OFFSETS, layout.offsets)):
        problem = content_problem(path / name, content)
        if problem is not None:
            raise DataError(problem)
    tokens = read_array(path / TOKENS, dtype="int32", shape=(None,))
    offsets = read_array(path / OFFSETS, dtype="int64", shape=(layout.items + 1,))
    check_offsets(offsets, len(tokens), str(path / OFFSETS))
    found = Ragged(torch.from_numpy(tokens), torch.from_numpy(offsets))
    if ours is not None and not (
        torch.equal(ours.offsets, found.offsets) and torch.equal(ours.values.int(), found.values)
    ):
        raise DataError(f"{path}: made from other token ids though its facts are the same")
    return layout, found


def map_shard(path: Path, shard: Shard, width: int, dtype: str) -> Tensor:
    """``(rows, width)`` states of a checked shard, read from the disk as they are used."""
    begin = read_header(path).begin
    # unlike numpy's, this mapping keeps no file open: a large cache has more shards than a
    # process may have files
    whole = torch.from_file(str(path), shared=False, size=shard.bytes, dtype=torch.uint8)
    return whole[begin:].view(DTYPES[dtype]).view(shard.rows, width)


def to_array(states: Tensor, dtype: str) -> np.ndarray:
    """States on any device, already of that type, as they lie in a file."""
    plain = states.cpu().contiguous()
    return plain.view(torch.uint16).numpy() if dtype == "bf16" else plain.numpy()


def finished_parts(path: Path) -> list[str]:
    """Names of the parts with a manifest, layers in their order."""
    names = (manifest.parent.name for manifest in path.glob(f"*/{MANIFEST}"))
    return sorted(names, key=lambda name: (len(name), name))


def leftovers(path: Path) -> list[Path]:
    """Files that a killed writer was at; call it with the lock held, or they may be alive."""
    return [file for pattern in (".*.part", "*/.*.part") for file in path.glob(pattern)]


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Keep other processes from changing a cache, or raise CacheInUseError.

    A killed owner's lock is free at once.
    """

    def busy(owner: str) -> CacheInUseError:
        return CacheInUseError(
            f"{path}: process {owner} is working on this cache; wait for it, what it finishes need "
            "not be computed again"
        )

    with hold(path / LOCK, busy):
        yield
