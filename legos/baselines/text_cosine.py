"""Cosine between the vector of an item's text and the mean of the history's.

Vectors are those of any sentence encoder (``exp.evaluate.text_model``), those that the run itself
reads of its texts, or words weighted by how rare they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores
from legos.baselines.data import FitData, unit_words
from legos.data.tables import Tables
from legos.data.texts import join_texts
from legos.errors import DataError
from legos.home import home
from legos.lm.locate import locate, packaged
from legos.lm.settings import LanguageModelSource
from legos.registry import BaselineConfig, baselines
from legos.sharing import ALONE, Sharing

_CACHE = "cache/item-vectors"


class TextCosineConfig(BaselineConfig):
    needs = frozenset({"texts", "text_vectors"})
    knows_readers = False
    name: Literal["text_cosine"] = "text_cosine"


@baselines.register(TextCosineConfig)
class TextCosine(HistoryBaseline[TextCosineConfig]):
    """Scores items by the cosine of their text vectors and the mean of a history's."""

    title = "text cosine"

    def learn(self, data: FitData) -> Arrays:
        """Compute the text vectors.

        Raises:
            DataError: the items have no text.
        """
        return {"vectors": text_vectors_of(data), "items": data.items}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Cosines."""
        from legos.lm.states import unit_rows

        vectors = learned["vectors"]
        shown = vectors[learned["items"]].T
        if isinstance(vectors, sparse.csr_matrix):
            return lambda histories: (unit_words(histories @ vectors) @ shown).toarray()
        return lambda histories: unit_rows(histories @ vectors) @ shown

    def item_vectors(self, learned: Arrays) -> np.ndarray | None:
        """Text vectors of a language model; None for tf-idf."""
        vectors: Any = learned["vectors"]
        return None if sparse.issparse(vectors) else vectors

    def reader_vectors(self, learned: Arrays, histories: sparse.csr_matrix) -> np.ndarray | None:
        """Mean vectors of histories, scaled to length 1."""
        from legos.lm.states import unit_rows

        vectors = self.item_vectors(learned)
        return None if vectors is None else unit_rows(histories @ vectors)


def text_vectors_of(data: FitData) -> Any:
    """``(items, E)`` numpy array or csr matrix, rows of length 1 or 0: the run's own, or a model's.

    Raises:
        DataError: the items have no text.
    """
    own = data.own_vectors
    return item_vectors(data.tables, data.text_model) if own is None else own


def item_vectors(
    tables: Tables, text_model: LanguageModelSource | None, sharing: Sharing = ALONE
) -> Any:
    """``(items, E)`` float32 vectors of length 1 of all items' texts, by a language model.

    Raises:
        DataError: the items have no text.
    """
    from legos.lm.text_vectors import text_vectors

    fields = tables.text_fields
    if not fields:
        raise DataError(f"{tables.folder}: the items have no text field to compare")
    folder = _folder(text_model)
    texts = tables.joined_texts(fields)
    return text_vectors(texts, folder, cache=home() / _CACHE, normalise=True, sharing=sharing)


def vectors_of_texts(
    fields: Sequence[Sequence[str]], text_model: LanguageModelSource | None
) -> np.ndarray:
    """Vectors of further items from their texts by field of the tables: ``(N, E)``."""
    from legos.lm.text_vectors import text_vectors

    return text_vectors(join_texts(fields), _folder(text_model), normalise=True)


def _folder(text_model: LanguageModelSource | None) -> Path:
    return locate(text_model or packaged("minilm")).folder
