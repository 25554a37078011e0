"""ONCE's MIND: dev is halved into valid and test by a published list of impressions.

``mind_imp_list.json`` of ONCE's release (``LegoV2/processor``): a JSON list of all 73,152
impression ids of MIND-small's dev, shuffled. The first half is valid; every other impression of dev
is test, as in its ``once_mind_processor.py``.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from legos.errors import DataError

RULE = "train a folder; dev halved into valid and test by a published list of impressions (ONCE)"


@dataclass(frozen=True)
class Halves:
    """The list.

    Attributes:
        path: of the file.
        ids: as text, in its order.
    """

    path: Path
    ids: list[str]

    def in_first(self, ids: np.ndarray, behaviors: Path, oddities: Counter[str]) -> np.ndarray:
        """``(n,)`` bool: impressions of the first half.

        Args:
            ids: ``(n,)`` str objects of dev.
            behaviors: the file that has them.
            oddities: counts ids that only one of both has.

        Raises:
            DataError: a half would be empty.
        """
        listed, known = set(self.ids), set(ids.tolist())
        oddities["listed impressions that dev does not have"] += len(listed - known)
        oddities["impressions of dev that are not listed, in test"] += len(known - listed)
        first = set(self.ids[: len(self.ids) // 2])
        found = np.fromiter((name in first for name in ids.tolist()), bool, len(ids))
        if found.all() or not found.any():
            half = "second" if found.all() else "first"
            raise DataError(
                f"{self.path}: no impression of its {half} half is in {behaviors}, whose ids look "
                f"like {ids[0]!r}"
            )
        return found


def read_halves(path: Path) -> Halves:
    """Read the list.

    Raises:
        DataError: no such file, no list of ids, or an id twice.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error}); fetch it again") from None
    if not isinstance(found, list) or not all(type(name) in (int, str) for name in found):
        raise DataError(f"{path}: expected a JSON list of impression ids, such as [29847, 68711]")
    ids = [str(name) for name in found]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{path}: impression {twice[0]} is listed {ids.count(twice[0])} times")
    return Halves(path, ids)
