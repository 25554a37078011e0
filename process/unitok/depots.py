"""One UniTok folder as columns of ids, whichever version wrote it.

Version 4: ``meta.json``, ``data.pkl``, ``<vocabulary>.vocab``. Version 3 (UniDep): a
``meta.data.json``, ``data.npy``, ``tok.<vocabulary>.dat``. The formats are those of Jyonn's
UnifiedTokenizer, as its packages ``unitok`` and ``UniTokv3`` write them. The package itself is not
used: it would run whatever a pickle asks for, and load language models' tokenizers by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from legos.data.ragged import RaggedArray, from_lengths
from legos.errors import DataError
from legos.records import read_json
from process.restricted_pickle import load_pickled_npy, restricted_load

META4, META3 = "meta.json", "meta.data.json"
VERSIONS4 = ("unidep-v4.0", "unidep-v4.1", "unidep-v4beta")
VERSIONS3 = ("UniDep-2.0", "v2.4")


@dataclass(frozen=True)
class DepotColumn:
    """One column.

    Attributes:
        values: ``(n,)`` int64 ids, or a list of ids a row.
        vocabulary: what they are ids of.
        max_length: the cut length of lists, as the folder says; 0 of scalars.
        separator: what stood between the parts of a list, "" where the folder does not say.
    """

    values: np.ndarray | RaggedArray
    vocabulary: str
    max_length: int
    separator: str = ""

    @property
    def scalar(self) -> np.ndarray | None:
        """The ids of a column of one id a row; None of lists."""
        return self.values if isinstance(self.values, np.ndarray) else None

    @property
    def lists(self) -> RaggedArray | None:
        """The lists of a list column; None of scalars."""
        return None if isinstance(self.values, np.ndarray) else self.values


@dataclass(frozen=True)
class Depot:
    """One table.

    Attributes:
        folder: where it lies.
        key: the column that names a row.
        columns: by name.
        vocabularies: entries by name; position = id.
        files: that were read.
    """

    folder: Path
    key: str
    columns: Mapping[str, DepotColumn]
    vocabularies: Mapping[str, list[str]]
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.folder.name

    @property
    def key_vocabulary(self) -> str:
        """Whose entries name its rows."""
        return self.columns[self.key].vocabulary

    def __len__(self) -> int:
        values = self.columns[self.key].scalar
        return 0 if values is None else len(values)


def read_depots(folder: Path) -> dict[str, Depot]:
    """Every table in a folder, or the one that it is, by name.

    Raises:
        DataError: there is none, or one is damaged; names the file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    alone = _has_meta(folder)
    folders = [folder] if alone else sorted(each for each in folder.iterdir() if _has_meta(each))
    if not folders:
        raise DataError(
            f"{folder}: no UniTok table in it; expected folders with {META4} (version 4) or "
            f"{META3} (version 3), such as items/, users/, train/"
        )
    return {each.name: read_depot(each) for each in folders}


def _has_meta(folder: Path) -> bool:
    return (folder / META4).is_file() or (folder / META3).is_file()


def read_depot(folder: Path) -> Depot:
    """One table; version 4 counts where both are there.

    Raises:
        DataError: a file is missing or damaged, of another version, or ids lie beyond their
            vocabulary.
    """
    depot = _read4(folder) if (folder / META4).is_file() else _read3(folder)
    for name, column in depot.columns.items():
        values = column.values if isinstance(column.values, np.ndarray) else column.values.values
        size = len(depot.vocabularies[column.vocabulary])
        least = -1 if depot.vocabularies[column.vocabulary] == ["0", "1"] else 0  # -1: unlabelled
        if len(values) and not least <= int(values.min()) <= int(values.max()) < size:
            raise DataError(
                f"{folder}: column {name!r} holds ids from {values.min()} to {values.max()}, "
                f"vocabulary {column.vocabulary!r} has {size:,} entries"
            )
        rows = len(values) if column.lists is None else len(column.lists)
        if rows != len(depot):
            raise DataError(
                f"{folder}: column {name!r} has {rows:,} rows, key {depot.key!r} {len(depot):,}"
            )
    return depot


def _read4(folder: Path) -> Depot:
    path, data_path = folder / META4, folder / "data.pkl"
    meta = _meta(path, VERSIONS4, "4")
    with _places(path):
        sizes = {str(each["name"]): int(each["vocab_size"]) for each in meta["vocabularies"]}
        tokenizers = {each["tokenizer_id"]: each for each in meta["tokenizers"]}
        features = meta.get("features") or meta["jobs"]
        used = {each["name"]: tokenizers[each["tokenizer"]] for each in features}
        keys = [each["name"] for each in features if each["key"]]
        lengths = {each["name"]: int(each["max_len"]) for each in features}
    files = {name: folder / f"{name}.vocab" for name in sizes}
    vocabularies = {name: _pickled_list(file) for name, file in files.items()}
    for name, size in sizes.items():
        if len(vocabularies[name]) != size:
            raise DataError(
                f"{files[name]}: {len(vocabularies[name]):,} entries, {META4} says {size:,}"
            )
    data = _pickled(data_path)
    columns = {}
    for name, tokenizer in used.items():
        values = _values(_column(data, name, data_path), name, data_path)
        separator = str(tokenizer.get("params", {}).get("sep") or "")
        vocabulary = str(tokenizer["vocab"])
        columns[name] = DepotColumn(values, vocabulary, lengths[name], separator)
    return _depot(folder, path, keys, columns, vocabularies, [path, data_path, *files.values()])


