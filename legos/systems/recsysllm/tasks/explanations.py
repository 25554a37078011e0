"""Explanations: sentences of reviews about one feature word, mined or read from a file.

The published sets were mined with a Java tool (Zhang et al., "Do users rate or review?", SIGIR
2014). Here is a simple miner of our own, whose sentences are *not* comparable with published
numbers, and a reader of files that hold the published ones (``python -m process.explanations``
makes them).

The miner: a word is noun-like if it often stands after an article, a possessive or an opinion word.
Frequent noun-like words of the training reviews are features. A sentence explains if it has a
feature close to an opinion word, with no other punctuation than blanks between them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from legos.errors import DataError
from legos.records import parse_json
from legos.systems.recsysllm.units import sentences

_WORDS = yaml.safe_load(Path(__file__).with_name("opinion_words.yaml").read_text(encoding="utf-8"))
_OPINIONS = frozenset(_WORDS["positive"].split() + _WORDS["negative"].split())
_POINTERS = frozenset(_WORDS["pointers"].split())
_NOT_FEATURES = _OPINIONS | _POINTERS | frozenset(_WORDS["stop"].split())
_MIN_SHARE = 0.3  # of a feature's occurrences that are noun-like
_MIN_WORDS, _MAX_WORDS = 3, 30  # of a sentence
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?|[^\sa-z']")


class Explanation(NamedTuple):
    """A sentence about a feature, as written, and the word for the feature."""

    sentence: str
    feature: str


class Miner:
    """Finds explanations.

    Args:
        training: review texts of training; only they decide what is a feature.
        min_count: fewest occurrences of a feature in them.
        window: most words between a feature and its opinion word.

    Attributes:
        features: feature words and how often they occur.
    """

    def __init__(self, training: Iterable[str], *, min_count: int = 5, window: int = 3) -> None:
        self._window = window
        every: Counter[str] = Counter()
        noun_like: Counter[str] = Counter()
        for text in training:
            before = ""
            for word in _TOKEN.findall(text.lower()):
                if (
                    len(word) > 2
                    and word.isalpha()
                    and word not in _NOT_FEATURES
                    and not word.endswith(("ly", "ing", "ed"))
                ):
                    every[word] += 1
                    noun_like[word] += before in _POINTERS or before in _OPINIONS
                before = word
        self.features = {
            word: count
            for word, count in every.items()
            if count >= min_count and noun_like[word] >= _MIN_SHARE * count
        }

    def explanations(self, text: str) -> list[Explanation]:
        """All of a review, in its order."""
        every = [" ".join(sentence.split()) for sentence in sentences(text)]
        about = [
            (sentence, self._feature(sentence))
            for sentence in every
            if _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS
        ]
        return [Explanation(sentence, word) for sentence, word in about if word is not None]

    def best(self, text: str) -> Explanation | None:
        """The one about the most frequent feature, the first of several; None if there is none."""
        explanations = self.explanations(text)
        return max(explanations, key=lambda one: self.features[one.feature], default=None)

    def _feature(self, sentence: str) -> str | None:
        """The feature nearest to an opinion word; of equals the frequent one."""
        words = _TOKEN.findall(sentence.lower())
        opinions = [at for at, word in enumerate(words) if word in _OPINIONS]
        pairs = []
        for at, word in enumerate(words):
            for other in opinions if word in self.features else []:
                between = words[min(at, other) + 1 : max(at, other)]
                if len(between) <= self._window and all(w[0].isalpha() for w in between):
                    pairs.append((len(between), -self.features[word], at))
        return words[min(pairs)[2]] if pairs else None


def read_explanations(
    path: Path, users: Sequence[str], items: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> tuple[list[Explanation | None], dict[str, int]]:
    """Published explanations out of a JSON-lines file, for the reviews of tables.

    Args:
        path: lines with ``user``, ``item``, ``sentence``, ``feature``; other keys are left out.
        users, items: raw ids by number.
        pairs: user and item number of each review.

    Returns:
        one a review or None, and counts: ``lines``, those of no review (``unmatched``), those of a
        review that has one already (``repeated``; the first stays).

    Raises:
        DataError: missing, damaged, or none of its lines belongs to a review.
    """
    user_rows = {name: row for row, name in enumerate(users)}
    item_rows = {name: row for row, name in enumerate(items)}
    reviews = {pair: row for row, pair in enumerate(pairs)}
    explanations: list[Explanation | None] = [None] * len(pairs)
    counts = {"lines": 0, "unmatched": 0, "repeated": 0}
    if not path.is_file():
        raise DataError(f"{path}: no such file of explanations")
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        values = parse_json(line, str(path), line=number)
        try:
            pair = user_rows.get(str(values["user"]), -1), item_rows.get(str(values["item"]), -1)
            one = Explanation(str(values["sentence"]), str(values["feature"]))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: no explanation ({error!r}); expected user, item, sentence, "
                "feature"
            ) from None
        counts["lines"] += 1
        row = reviews.get(pair)
        if row is None:
            counts["unmatched"] += 1
        elif explanations[row] is not None:
            counts["repeated"] += 1
        else:
            explanations[row] = one
    if counts["lines"] == counts["unmatched"]:
        raise DataError(
            f"{path}: none of its {counts['lines']:,} lines is about a review of these tables; was "
            "it made from other data?"
        )
    return explanations, counts
