"""The texts of a corpus as token ids, made once and mapped from disk in every later run.

<folder>/<tokenizer>/<fingerprint>/
    facts.json                            all that the fingerprint covers
    values.npy, offsets.npy               (P,) int32 token ids, (R + 1,) int64
    kinds.npy, users.npy, items.npy       (R,) int64 what each text is of
    manifest.json                         sizes and hashes, written last
    parts/00000.npy, 00000.lengths.npy    while it is being made: a killed writer goes on
    lock                                  held by the process that writes
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, offsets_of
from legos.errors import DataError
from legos.files import atomic_path, write_array, write_json
from legos.lm.hidden_files import (
    FACTS,
    FORMAT,
    MANIFEST,
    Content,
    content_of,
    content_problem,
    fingerprint,
    leftovers,
    lock,
    read_facts,
    read_json,
)
from legos.records import Record, check_offsets, read_array
from legos.systems.cllm4rec.data import Corpus

PART_TEXTS = 20_000  # what a kill may cost
_PARTS = "parts"
_COLUMNS = ("values", "offsets", "kinds", "users", "items")

Encode = Callable[[Sequence[str]], Ragged]
"""Texts to int32 token ids, a row a text."""


class _Files(Record):
    """Sizes and hashes by file name."""

    files: dict[str, Content]


@dataclass(frozen=True)
class TokenizedCorpus:
    """What a store holds.

    Attributes:
        kinds, users, items: ``(R,)`` int64, see :class:`legos.systems.cllm4rec.data.Corpus`.
        texts: R rows of int32 token ids, mapped from disk.
    """

    kinds: Tensor
    users: Tensor
    items: Tensor
    texts: Ragged


class TokenStore:
    """The store of one corpus and one tokenizer.

    Args:
        folder: of the stores of this tokenizer.
        facts: JSON-able, everything that decides the ids; other facts are another store.

    Attributes:
        path: where it lies, ``folder/<fingerprint>``.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.facts: dict[str, Any] = json.loads(json.dumps(facts, allow_nan=False))
        self.path = folder / fingerprint(self.facts)

    @property
    def finished(self) -> bool:
        """Whether it can be opened."""
        return (self.path / MANIFEST).is_file()

    def open(self) -> TokenizedCorpus:
        """Map the store after every byte of it was checked.

        Raises:
            DataError: it is not finished, or a file is not what was written.
        """
        if not self.finished:
            raise DataError(f"{self.path}: these texts are not tokenized yet")
        read_facts(self.path)
        manifest = read_json(self.path / MANIFEST, _Files)
        for column in _COLUMNS:
            name = f"{column}.npy"
            if name not in manifest.files:
                raise DataError(f"{self.path / MANIFEST}: damaged, it names no {name}")
            problem = content_problem(self.path / name, manifest.files[name])
            if problem is not None:
                raise DataError(f"{problem}; {self._again}")
        values = self._map("values", "int32", None)
        offsets = self._map("offsets", "int64", None)
        check_offsets(offsets, len(values), str(self.path / "offsets.npy"), hint=self._again)
        kinds, users, items = (
            torch.from_numpy(self._map(column, "int64", len(offsets) - 1))
            for column in ("kinds", "users", "items")
        )
        texts = Ragged(torch.from_numpy(values), torch.from_numpy(offsets))
        return TokenizedCorpus(kinds, users, items, texts)

    def write(
        self,
        corpus: Corpus,
        encode: Encode,
        *,
        advance: Callable[[int], None] = lambda count: None,
        part_texts: int = PART_TEXTS,
    ) -> None:
        """Tokenize what is missing of a corpus; a finished store is left alone.

        Args:
            corpus: the texts.
            encode: the tokenizer.
            advance: told the texts of each part once they are done.
            part_texts: texts a part.

        Raises:
            CacheInUseError: another process writes this store.
        """
        with lock(self.path):
            if self.finished:
                return
            for file in leftovers(self.path):
                file.unlink()
            write_json(self.path / FACTS, {"format": FORMAT, "facts": self.facts})
            begins = range(0, len(corpus.texts), part_texts)
            for number, begin in enumerate(begins):
                page = corpus.texts[begin : begin + part_texts]
                self._write_part(number, page, encode)
                advance(len(page))
            self._join(corpus, len(begins))
            files = {f"{name}.npy": content_of(self.path / f"{name}.npy") for name in _COLUMNS}
            write_json(self.path / MANIFEST, _Files(files=files).model_dump())
            shutil.rmtree(self.path / _PARTS, ignore_errors=True)

    def _write_part(self, number: int, texts: Sequence[str], encode: Encode) -> None:
        ids, lengths, seal = self._part(number)
        if seal.is_file():
            with suppress(DataError):  # damaged: it is written again
                known = read_json(seal, _Files).files
                whole = all(
                    path.name in known and content_problem(path, known[path.name]) is None
                    for path in (ids, lengths)
                )
                if whole:
                    self._lengths(number, len(texts))
                    return
        encoded = encode(texts)
        write_array(ids, encoded.values.numpy().astype(np.int32))
        write_array(lengths, encoded.lengths.numpy())
        files = {path.name: content_of(path) for path in (ids, lengths)}
        write_json(seal, _Files(files=files).model_dump())

    def _join(self, corpus: Corpus, parts: int) -> None:
        """One file of all ids, without ever holding them all."""
        lengths = [self._lengths(number, None) for number in range(parts)]
        offsets = offsets_of(np.concatenate([np.zeros(0, dtype=np.int64), *lengths]))
        total = int(offsets[-1])
        with atomic_path(self.path / "values.npy") as temporary, temporary.open("wb") as file:
            header = {"descr": "<i4", "fortran_order": False, "shape": (total,)}
            np.lib.format.write_array_header_1_0(file, header)
            for number in range(parts):
                ids = read_array(self._part(number)[0], dtype="int32", shape=(None,))
                file.write(ids.astype("<i4", copy=False).data)
        write_array(self.path / "offsets.npy", offsets)
        for name in ("kinds", "users", "items"):
            write_array(self.path / f"{name}.npy", getattr(corpus, name).numpy())

    def _part(self, number: int) -> tuple[Path, Path, Path]:
        stem = self.path / _PARTS / f"{number:05d}"
        return stem.with_suffix(".npy"), stem.with_suffix(".lengths.npy"), stem.with_suffix(".json")

    def _lengths(self, number: int, count: int | None) -> np.ndarray:
        return read_array(self._part(number)[1], dtype="int64", shape=(count,))

    @property
    def _again(self) -> str:
        return f"delete {self.path} and start again"

    def _map(self, column: str, dtype: str, length: int | None) -> np.ndarray:
        path = self.path / f"{column}.npy"
        return read_array(path, dtype=dtype, shape=(length,), mapped=True, hint=self._again)
