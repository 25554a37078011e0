"""A tiny tables folder with a planted taste, written in the columnar format of docs/data-format.md.

Every user likes one category; a title is made of its category's words, so content alone can learn
who clicks what. Nothing of ``process`` is needed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from legos.data.manifest import tokenizer_file
from legos.files import sha256_of_file, sha256_of_text, write_array, write_json

CATEGORIES = ("sports", "finance", "music", "travel")
WORDS_A_CATEGORY = 8


def add_split(folder: Path, name: str, *, empty: bool = False) -> None:
    """Add the valid split under another name, or a split without impressions, in place."""
    columns = Path(shutil.copytree(folder / "columns" / "valid", folder / "columns" / name))
    manifest = json.loads((folder / "manifest.json").read_text())
    table = json.loads(json.dumps(manifest["tables"]["valid"]))
    for path in columns.iterdir():
        if empty:
            np.save(path, np.load(path)[: int("offsets" in path.name)])
        described = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        manifest["files"][f"columns/{name}/{path.name}"] = described
    if empty:
        table["rows"] = 0
    manifest["tables"][name] = table
    (folder / "manifest.json").write_text(json.dumps(manifest))


def add_number(folder: Path, table: str, name: str, values: np.ndarray) -> None:
    """Add a number field (float32) to items or users of finished tables, in place."""
    path = folder / "columns" / table / f"{name}.npy"
    write_array(path, values)
    manifest = json.loads((folder / "manifest.json").read_text())
    key = "fields" if table == "items" else "user_fields"
    manifest[key] = {**manifest.get(key, {}), name: {"kind": "number"}}
    manifest["tables"][table]["columns"][name] = {
        "kind": "scalar", "dtype": "float32", "vocabulary": None,
    }  # fmt: skip
    described = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    manifest["files"][f"columns/{table}/{name}.npy"] = described
    manifest["fingerprint"] = sha256_of_text(manifest["fingerprint"] + described["sha256"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def tiny_tables(
    folder: Path,
    *,
    seed: int = 0,
    num_items: int = 60,
    num_users: int = 40,
    num_impressions: int = 200,
) -> Path:
    """Write items, users, histories and the splits train, valid, test; returns ``folder``.

    Fields: ``title@words`` (text, 3 to 7 tokens) and ``category``. ``num_impressions`` are in
    train, half as many each in valid and test. The last tenth of the items and of the users occur
    in test alone (cold).
    """
    generator = np.random.default_rng(seed)
    item_category = 1 + np.arange(num_items) % len(CATEGORIES)
    words = ["<unknown>"] + [
        f"{category}{n}" for category in CATEGORIES for n in range(WORDS_A_CATEGORY)
    ]
    titles = [
        1 + (category - 1) * WORDS_A_CATEGORY + generator.integers(0, WORDS_A_CATEGORY, length)
        for category, length in zip(item_category, generator.integers(3, 8, num_items), strict=True)
    ]
    writer = _Writer(folder)
    writer.lists("items", "title@words", titles, np.int32, "words")
    writer.scalar("items", "category", item_category, np.int32, "category")
    writer.json("items/title.json", [" ".join(words[token] for token in row) for row in titles])
    writer.vocabulary("item_id", [f"N{i}" for i in range(num_items)])
    writer.vocabulary("words", words)
    writer.vocabulary("category", ["<unknown>", *CATEGORIES])
    writer.vocabulary("user_id", [f"U{i}" for i in range(num_users)])
    writer.scalar("users", "user_id", np.arange(num_users), np.int32, "user_id")
    writer.tokenizer("words", words)
    histories = _histories(generator, item_category, num_users)
    writer.scalar("histories", "user_id", np.arange(num_users), np.int32, "user_id")
    writer.lists("histories", "items", histories, np.int32, "item_id")
    for split, rows, warm_share in (
        ("train", num_impressions, 0.9),
        ("valid", num_impressions // 2, 0.9),
        ("test", num_impressions // 2, 1.0),
    ):
        _write_split(writer, generator, split, rows, item_category, num_users, warm_share)
    writer.manifest()
    return folder


def _likes(user: int) -> int:
    return 1 + user % len(CATEGORIES)


def _histories(
    generator: np.random.Generator, item_category: np.ndarray, num_users: int
) -> list[np.ndarray]:
    """One state a user: 2 to 8 items, mostly of the liked category; user 0 has none."""
    warm = int(0.9 * len(item_category))
    histories = [np.zeros(0, dtype=np.int64)]
    for user in range(1, num_users):
        liked = np.flatnonzero(item_category[:warm] == _likes(user))
        size = min(int(generator.integers(2, 9)), len(liked))
        picked = generator.choice(liked, size, replace=False)
        picked[: size // 4] = generator.integers(0, warm, size // 4)
        histories.append(np.unique(picked))
    return histories


def _write_split(
    writer: _Writer,
    generator: np.random.Generator,
    split: str,
    rows: int,
    item_category: np.ndarray,
    num_users: int,
    warm_share: float,
) -> None:
    """Impressions of 3 to 6 candidates: a click on one of the liked category, noise on the rest."""
    items = np.arange(int(len(item_category) * warm_share))
    users = generator.integers(0, max(1, int(num_users * warm_share)), rows)
    candidates, labels = [], []
    for user in users:
        shown = generator.choice(items, int(generator.integers(3, 7)), replace=False)
        liked = item_category[shown] == _likes(int(user))
        label = (liked & (generator.random(len(shown)) < 0.9)).astype(np.int8)
        if not label.any():
            label[generator.integers(len(shown))] = 1
        candidates.append(shown)
        labels.append(label)
    vocabulary = f"impression_id@{split}"
    writer.vocabulary(vocabulary, [f"{split}-{i}" for i in range(rows)])
    writer.scalar(split, "impression_id", np.arange(rows), np.int32, vocabulary)
    writer.scalar(split, "user_id", users, np.int32, "user_id")
    writer.scalar(split, "history", users, np.int32, None)
    writer.scalar(split, "time", np.full(rows, -1), np.int64, None)
    writer.lists(split, "candidates", candidates, np.int32, "item_id")
    writer.lists(split, "labels", labels, np.int8, None)


def cut_otherwise(folder: Path, source: str = "letters") -> None:
    """Let tables say that another tokenizer than plain words made their tokens."""
    path, place = folder / "manifest.json", tokenizer_file("words", source)
    manifest = json.loads(path.read_text())
    manifest["tokenizers"]["words"]["source"] = source
    write_json(folder / place, {})
    manifest["files"][place] = {
        "bytes": (folder / place).stat().st_size,
        "sha256": sha256_of_file(folder / place),
    }
    write_json(path, manifest)


class _Writer:
    """Columns, vocabularies and at last the manifest of one tables folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: dict[str, dict[str, Any]] = {}
        self.vocabularies: dict[str, dict[str, Any]] = {}
        self.tokenizers: dict[str, dict[str, Any]] = {}

    def scalar(
        self, table: str, column: str, values: np.ndarray, dtype: type, vocabulary: str | None
    ) -> None:
        write_array(self.folder / f"columns/{table}/{column}.npy", values.astype(dtype))
        self._note(table, column, "scalar", len(values), dtype, vocabulary)

    def lists(
        self,
        table: str,
        column: str,
        rows: list[np.ndarray],
        dtype: type,
        vocabulary: str | None,
    ) -> None:
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        place = self.folder / "columns" / table
        write_array(place / f"{column}.values.npy", np.concatenate(rows).astype(dtype))
        write_array(place / f"{column}.offsets.npy", offsets)
        self._note(table, column, "list", len(rows), dtype, vocabulary)

    def vocabulary(self, name: str, words: list[str]) -> None:
        text = self.json(f"vocabulary/{name}.json", words)
        self.vocabularies[name] = {"size": len(words), "sha256": sha256_of_text(text)}

    def tokenizer(self, name: str, words: list[str]) -> None:
        text = self.json(f"tokenizer/{name}/vocabulary.json", words)
        self.tokenizers[name] = {"source": "words", "sha256": sha256_of_text(text)}

    def json(self, path: str, value: Any) -> str:
        write_json(self.folder / "columns" / path, value)
        return json.dumps(value)

    def manifest(self) -> None:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        files = {
            path.relative_to(self.folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": sha256_of_file(path),
            }
            for path in paths
        }
        write_json(
            self.folder / "manifest.json",
            {
                "format": 1,
                "toolkit": "0.1.0",
                "name": "tiny",
                "layout": "mind",
                "split_rule": "planted",
                "fields": {
                    "title": {"kind": "text", "tokenizers": ["words"]},
                    "category": {"kind": "category"},
                },
                "tables": self.tables,
                "vocabularies": self.vocabularies,
                "tokenizers": self.tokenizers,
                "files": files,
                "sources": [],
                "summary": {},
                "oddities": {},
                "fingerprint": sha256_of_text("".join(files[path]["sha256"] for path in files)),
            },
        )

    def _note(
        self, table: str, column: str, kind: str, rows: int, dtype: type, vocabulary: str | None
    ) -> None:
        entry = self.tables.setdefault(table, {"rows": rows, "columns": {}})
        entry["columns"][column] = {
            "kind": kind,
            "dtype": np.dtype(dtype).name,
            "vocabulary": vocabulary,
        }
