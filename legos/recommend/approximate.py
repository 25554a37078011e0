"""Lists out of a large catalogue: FAISS finds candidates, the model itself scores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from legos.data.new_items import NewItems
from legos.data.ragged import Ragged
from legos.errors import ConfigError
from legos.evaluation.rank import NO_ITEM, Best, best_items
from legos.recommend.run import TrainedRun
from legos.systems.protocol import Readers, Recommending

_RECALL = 0.99  # of the exact top ten, that the number of probed cells is chosen for
_SAMPLE, _TOP = 200, 10  # readers and items that recall is measured on
_POINTS = 64  # vectors a cell is placed by


@dataclass(frozen=True)
class Index:
    """How candidates are found.

    Attributes:
        index: FAISS's name for it, and cells that a search looks into.
        recall: share of the exact top ten that is found, mean over a sample of readers.
        sample: their number.
    """

    index: str
    recall: float
    sample: int


def use_index(run: TrainedRun) -> Index:
    """Let a run find its lists by an inverted file over the vectors of items.

    A search looks into so many cells that a sample of readers gets 99 % of its exact top ten.

    Raises:
        ConfigError: no product of vectors gives the model's scores.
        ModuleNotFoundError: FAISS is not installed.
    """
    places = np.linspace(0, len(run.users) - 1, min(_SAMPLE, len(run.users)), dtype=np.int64)
    sample = [run.users[place] for place in places]
    exact = [set(each.ids) for each in run.best_ids(sample, _TOP)]
    approximate = Approximate.over(run.catalogue.model)
    run.find_by(approximate)
    while True:
        found = [set(each.ids) for each in run.best_ids(sample, _TOP)]
        pairs = zip(exact, found, strict=True)
        recall = float(np.mean([len(a & b) / max(1, len(a)) for a, b in pairs])) if sample else 1.0
        if recall >= _RECALL or approximate.index.nprobe >= approximate.index.nlist:
            break
        approximate.index.nprobe *= 2
    index = approximate.index
    return Index(f"IVF{index.nlist},Flat nprobe={index.nprobe}", recall, len(sample))


class Approximate:
    """A model whose candidates come from an index; see :class:`Recommending`.

    Items that were added later are compared one by one. A reader of whom the index finds too few
    items, as when nearly all of its cells are excluded, gets the exact list.

    Args:
        model: that scores.
        index: of FAISS, over the vectors of the first items that are offered.
        numbers: ``(n,)`` int64, the item behind each of its entries.
        known: items that were there when the index was made.
    """

    def __init__(self, model: Recommending, index: Any, numbers: np.ndarray, known: int) -> None:
        self.model, self.index, self.numbers, self.known = model, index, numbers, known
        self.offered, self.history_length = model.offered, model.history_length
        self.reads = model.reads
        self.similarity: Literal["dot", "cosine"] | None = model.similarity

    @classmethod
    def over(cls, model: Recommending) -> Self:
        """Make the index over all items that a model offers.

        Raises:
            ConfigError: no product of vectors gives the model's scores.
        """
        import faiss

        if model.similarity is None:
            raise ConfigError("an index needs a model whose scores are products of two vectors")
        numbers = model.offered.nonzero()[:, 0].numpy()
        vectors = _scaled(model.item_vectors()[numbers], model.similarity)
        cells = max(1, min(4 * int(len(vectors) ** 0.5), len(vectors) // 39))
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.max_points_per_centroid = _POINTS
        index.train(vectors)
        index.add(vectors)
        index.nprobe = 1
        return cls(model, index, numbers, model.offered.numel())

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """The best items of each reader among the candidates."""
        lengths = excluded.lengths.tolist()
        wanted = min(count + max(lengths, default=0), len(self.numbers))
        vectors = _scaled(self.model.reader_vectors(readers), self.similarity)
        _, places = self.index.search(vectors, wanted)
        new = np.arange(self.known, self.offered.numel())
        own = [
            np.setdiff1d(np.append(self.numbers[row[row >= 0]], new), excluded.row(number).numpy())
            for number, row in enumerate(places)
        ]
        every = np.unique(np.concatenate(own))  # candidates of all readers, scored together
        scores = self.model.scores(readers, torch.from_numpy(every))
        others = torch.ones_like(scores, dtype=torch.bool)
        for number, row in enumerate(own):
            others[number, torch.from_numpy(np.searchsorted(every, row))] = False
        best = best_items(scores.masked_fill(others, -torch.inf), count)
        items = torch.full((len(readers), count), NO_ITEM)
        values = torch.full((len(readers), count), -torch.inf)
        width = best.items.shape[1]
        items[:, :width] = torch.from_numpy(every)[best.items].masked_fill(
            best.items == NO_ITEM, NO_ITEM
        )
        values[:, :width] = best.scores
        few = (places >= 0).sum(1) < wanted  # the cells that were looked into hold no more
        few &= np.array([len(row) < count for row in own])
        if few.any():
            rows = torch.from_numpy(np.flatnonzero(few))
            exact = self.model.top(readers.part(rows), count, excluded.select(rows))
            width = exact.items.shape[1]
            items[rows, :width], values[rows, :width] = exact.items, exact.scores
        return Best(items, values)

    def scores(self, readers: Readers, items: Tensor) -> Tensor:
        """Scores of some items, ``(R, C)``."""
        return self.model.scores(readers, items)

    def item_vectors(self) -> Tensor:
        """``(items, D)``."""
        return self.model.item_vectors()

    def reader_vectors(self, readers: Readers) -> Tensor:
        """``(R, D)``."""
        return self.model.reader_vectors(readers)

    def extended(self, items: NewItems) -> Approximate:
        """The same with further items; the index stays as it is."""
        return Approximate(self.model.extended(items), self.index, self.numbers, self.known)


def _scaled(vectors: Tensor, similarity: Literal["dot", "cosine"] | None) -> np.ndarray:
    """Vectors whose inner products order items as the model does."""
    if similarity == "cosine":
        vectors = F.normalize(vectors)
    scaled: np.ndarray = np.ascontiguousarray(vectors.float().numpy())
    return scaled
