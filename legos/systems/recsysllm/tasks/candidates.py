"""Candidates of the 1 + 99 protocol: drawn once and stored with a hash.

P5 draws the negatives of some test prompts anew in every run, so that two prompts are not measured
on the same task. Here they are those of the tables' own split (``test_99``), which models of bricks
and baselines rank, too; tables without such a split have theirs in a file of the cache, made once
and checked whenever it is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legos.data.sampling import PairSet
from legos.data.tables import Tables
from legos.errors import DataError
from legos.files import (
    atomic_folder,
    output_lock,
    sha256_of_file,
    sha256_of_text,
    write_array,
    write_json,
)
from legos.records import Record, Sha256, read_array, read_record
from legos.systems.recsysllm.settings import SplitName
from legos.systems.recsysllm.tasks.events import Sequences, unseen_items

PROTOCOL = "uniform over items that the user has in no split; the target is column 0"
_FORMAT = 1
_MANIFEST, _ITEMS, _USERS = "manifest.json", "candidates.npy", "users.npy"
_BLOCK = 4096  # users drawn at once
_EPOCH = {"valid": 1_000_001, "test": 1_000_002}  # of draws: not those of training


class _Manifest(Record):
    """The sources of frozen candidates."""

    format: int
    protocol: str
    tables: str
    split: str
    seed: int
    negatives: int
    users: int
    files: dict[str, Sha256]
    sha256: Sha256


@dataclass(frozen=True)
class Candidates:
    """Candidates of S users.

    Attributes:
        users: ``(S,)`` int64 user numbers, ascending.
        items: ``(S, 1 + n)`` int64, the target first; whoever shows them shuffles.
        fingerprint: hash of protocol, tables, split, seed and arrays.
    """

    users: Tensor
    items: Tensor
    fingerprint: str


def split_of_candidates(tables: Tables, split: SplitName, negatives: int) -> str | None:
    """Name of the tables' split with 1 + ``negatives`` candidates, None if they have none."""
    name = f"{split}_{negatives}"
    return name if name in tables.splits else None


def table_candidates(
    tables: Tables, sequences: Sequences, name: str, *, split: SplitName
) -> Candidates:
    """The candidates of a split of the tables by name, the targets of valid or test in front.

    Raises:
        DataError: not one click and as many candidates for every user of the sequences, another
            click than the held-out event, or a candidate that the user has in some split.
    """
    users, order = tables.scalar(name, "user_id").long().sort()
    shown, labels = tables.lists(name, "candidates"), tables.lists(name, "labels").values
    width = int(shown.lengths[0]) if len(shown) else 1
    rows = shown.rows[labels == 1]
    if bool((shown.lengths != width).any()) or not torch.equal(rows, torch.arange(len(users))):
        raise DataError(
            f"{tables.folder}: {name}: expected one click and as many candidates in every "
            "impression; make the tables again"
        )
    other = labels.view(-1, width)[order] != 1
    front = other.int().sort(dim=1, stable=True).indices  # the click, then the others in order
    items = shown.values.long().view(-1, width)[order].gather(1, front)
    if not (
        torch.equal(users, sequences.users) and torch.equal(items[:, 0], sequences.targets(split))
    ):
        raise DataError(
            f"{tables.folder}: {name} has other users or clicks than {split}; make the tables again"
        )
    seen = sequences.seen()
    known = PairSet(seen.rows, seen.values, sequences.num_items)
    if bool(known.contains(torch.arange(len(sequences))[:, None], items[:, 1:]).any()):
        raise DataError(
            f"{tables.folder}: {name}: a negative is an item of its user; make the tables again"
        )
    files = {
        column: tables.manifest["files"][f"columns/{name}/{column}.npy"]["sha256"]
        for column in ("user_id", "candidates.values", "labels.values")
    }
    return Candidates(users, items, _hash({"split": name, "files": files}))


def frozen_candidates(
    folder: Path,
    sequences: Sequences,
    *,
    tables: str,
    split: SplitName,
    seed: int,
    negatives: int = 99,
) -> Candidates:
    """Read the candidates of a folder; draw and write them if it does not exist.

    Args:
        folder: of the files; written whole or not at all.
        sequences: whose held-out events are the targets.
        tables: fingerprint of the tables.

    Raises:
        DataError: the folder was made from something else, or its files are damaged.
    """
    wanted = {
        "format": _FORMAT, "protocol": PROTOCOL, "tables": tables, "split": split, "seed": seed,
        "negatives": negatives, "users": len(sequences),
    }  # fmt: skip
    if not (folder / _MANIFEST).is_file():
        # runs that start together want the same candidates: one draws, the others wait for it
        with output_lock(folder, wait=True):
            if not (folder / _MANIFEST).is_file():
                _write(folder, sequences, split, wanted)
    return _read(folder, wanted)


def _write(folder: Path, sequences: Sequences, split: SplitName, wanted: dict[str, Any]) -> None:
    seen, key = sequences.seen(), {"seed": wanted["seed"], "epoch": _EPOCH[split]}
    count, items = wanted["negatives"], sequences.num_items
    drawn = [torch.zeros((0, count), dtype=torch.int64)]
    for rows in torch.arange(len(sequences)).split(_BLOCK):
        users, had = sequences.users[rows], seen.select(rows)
        drawn.append(unseen_items(users, had, num_items=items, count=count, **key))
    candidates = torch.cat([sequences.targets(split)[:, None], torch.cat(drawn)], 1)
    with atomic_folder(folder) as temporary:
        write_array(temporary / _ITEMS, candidates.numpy().astype(np.int32))
        write_array(temporary / _USERS, sequences.users.numpy().astype(np.int32))
        files = {name: sha256_of_file(temporary / name) for name in (_ITEMS, _USERS)}
        hashed = {**wanted, "files": files}
        write_json(temporary / _MANIFEST, {**hashed, "sha256": _hash(hashed)})


def _read(folder: Path, wanted: dict[str, Any]) -> Candidates:
    path, hint = folder / _MANIFEST, f"delete {folder} to draw the same candidates again"
    manifest = read_record(path, _Manifest, hint=hint)
    own = manifest.model_dump(include=set(wanted))
    for key, value in wanted.items():
        if own[key] != value:
            raise DataError(
                f"{path}: {key} is {own[key]!r}, expected {value!r}; these candidates were frozen "
                "for something else: choose another folder"
            )
    files = manifest.files
    if files.keys() != {_ITEMS, _USERS}:
        raise DataError(f"{path}: files: expected {_ITEMS} and {_USERS}, found {', '.join(files)}")
    if manifest.sha256 != _hash({**own, "files": files}):
        raise DataError(f"{path}: was changed after it was written (its sha256 does not fit)")
    for name, expected in files.items():
        file = folder / name
        if not file.is_file() or sha256_of_file(file) != expected:
            state = "damaged" if file.is_file() else "missing"
            raise DataError(f"{file}: {state}; {hint}")
    count, width = wanted["users"], 1 + wanted["negatives"]
    items = read_array(folder / _ITEMS, dtype="int32", shape=(count, width), hint=hint)
    users = read_array(folder / _USERS, dtype="int32", shape=(count,), hint=hint)
    own_users, own_items = (torch.from_numpy(array).long() for array in (users, items))
    return Candidates(own_users, own_items, manifest.sha256)


def _hash(content: dict[str, Any]) -> str:
    return sha256_of_text(json.dumps(content, sort_keys=True))
