"""Uniform noise: the result of ranking by chance."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from legos.baselines.base import Baseline, PageScores
from legos.baselines.data import BaselineData
from legos.data.sampling import keyed_bits
from legos.registry import BaselineConfig, baselines


class RandomConfig(BaselineConfig):
    knows_readers = False
    name: Literal["random"] = "random"


@baselines.register(RandomConfig)
class Random(Baseline[RandomConfig]):
    """Noise without a seed of its own: the same for the same data."""

    title = "random"

    def pair_scores(self, data: BaselineData) -> np.ndarray:
        """Noise, seeded by the number of candidates."""
        count = len(data.candidates)
        return np.random.default_rng(count).random(count, dtype=np.float32)

    def page_scores(self, data: BaselineData) -> PageScores:
        """Noise, seeded by history state and item."""
        return lambda rows: keyed_bits(torch.from_numpy(rows), len(data.items), 0).numpy() / 2.0**62