def _read3(folder: Path) -> Depot:
    path, data_path = folder / META3, folder / "data.npy"
    meta = _meta(path, VERSIONS3, "3")
    with _places(path):
        described = meta.get("cols") or meta["col_info"]
        sizes = {
            name: int(each["size"])
            for name, each in (meta.get("vocs") or meta["vocab_info"]).items()
        }
        used = {name: str(each.get("voc") or each["vocab"]) for name, each in described.items()}
        keys = [meta["id_col"]]
    files = {name: folder / f"tok.{name}.dat" for name in sizes}
    vocabularies = {name: _lines(file, sizes[name]) for name, file in files.items()}
    data = load_pickled_npy(data_path)
    columns = {}
    for name, vocabulary in used.items():
        values = _values(_column(data, name, data_path), name, data_path)
        length = int(described[name].get("max_length") or 0)
        if not isinstance(values, np.ndarray):
            if described[name].get("padding"):
                values = _without_padding(values)
            length = length or int(values.lengths.max(initial=0))
        columns[name] = DepotColumn(values, vocabulary, length)
    return _depot(folder, path, keys, columns, vocabularies, [path, data_path, *files.values()])


def _depot(
    folder: Path,
    meta: Path,
    keys: list[str],
    columns: Mapping[str, DepotColumn],
    vocabularies: Mapping[str, list[str]],
    files: list[Path],
) -> Depot:
    if len(keys) != 1 or keys[0] not in columns or columns[keys[0]].scalar is None:
        raise DataError(f"{meta}: one column must be the key, found {keys or 'none'}")
    for name, column in columns.items():
        if column.vocabulary not in vocabularies:
            raise DataError(
                f"{meta}: column {name!r} is of vocabulary {column.vocabulary!r}, which it does "
                "not list"
            )
    return Depot(folder, keys[0], columns, vocabularies, tuple(files))


def _meta(path: Path, versions: tuple[str, ...], major: str) -> Mapping[str, Any]:
    meta = read_json(path, hint="is the download whole?")
    version = meta.get("version") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or version not in versions:
        raise DataError(
            f"{path}: version {version!r}; of UniTok {major} {', '.join(versions)} are read"
        )
    return meta


class _places:
    """Turns a key that is missing or of another type into an error that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | AttributeError):
            raise DataError(
                f"{self.path}: not what UniTok writes ({type(error).__name__}: {error})"
            ) from None


def _pickled(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        return restricted_load(file, str(path))


def _pickled_list(path: Path) -> list[str]:
    entries = _pickled(path)
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list of entries, found {type(entries).__name__}")
    return [str(entry) for entry in entries]


def _lines(path: Path, size: int) -> list[str]:
    """One entry a line; what counts is the number of entries that the meta file says."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        entries = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason})") from None
    if len(entries) != size:
        raise DataError(f"{path}: {len(entries):,} entries, {META3} says {size:,}")
    return entries


def _column(data: Any, name: str, path: Path) -> Any:
    if not isinstance(data, dict) or name not in data:
        known = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise DataError(f"{path}: no column {name!r}, found: {known}")
    return data[name]


def _values(rows: Any, name: str, path: Path) -> np.ndarray | RaggedArray:
    """Python's lists (or arrays of objects) as ids, or as lists of ids."""
    if isinstance(rows, np.ndarray) and rows.ndim == 2:  # equally long lists
        rows = list(rows)
    listed = [isinstance(row, list | tuple | np.ndarray) for row in rows]
    if any(listed) and not all(listed):
        raise DataError(f"{path}: column {name!r} has lists in some rows and numbers in others")
    try:
        if not any(listed):
            return _whole(list(rows))
        return from_lengths(
            _whole([value for row in rows for value in row]),
            np.array([len(row) for row in rows], dtype=np.int64),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: column {name!r} is not made of whole numbers ({error})") from None


def _whole(values: list[Any]) -> np.ndarray:
    numbers = np.array(values if values else np.zeros(0, np.int64))
    if numbers.dtype.kind not in "biu" and len(numbers):
        raise TypeError(f"found {values[0]!r}")
    return numbers.astype(np.int64)


def _without_padding(lists: RaggedArray) -> RaggedArray:
    """Lists of one length lose their trailing zeros, which UniTok 3 pads with."""
    real = np.zeros(len(lists.values), dtype=bool)
    kept = []
    for begin, end in _bounds(lists):
        found = np.flatnonzero(lists.values[begin:end])
        kept.append(int(found[-1]) + 1 if len(found) else 0)
        real[begin : begin + kept[-1]] = True
    return from_lengths(lists.values[real], np.array(kept, dtype=np.int64))


def _bounds(lists: RaggedArray) -> Iterator[tuple[int, int]]:
    offsets = lists.offsets.tolist()
    return itertools.pairwise(offsets)
