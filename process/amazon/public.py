"""The files that CLLM4Rec's authors offer (Zhu et al., WWW 2024, arXiv 2311.01343).

::

    meta.pkl                                   {"num_users", "num_items"}
    train_matrix.npz val_matrix.npz test_matrix.npz    scipy sparse matrices (users, items)
    user_item_texts/{review,explain}.pkl       lists of [prompt, text], user_i and item_j in prompts
    item_texts/{title,brand,categories,description}.pkl    the same, item_j in prompts; optional

Pickles are read as data: no class or function that they name is looked up.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from legos.data.texts import one_line
from legos.errors import DataError
from process.interactions.rows import Interactions
from process.interactions.splits import SPLITS
from process.moments import UNKNOWN_TIME
from process.restricted_pickle import restricted_load
from process.tsv import require_file

MATRICES = ("train_matrix.npz", "val_matrix.npz", "test_matrix.npz")
PAIR_TEXTS = {"review": "review", "explanation": "explain"}  # field -> file
ITEM_TEXTS = ("title", "brand", "categories", "description")
_USER, _ITEM = re.compile(r"\buser_(\d+)\b", re.ASCII), re.compile(r"\bitem_(\d+)\b", re.ASCII)
_LARGEST_MATRIX = 4 * 2**30


@dataclass
class PublicData:
    """Everything the folder holds.

    Attributes:
        interactions: by user, then item number; neither ratings nor times.
        codes: ``(K,)`` int8 split of each.
        texts: ``K`` texts a field.
        items: item id -> field -> text.
        sources: the files read.
        oddities: counts.
    """

    interactions: Interactions
    codes: np.ndarray
    texts: dict[str, list[str]]
    items: dict[str, dict[str, str]]
    sources: list[Path]
    oddities: dict[str, int] = field(default_factory=dict)


def read_public(folder: Path) -> PublicData:
    """Read the folder of one data set; users and items keep their numbers as ids and rows.

    Raises:
        DataError: a file is missing or damaged, a pickle asks for a class, a number lies outside
            the sets, or a pair is in two splits.
    """
    meta_path = require_file(folder, "meta.pkl")
    num_users, num_items = _sizes(meta_path)
    paths = [require_file(folder, name) for name in MATRICES]
    pairs = [_matrix_pairs(path, num_users, num_items) for path in paths]
    keys = np.concatenate(pairs)
    codes = np.repeat(np.arange(len(SPLITS), dtype=np.int8), [len(part) for part in pairs])
    order = np.argsort(keys, kind="stable")
    keys, codes = keys[order], codes[order]
    _refuse_overlap(keys, codes, paths, num_items)
    interactions = Interactions(
        user_ids=[str(user) for user in range(num_users)],
        item_ids=[str(item) for item in range(num_items)],
        user=(keys // num_items).astype(np.int32),
        item=(keys % num_items).astype(np.int32),
        rating=np.full(len(keys), np.nan, dtype=np.float32),
        time=np.full(len(keys), UNKNOWN_TIME, dtype=np.int64),
        place=np.arange(len(keys), dtype=np.int64),
    )
    data = PublicData(interactions, codes, {}, {}, [meta_path, *paths])
    for name, file in PAIR_TEXTS.items():
        _add_pair_texts(data, folder / "user_item_texts" / f"{file}.pkl", name)
    for name in ITEM_TEXTS:
        _add_item_texts(data, folder / "item_texts" / f"{name}.pkl", name)
    return data


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        return restricted_load(file, str(path))


def _sizes(path: Path) -> tuple[int, int]:
    meta = _load(path)
    sizes = [
        meta.get(key) if isinstance(meta, dict) else None for key in ("num_users", "num_items")
    ]
    users, items = sizes
    if type(users) is not int or type(items) is not int or users < 1 or items < 1:
        raise DataError(
            f"{path}: expected a dict with the numbers num_users and num_items, found "
            f"{str(meta)[:60]}"
        )
    return users, items


def _refuse_large(path: Path) -> None:
    """Raise DataError for arrays that no memory is made for, before one is unpacked."""
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > _LARGEST_MATRIX:
        raise DataError(
            f"{path}: holds {size:,} bytes, more than {_LARGEST_MATRIX:,}; no matrix of these sets"
        )


def _matrix_pairs(path: Path, num_users: int, num_items: int) -> np.ndarray:
    """``(n,)`` int64 ``user * num_items + item`` of every entry that is not 0."""
    try:
        _refuse_large(path)
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in ("format", "shape", "indptr", "indices", "data")}
    except (
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        AttributeError,
    ) as error:
        raise DataError(
            f"{path}: not a sparse matrix as scipy.sparse.save_npz writes them ({error})"
        ) from None
    kind = parts["format"].item()
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
    shape = tuple(parts["shape"].tolist())
    if kind != "csr" or shape != (num_users, num_items):
        raise DataError(
            f"{path}: a {kind} matrix {shape}, expected csr ({num_users}, {num_items}) as meta.pkl "
            "says"
        )
    begins, items, values = parts["indptr"], parts["indices"].astype(np.int64), parts["data"]
    lengths = np.diff(begins.astype(np.int64))
    whole = len(begins) == num_users + 1 and begins[0] == 0 and begins[-1] == len(items)
    inside = len(items) == 0 or (items.min() >= 0 and items.max() < num_items)
    if not whole or not inside or (lengths < 0).any() or len(values) != len(items):
        raise DataError(f"{path}: its index does not fit its shape; fetch it again")
    keys: np.ndarray = (np.repeat(np.arange(num_users), lengths) * num_items + items)[values != 0]
    return np.unique(keys)


def _refuse_overlap(keys: np.ndarray, codes: np.ndarray, paths: list[Path], num_items: int) -> None:
    same = np.flatnonzero(keys[1:] == keys[:-1])
    if len(same):
        row = int(same[0])
        user, item = divmod(int(keys[row]), num_items)
        raise DataError(
            f"{paths[codes[row + 1]]}: user {user} and item {item} are in {paths[codes[row]].name} "
            f"too ({len(same):,} such pairs); the splits must be disjoint"
        )


def _add_pair_texts(data: PublicData, path: Path, name: str) -> None:
    """Texts of (user, item) pairs; pairs in no matrix are counted and left out."""
    if not path.is_file():
        return
    inter = data.interactions
    keys = inter.user.astype(np.int64) * len(inter.item_ids) + inter.item
    row_of_pair = {key: row for row, key in enumerate(keys.tolist())}
    texts = [""] * len(inter)
    unknown = twice = 0
    for position, prompt, text in _texts(path):
        user = _number(path, position, prompt, _USER, len(inter.user_ids))
        item = _number(path, position, prompt, _ITEM, len(inter.item_ids))
        row = row_of_pair.get(user * len(inter.item_ids) + item)
        if row is None:
            unknown += 1
        elif texts[row]:
            twice += 1
        else:
            texts[row] = text
    data.oddities[f"{path.name}: texts of pairs in no matrix, left out"] = unknown
    data.oddities[f"{path.name}: further texts of a pair, left out"] = twice
    data.texts[name] = texts
    data.sources.append(path)


def _add_item_texts(data: PublicData, path: Path, name: str) -> None:
    if not path.is_file():
        return
    twice = 0
    for position, prompt, text in _texts(path):
        item = _number(path, position, prompt, _ITEM, len(data.interactions.item_ids))
        fields = data.items.setdefault(str(item), {})
        twice += name in fields
        if text:
            fields.setdefault(name, text)
    data.oddities[f"{path.name}: further texts of an item, left out"] = twice
    data.sources.append(path)


def _texts(path: Path) -> Iterator[tuple[int, str, str]]:
    """Position, prompt and text (on one line) of every entry."""
    entries = _load(path)
    if not isinstance(entries, list):
        raise DataError(f"{path}: a {type(entries).__name__}, expected a list of [prompt, text]")
    for position, entry in enumerate(entries):
        match entry:
            case [str() as prompt, str() as text]:
                yield position, prompt, one_line(text)
            case _:
                raise DataError(
                    f"{path}: entry {position} is {str(entry)[:60]!r}, expected [prompt, text]"
                )


def _number(path: Path, position: int, prompt: str, pattern: re.Pattern[str], limit: int) -> int:
    found = pattern.findall(prompt)
    if len(found) != 1 or int(found[0]) >= limit:
        raise DataError(
            f"{path}: entry {position}: prompt {prompt[:80]!r} should name one "
            f"{pattern.pattern[2:7].rstrip('_')} below {limit}"
        )
    return int(found[0])
