"""A recommender of random vectors with the methods of ``TrainedRun`` that a server calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from legos.errors import ConfigError, DataError
from legos.recommend.lists import Listed

WORDS = ("oak", "steel", "lamp", "kettle", "chair", "<b>bold</b>", "茶壶", "Gießkanne")


class FakeRun:
    """Scores are inner products; a reader is the mean of the vectors of their items.

    Args:
        items, users: their number.
        name: of the run; its folder is called the same.
        seed: of everything.

    Attributes:
        gate: lists wait for it.
        batches: sizes of the batches that were asked for.
    """

    def __init__(
        self, items: int = 50, users: int = 20, *, name: str = "one", seed: int = 0
    ) -> None:
        generator = np.random.default_rng(seed)
        self.name, self.folder = f"fake/{name}", Path(name)
        columns = {"user_id": "customer", "item_id": "sku", "price": "Preis", "title": "brand"}
        self.tables = SimpleNamespace(manifest={"source_columns": columns})
        self.config = SimpleNamespace(model=SimpleNamespace(name="fake"))
        self.vectors = generator.standard_normal((items, 8)).astype(np.float32)
        self.items = pd.DataFrame(
            {
                "item_id": [f"i{number}" for number in range(items)],
                "title": [f"{WORDS[n % 8]} {WORDS[n // 8 % 8]} {n}" for n in range(items)],
                "brand": [("Tarn", "Ashby", "")[number % 3] for number in range(items)],
                "price": np.linspace(1, 9, items, dtype=np.float32),
            }
        )
        self.items.loc[0, "price"] = np.nan
        self.users = [f"u{number}" for number in range(users)]
        self.had = {
            user: [f"i{number}" for number in generator.choice(items, 5, replace=False)]
            for user in self.users
        }
        self.gate, self.batches = Event(), list[int]()
        self.gate.set()

    @property
    def _rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.items["item_id"])}

    def _frame(self, rows: np.ndarray, values: np.ndarray, name: str = "score") -> pd.DataFrame:
        found = self.items.iloc[rows]
        return pd.DataFrame(
            {"item_id": found["item_id"].tolist(), name: values, "title": found["title"].tolist()}
        )

    def _had(self, reader: Any) -> list[str]:
        if not isinstance(reader, str):
            return list(reader)
        if reader not in self.had:
            raise DataError(f"no user {reader!r}")
        return self.had[reader]

    def _vector(self, had: Sequence[str]) -> np.ndarray:
        rows = self._rows
        return self.vectors[[rows[item] for item in had]].sum(0)

    def best_ids(
        self, readers: Sequence[Any], k: int = 10, *, exclude_seen: bool = True
    ) -> list[Listed]:
        assert self.gate.wait(20)
        self.batches.append(len(readers))
        found = []
        for reader in readers:
            had = self._had(reader)
            scores = self.vectors @ self._vector(had)
            order = np.argsort(-scores, kind="stable")
            if exclude_seen:
                order = order[~self.items["item_id"].isin(had).to_numpy()[order]]
            best = order[:k]
            ids = self.items["item_id"].to_numpy()[best].tolist()
            found.append(Listed(ids, scores[best].tolist(), None if had else "no history"))
        return found

    def recommend_many(self, readers: Sequence[Any], k: int = 10, **how: Any) -> list[pd.DataFrame]:
        rows, titles = self._rows, self.items["title"]
        return [
            pd.DataFrame(
                {"item_id": ids, "score": scores, "title": [titles[rows[item]] for item in ids]}
            )
            for ids, scores, _ in self.best_ids(readers, k, **how)
        ]

    def recommend(self, user: Any = None, *, k: int = 10) -> pd.DataFrame:
        return self.recommend_many([user], k)[0]

    def similar(self, item: str, k: int = 10) -> pd.DataFrame:
        scores = self.vectors @ self.vectors[self._rows[item]]
        order = np.argsort(-scores)
        order = order[order != self._rows[item]][:k]
        return self._frame(order, scores[order])

    def score(self, users: Sequence[str], items: Sequence[str]) -> pd.DataFrame:
        rows = [self._rows[item] for item in items]
        vectors = np.stack([self._vector(self._had(user)) for user in users])
        return pd.DataFrame(vectors @ self.vectors[rows].T, users, items)

    def reasons(self, item: str, user: str | None = None, *, history: Any = None) -> pd.DataFrame:
        had = self._had(user if history is None else history)
        rows = np.array([self._rows[each] for each in had])
        drops = self.vectors[rows] @ self.vectors[self._rows[item]]
        order = np.argsort(-drops)
        return self._frame(rows[order], drops[order] / np.abs(drops).sum(), "share")

    def history(self, user: str) -> pd.DataFrame:
        return pd.DataFrame({"item_id": self.had[user]})

    def add_items(self, frame: pd.DataFrame) -> list[str]:
        if (frame["title"].fillna("") == "").any():
            raise ConfigError("new items: title: all are empty")
        ids = frame["item_id"].tolist()
        new = np.stack(
            [np.random.default_rng(len(text)).standard_normal(8) for text in frame["title"]]
        )
        self.vectors = np.concatenate([self.vectors, new.astype(np.float32)])
        self.items = pd.concat([self.items, frame], ignore_index=True)
        return ids
