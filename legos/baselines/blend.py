"""Sum of item-kNN and text cosine: co-reading and content."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy import sparse

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores
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
        self._parts: tuple[HistoryBaseline[Any], ...] = (
            ItemKNN(ItemKNNConfig()),
            TextCosine(TextCosineConfig()),
        )

    def learn(self, data: FitData) -> Arrays:
        """Learn both methods, each under its name."""
        return {
            f"{part.settings.name}.{name}": array
            for part in self._parts
            for name, array in part.learn(data).items()
        }

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer that adds both standardised scores."""
        parts = []
        for part in self._parts:
            own = f"{part.settings.name}."
            arrays = {key.removeprefix(own): learned[key] for key in learned if key.startswith(own)}
            parts.append(part.scorer(arrays))

        def scores(histories: sparse.csr_matrix) -> np.ndarray:
            first, second = (_standard(part(histories)) for part in parts)
            total: np.ndarray = first + second
            return total

        return scores

    def pair_scores(self, data: BaselineData) -> np.ndarray:
        """Score candidates; each method is standardised within the impression."""
        first, second = (_standardise(part.pair_scores(data), data) for part in self._parts)
        total: np.ndarray = first + second
        return total


def _standard(scores: np.ndarray) -> np.ndarray:
    """Standardise rows to mean 0 and deviation 1; rows of equal scores become 0."""
    deviation = scores.std(1, keepdims=True)
    scaled: np.ndarray = (scores - scores.mean(1, keepdims=True)) / np.where(
        deviation > 0, deviation, 1
    )
    return scaled


def _standardise(scores: np.ndarray, data: BaselineData) -> np.ndarray:
    count = np.maximum(np.diff(data.offsets), 1)
    mean = np.bincount(data.impressions, scores, len(count)) / count
    centred = scores - mean[data.impressions]
    deviation = np.sqrt(np.bincount(data.impressions, centred**2, len(count)) / count)
    scaled: np.ndarray = centred / np.where(deviation > 0, deviation, 1)[data.impressions]
    return scaled.astype(np.float32)
