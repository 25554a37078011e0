"""Do answers about users tell of the items that are held out?

For every user, the words of what a model wrote are looked up in the text of the user's held-out
item, in that of a random held-out item of others, and in those of the clicks that may honestly be
seen. A model that never saw the held-out item finds more of its words than chance too, because
readers have tastes; but a held-out item that shows as much as the clicks do was among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from legos.data.ragged import RaggedArray
from legos.data.tables import Tables
from legos.errors import DataError
from process.genre.histories import clicks, user_histories
from process.genre.types import Answer

_WORD = re.compile(r"[^\W\d_]{3,}")
_DRAWS = 1000  # bootstrap resamples
_COMMON = """
about after all also and another any are because been before being between both but can could did
does during each ever every few find for from get had has have her here hers him his how into its
just life like made make many more most must new not now off old once one only other our out over
own set she should some story such tale than that the their them then there these they this those
through too two under until upon various very was way well were what when where which while who
whom whose why will with within without world would you young your book books novel novels series
volume read reader readers article articles news
"""
_STOP_WORDS = frozenset(_COMMON.split())


@dataclass(frozen=True)
class Overlap:
    """One row of the table; shares are of users, fractions of the words written."""

    name: str
    users: int
    words: float
    """Distinct words written, mean."""
    any_held_out: float
    """Share of users with a word in the held-out item."""
    any_random: float
    held_out: float
    """Mean fraction of the words that stand in the held-out item."""
    random: float
    seen: float
    """The same in a click that may be seen."""
    difference: float
    """Held-out less random."""
    low: float
    """Of the 95 % interval of the difference; bootstrap over users."""
    high: float

    @property
    def recovered(self) -> float:
        """1 where a held-out item shows as much as a click that was read, 0 where as chance."""
        return self.difference / (self.seen - self.random) if self.seen > self.random else 0.0

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def content_words(text: str) -> frozenset[str]:
    """Distinct words of three letters and more, lower case, the commonest left out; ``dogs`` is
    ``dog``."""
    words = {word.lower() for word in _WORD.findall(text)} - _STOP_WORDS
    singular = {w[:-1] if len(w) > 3 and w.endswith("s") and w[-2] != "s" else w for w in words}
    return frozenset(singular - _STOP_WORDS)


class LeakCheck:
    """Compares texts about users with the items held out of a split.

    Args:
        tables: finished tables.
        split: whose clicks are held out; of several clicks of a user the last one.
        seed: of the random items and the bootstrap.

    Raises:
        DataError: no such split.
    """

    def __init__(self, tables: Tables, *, split: str = "test", seed: int = 0) -> None:
        if split not in tables.splits:
            raise DataError(f"--split {split}: {tables.folder} has {', '.join(tables.splits)}")
        self.tables = tables
        self.seed = seed
        users, items = clicks(tables, split)
        ids = tables.vocabulary("user_id")
        self.held_out = {
            ids[user]: item for user, item in zip(users.tolist(), items.tolist(), strict=True)
        }
        self._pool: list[int] = np.unique(items).tolist()
        self._words = [content_words(text) for text in tables.joined_texts(tables.text_fields)]
        everything = user_histories(tables, "all")
        self._rows = {user: row for row, user in enumerate(ids)}
        self._everything = everything
        self._visible = user_histories(tables, "valid" if "valid" in tables.splits else "train")

    def compare(self, name: str, texts: Mapping[str, str]) -> Overlap:
        """The row of texts by raw user id; users without a held-out item are left out.

        Raises:
            DataError: nothing is left.
        """
        generator = np.random.default_rng(self.seed)
        written, held_out, random, seen = [], [], [], []
        for user in sorted(set(texts).intersection(self.held_out)):
            words = content_words(texts[user])
            if not words:
                continue
            other = self._random_item(user, generator)
            written.append(len(words))
            held_out.append(self._share(words, self.held_out[user]))
            random.append(self._share(words, other))
            clicked = self._clicks_of(self._visible, user)
            seen += [np.mean([self._share(words, item) for item in clicked])] if clicked else []
        if not written:
            raise DataError(f"{name}: no text about a user with a held-out item")
        found, chance = np.array(held_out), np.array(random)
        difference = found - chance
        low, high = _interval(difference, generator)
        return Overlap(
            name=name,
            users=len(written),
            words=float(np.mean(written)),
            any_held_out=float((found > 0).mean()),
            any_random=float((chance > 0).mean()),
            held_out=float(found.mean()),
            random=float(chance.mean()),
            seen=float(np.mean(seen)) if seen else 0.0,
            difference=float(difference.mean()),
            low=low,
            high=high,
        )

    def _share(self, words: frozenset[str], item: int) -> float:
        return len(words & self._words[item]) / len(words)

    def _clicks_of(self, histories: RaggedArray, user: str) -> list[int]:
        items: list[int] = histories.row(self._rows[user]).tolist()
        return items

    def _random_item(self, user: str, generator: np.random.Generator) -> int:
        own = {*self._clicks_of(self._everything, user), self.held_out[user]}
        for _ in range(1000):
            item = self._pool[int(generator.integers(len(self._pool)))]
            if item not in own:
                return item
        raise DataError(f"{self.tables.folder}: user {user!r} has clicked every held-out item")


def texts_of_users(answers: Mapping[str, Answer]) -> dict[str, str]:
    """All text of the answers about each user, the rounds of a generator together."""
    parts: dict[str, list[str]] = {}
    for key, answer in answers.items():
        user = key.rsplit("#", 1)[0] if "#" in key and key.rsplit("#", 1)[1].isdigit() else key
        parts.setdefault(user, []).extend(_strings(answer["answer"]))
    return {user: " ".join(texts) for user, texts in parts.items()}


def _strings(value: Any) -> Sequence[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]
    return [value] if isinstance(value, str) else []


def _interval(difference: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    means = [
        difference[generator.integers(len(difference), size=len(difference))].mean()
        for _ in range(_DRAWS)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
