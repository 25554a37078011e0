"""Item-kNN and text cosine together: who read what, and what it is about."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from legos.baselines.base import HistoryBaseline, HistoryScores
from legos.baselines.data import BaselineData, FitData
from legos.baselines.item_knn import ItemKNN, ItemKNNConfig
from legos.baselines.text_cosine import TextCosine, TextCosineConfig
from legos.registry import BaselineConfig, baselines


class ItemKNNTextCosineConfig(BaselineConfig):
    needs = frozenset({"texts", "text_vectors"})
    name: Literal["item_knn_text_cosine"] = "item_knn_text_cosine"


@baselines.register(ItemKNNTextCosineConfig)
class ItemKNNTextCosine(HistoryBaseline[ItemKNNTextCosineConfig]):
    """Sum of both methods' scores, standardised within the items that are ranked."""

    title = "item-kNN + text cosine"

    def __init__(self, settings: ItemKNNTextCosineConfig) -> None:
        super().__init__(settings)
        self._parts = (ItemKNN(ItemKNNConfig()), TextCosine(TextCosineConfig()))

    def fit(self, data: FitData) -> HistoryScores:
        """Fit both."""
        parts = [part.fit(data) for part in self._parts]

        def scores(histories: sparse.csr_matrix) -> np.ndarray:
            total = np.zeros((histories.shape[0], len(data.items)))
            for part in parts:
                values = part(histories)
                deviation = values.std(1, keepdims=True)
                total += (values - values.mean(1, keepdims=True)) / np.where(
                    deviation > 0, deviation, 1
                )
            return total

        return scores

    def pair_scores(self, data: BaselineData) -> np.ndarray:
        """Here each is standardised within the impression."""
        first, second = (_standardise(part.pair_scores(data), data) for part in self._parts)
        total: np.ndarray = first + second
        return total


def _standardise(scores: np.ndarray, data: BaselineData) -> np.ndarray:
    count = np.maximum(np.diff(data.offsets), 1)
    mean = np.bincount(data.impressions, scores, len(count)) / count
    centred = scores - mean[data.impressions]
    deviation = np.sqrt(np.bincount(data.impressions, centred**2, len(count)) / count)
    scaled: np.ndarray = centred / np.where(deviation > 0, deviation, 1)[data.impressions]
    return scaled.astype(np.float32)
