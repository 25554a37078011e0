"""Vectors of items' texts, from which codes are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from legos.baselines.text_cosine import item_vectors
from legos.errors import ConfigError
from legos.evaluation.texts import own_text_vectors, text_source
from legos.lm.settings import LanguageModelSource
from legos.workplace.workplace import Workplace

_WIDEST = 128  # of words' vectors


def text_vectors_of_items(workplace: Workplace, model: LanguageModelSource | None) -> Tensor:
    """Text vectors ``(items, E)`` float32: by a language model, or by words if MiniLM does not fit.

    Every process calls it; the first one has all vectors, the others may have none.

    Raises:
        DataError: the items have no text.
    """
    words = own_text_vectors(workplace, model)
    if words is None:
        found: Any = item_vectors(workplace.tables, model, workplace.sharing)
    else:
        found = _dense(words)
    return torch.from_numpy(np.asarray(found, np.float32))


def refuse_words(workplace: Workplace, model: LanguageModelSource | None) -> None:
    """Refuse new items if vectors were made from the words of all items.

    Raises:
        ConfigError: they are.
    """
    if text_source(workplace.config, workplace.tables, model) != "model":
        raise ConfigError(
            f"model {workplace.config.model.name}: codes were made of the words of its items and "
            "not by a language model, so new items cannot get any; train with model.model"
        )


def _dense(words: sparse.csr_matrix) -> np.ndarray:
    """Latent semantic analysis: rows ``(items, at most 128)`` of length 1, the same every time."""
    width = min(_WIDEST, min(words.shape) - 1)
    if width < 1:  # one item or one word: nothing to factorise
        whole: np.ndarray = words.toarray()
        return whole
    start = np.ones(min(words.shape))
    left, values, _ = svds(words.astype(np.float64), k=width, v0=start)
    rows = left * values
    found: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return found
