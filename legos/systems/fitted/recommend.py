"""A fitted baseline as a recommender; it reads only histories."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from legos.baselines.base import Arrays, HistoryBaseline
from legos.baselines.data import shares
from legos.data.ragged import Ragged
from legos.errors import ConfigError
from legos.registry import BaselineConfig
from legos.systems.protocol import Readers
from legos.systems.recommending import ByScores


class FittedRecommender(ByScores):
    """See :class:`legos.systems.protocol.Recommending`.

    Args:
        offered: ``(items,)`` bool: what lists are made of.
        device: where lists are made; scores are computed on the CPU.
        name: of the model, for errors.
        method: the baseline.
        learned: what it has learned about all items.
        history_length: the newest items of a history that are read.
    """

    def __init__(
        self,
        offered: Tensor,
        device: torch.device,
        *,
        name: str,
        method: HistoryBaseline[BaselineConfig],
        learned: Arrays,
        history_length: int,
    ) -> None:
        super().__init__(offered, device)
        self._name, self._method, self._learned = name, method, learned
        self._score, self._length = method.scorer(learned), history_length

    @property
    def history_length(self) -> int:
        """Maximum number of newest items of a history that are read."""
        return self._length

    @property
    def similarity(self) -> Literal["dot"] | None:
        """The similarity of vectors, if the method has vectors."""
        return None if self._method.item_vectors(self._learned) is None else "dot"

    def compute(self, readers: Readers, items: Tensor | None) -> Tensor:
        """Score some items ``(C,)`` int64 on the device, or all (None)."""
        found = np.asarray(self._score(self._histories(readers)), np.float32)
        scores = torch.from_numpy(found).to(self.device)
        return scores if items is None else scores[:, items]

    def item_vectors(self) -> Tensor:
        """``(items, D)`` float32 on the CPU; ConfigError: the method has none."""
        return self._given(self._method.item_vectors(self._learned), "items")

    def reader_vectors(self, readers: Readers) -> Tensor:
        """``(R, D)`` float32 on the CPU; ConfigError: the method has none."""
        found = self._method.reader_vectors(self._learned, self._histories(readers))
        return self._given(found, "readers")

    def similar_to(self, item: int) -> Tensor:
        """``(items,)`` float32 similarity of each item to one.

        The cosine of their vectors, or, of a method without vectors, the scores for a history of
        this item alone.

        Raises:
            ConfigError: the method scores all readers alike.
        """
        if self.similarity is not None:
            vectors = F.normalize(self.item_vectors())
            return vectors @ vectors[item]
        if not self._method.reads_histories:
            raise ConfigError(
                f"model {self._name}: method {self._method.settings.name} gives all readers the "
                "same list and knows no similar items; item_knn and text_cosine do"
            )
        history = Ragged(torch.tensor([item]), torch.tensor([0, 1]))
        return self.compute(Readers(torch.zeros(1, dtype=torch.int64), history), None)[0].cpu()

    def _histories(self, readers: Readers) -> sparse.csr_matrix:
        return shares(readers.histories.to("cpu").tail(self._length), self.offered.numel())

    def _given(self, vectors: np.ndarray | None, whose: str) -> Tensor:
        if vectors is None:
            raise ConfigError(
                f"model {self._name}: method {self._method.settings.name} has no vectors of "
                f"{whose}; ials has, and text_cosine where MiniLM knows the language of the texts"
            )
        return torch.from_numpy(np.asarray(vectors, np.float32))
