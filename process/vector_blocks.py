"""Vectors written block by block beside their file, so that a killed command goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from legos.errors import DataError
from legos.files import output_lock, write_array, write_json
from legos.records import Record, read_array, read_record

_FACTS = "facts.json"
_FORMAT = 1
_LONGEST = 60  # characters of a fact in a message


class _Facts(Record):
    format: int
    facts: dict[str, Any]


class VectorBlocks:
    """Blocks of vectors in the folder ``<output>.partial``.

    Args:
        output: the file that they become.
        facts: all that decides them; blocks of other facts are never used.
    """

    def __init__(self, output: Path, facts: Mapping[str, Any]) -> None:
        self.folder = output.with_name(f"{output.name}.partial")
        self.facts = dict(facts)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes away, and begin or go on.

        Raises:
            DataError: the blocks of other facts lie there; names the first that differs.
            InUseError: another process writes them.
        """
        with output_lock(self.folder):
            path = self.folder / _FACTS
            if path.is_file():
                self._refuse_other(read_record(path, _Facts, hint=self._hint))
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(path, {"format": _FORMAT, "facts": self.facts})
            yield

    def read(self, number: int, rows: int, width: int) -> np.ndarray | None:
        """Block ``number``, ``(rows, width)`` float32; None: it was never finished."""
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            return read_array(path, dtype="float32", shape=(rows, width))
        except DataError:
            return None  # damaged: it is made again

    def write(self, number: int, vectors: np.ndarray) -> None:
        """Store a block, whole or not at all."""
        write_array(self._path(number), vectors)

    def remove(self) -> None:
        """The file is written, so that nobody needs them."""
        shutil.rmtree(self.folder)

    @property
    def _hint(self) -> str:
        return f"give the same again, or another --output, or remove {self.folder} to start anew"

    def _path(self, number: int) -> Path:
        return self.folder / f"block-{number:05}.npy"

    def _refuse_other(self, found: _Facts) -> None:
        if found.format != _FORMAT:
            raise DataError(f"{self.folder}: of format {found.format}, not {_FORMAT}; {self._hint}")
        for key in sorted(found.facts.keys() | self.facts.keys()):
            theirs, ours = found.facts.get(key), self.facts.get(key)
            if theirs != ours:
                told = [json.dumps(each, ensure_ascii=False) for each in (theirs, ours)]
                differ = f": {told[0]}, not {told[1]}" if max(map(len, told)) < _LONGEST else ""
                raise DataError(f"{self.folder}: was begun with other {key}{differ}; {self._hint}")
