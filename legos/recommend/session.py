"""A user who is served again and again, by ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from legos.errors import ConfigError
from legos.recommend.catalogue import Catalogue


class Session:
    """A user of whom a model remembers what it has read; an event costs one token.

    Args:
        catalogue: of ids.
        session: by numbers.
    """

    def __init__(self, catalogue: Catalogue, session: Any) -> None:
        self._catalogue, self._session = catalogue, session

    def append(self, items: Sequence[str | int]) -> None:
        """Read further items; they are not recommended from here on."""
        self._session.append(self._catalogue.numbers(items))

    def recommend(self, k: int = 10) -> pd.DataFrame:
        """The best items that the user has not had: item_id, score, title."""
        refuse_size(k)
        best = self._session.best(k)
        return self._catalogue.frame(best.items[0].cpu(), best.scores[0].cpu())


def refuse_size(k: int) -> None:
    """Raise ConfigError unless k is a whole number from 1 on."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k: {k!r}; expected a whole number of items, 1 or more")
