"""Metrics of generated text: ratings, items and sentences.

Nothing is dropped in silence: what cannot be read as a rating gets a fallback and is counted, a
user without a valid item counts as a miss. Every row of HR and nDCG passes the bound check.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from legos.errors import DataError
from legos.metrics.full_ranking import counted_metrics, listed, require_possible
from legos.metrics.ranking import grouped_metrics

FEWEST_STARS, MOST_STARS = 1.0, 5.0
_WORDS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_FULL_STARS = "★⭐"
_RATING = re.compile(
    r"(?<![\w.,])(?P<number>[-+]?\d+(?:[.,]\d+)?)(?![.,]?\d)(?:(?=½|\s?stars?\b)|(?!\w))"
    r"|\b(?P<word>" + "|".join(_WORDS) + r")\b"
    rf"|(?P<stars>[{_FULL_STARS}]+)"
)
_HALF = re.compile(r"\s?½|\s+and\s+a\s+half\b")
_OLD_FORM = re.compile(r"[1-4]\.\d")


@dataclass(frozen=True)
class RatingErrors:
    """Errors of generated ratings.

    Attributes:
        rmse, mae: in stars; NaN where nothing is counted.
        parse_rate: share of the texts that hold a number.
        unparsed: texts that do not; they count with the fallback.
        counted: texts in the means.
    """

    rmse: float
    mae: float
    parse_rate: float
    unparsed: int
    counted: int


def parse_rating(text: str) -> float | None:
    """The first number of a text, in digits, as a word up to five or as stars; None without one.

    ``5.0``, ``4.5 stars``, ``5stars``, ``4/5``, ``4½``, ``four and a half``, ``★★★★☆``; a decimal
    comma is read too. Numbers are read whole: ``5.0.5.5`` is none.
    """
    lower = text.lower()
    found = _RATING.search(lower)
    if found is None:
        return None
    if found["stars"]:
        value = float(len(found["stars"]))
    elif found["word"]:
        value = float(_WORDS[found["word"]])
    else:
        value = float(found["number"].replace(",", "."))
    return value + 0.5 if _HALF.match(lower, found.end()) else value


def rating_errors(
    texts: Sequence[str], stars: Sequence[float], *, fallback: float, as_p5: bool = False
) -> RatingErrors:
    """RMSE and MAE of ratings read out of texts and clipped to 1 to 5.

    Args:
        texts: what was written.
        stars: true ratings, all known.
        fallback: for what is no number, the mean of the training ratings.
        as_p5: count only ``1.0`` to ``4.9`` as P5's evaluation did, which loses every ``5.0``; to
            compare with its numbers.

    Raises:
        DataError: other numbers of texts and ratings, or a rating is not finite.
    """
    wanted = np.asarray(stars, dtype=np.float64)
    if wanted.shape != (len(texts),) or not np.isfinite(wanted).all():
        raise DataError(
            f"{len(texts)} texts and ratings of shape {wanted.shape}; expected a known one each"
        )
    parsed = [parse_rating(text) for text in texts]
    unparsed = sum(value is None for value in parsed)
    counts = np.ones(len(texts), dtype=bool)
    if as_p5:
        counts = np.array([bool(_OLD_FORM.fullmatch(text)) for text in texts], dtype=bool)
    values = np.array([fallback if value is None else value for value in parsed], dtype=np.float64)
    off = (values.clip(FEWEST_STARS, MOST_STARS) - wanted)[counts]
    return RatingErrors(
        rmse=float(np.sqrt((off**2).mean())) if len(off) else float("nan"),
        mae=float(np.abs(off).mean()) if len(off) else float("nan"),
        parse_rate=1 - unparsed / len(texts) if texts else float("nan"),
        unparsed=unparsed,
        counted=int(counts.sum()),
    )


def list_metrics(
    ranked: Sequence[Sequence[int]], targets: Sequence[int], *, at: Sequence[int] = (5, 10)
) -> dict[str, float]:
    """HR, nDCG and MRR of generated lists, one target per user; the row passes the bound check.

    Args:
        ranked: of each user the items, the best first; repeats count once, at their best place;
            an empty list is a miss.
        targets: item of each user.
        at: cut-offs.

    Raises:
        DataError: other numbers of lists and targets, or none.
    """
    if not targets or len(ranked) != len(targets):
        raise DataError(f"{len(ranked)} lists and {len(targets)} targets; expected as many of both")
    lists = [list(dict.fromkeys(items)) for items in ranked]
    width = max(max(at), *(len(items) for items in lists))
    matrix = np.full((len(lists), width), -1, dtype=np.int64)
    for user, items in enumerate(lists):
        matrix[user, : len(items)] = items
    wanted, one = np.asarray(targets, dtype=np.int64), np.ones(len(lists), dtype=np.int64)
    names = [f"{kind}@{k}" for kind in ("HR", "nDCG") for k in at]
    sizes = np.full(len(lists), width)
    row = dict(counted_metrics(listed(matrix, wanted, one), one, sizes, names).values)
    places = (matrix == wanted[:, None]) / np.arange(1, width + 1)
    row["MRR"] = float(places.max(1).mean())
    require_possible(row, source="generated lists")
    return row


def candidate_metrics(scores: np.ndarray, *, at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """HR and nDCG of scored candidates, ties in expectation; the row passes the bound check.

    Args:
        scores: ``(U, 1 + n)``; column 0 belongs to the target.
        at: cut-offs.

    Raises:
        DataError: not finite, or no users.
    """
    if scores.ndim != 2 or not len(scores):
        raise DataError(f"scores of shape {scores.shape}, expected (users, 1 + negatives)")
    users, count = scores.shape
    labels = np.zeros((users, count), dtype=np.int8)
    labels[:, 0] = 1
    names = [f"{kind}@{k}" for kind in ("HR", "nDCG") for k in at]
    offsets = np.arange(users + 1) * count
    row = grouped_metrics(scores.reshape(-1), labels.reshape(-1), offsets, names).values
    require_possible(row, source="scored candidates")
    return row


def match_items(
    texts: Sequence[Sequence[str]], names: Sequence[str]
) -> tuple[list[list[int]], float]:
    """Match freely generated texts with items, and return the share that name one.

    A text is an item if it equals its name but for case and blanks; nothing fuzzy.

    Args:
        texts: of each user what was written, the best first.
        names: of the items by number, all different.

    Returns:
        numbers of the items of each user in the same order, texts that are none left out, and the
        valid-item rate: NaN without texts.
    """
    known = {_normal(name): number for number, name in enumerate(names)}
    found = [[known.get(_normal(text), -1) for text in written] for written in texts]
    total = sum(len(row) for row in found)
    valid = [[item for item in row if item >= 0] for row in found]
    return valid, sum(len(row) for row in valid) / total if total else float("nan")


def text_metrics(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and ROUGE of sentences in per cent: legacy, and by sacrebleu and rouge-score.

    Keys: ``BLEU-1``, ``BLEU-2``, ``BLEU-4``, ``ROUGE-1/2/L`` (F) in the legacy form, the same with
    ``standard `` before it for ``BLEU-4`` and ``ROUGE-1/2/L``.

    Raises:
        DataError: nothing to compare, or other numbers of texts.
    """
    row = {f"BLEU-{n}": legacy_bleu(hypotheses, references, order=n) for n in (1, 2, 4)}
    row |= {f"ROUGE-{n}": legacy_rouge_n(hypotheses, references, n).f for n in (1, 2)}
    row["ROUGE-L"] = legacy_rouge_l(hypotheses, references).f
    return row | standard_text_metrics(hypotheses, references)


def standard_text_metrics(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """sacrebleu's corpus BLEU (13a, exponential smoothing), rouge-score's F with stemming."""
    from rouge_score.rouge_scorer import RougeScorer  # both are slow to import
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU().corpus_score(list(hypotheses), [list(references)]).score
    kinds = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
    scorer = RougeScorer(list(kinds.values()), use_stemmer=True)
    scores = [scorer.score(r, h) for h, r in zip(hypotheses, references, strict=True)]
    return {"standard BLEU-4": float(bleu)} | {
        f"standard {name}": 100 * float(np.mean([score[kind].fmeasure for score in scores]))
        for name, kind in kinds.items()
    }


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


_TINY = 1e-8  # in denominators


@dataclass(frozen=True)
class Rouge:
    """Mean F, recall and precision in per cent."""

    f: float
    recall: float
    precision: float


def legacy_bleu(hypotheses: Sequence[str], references: Sequence[str], *, order: int = 4) -> float:
    """Corpus BLEU of n-grams up to ``order``; 0 where no n-gram of some order is matched.

    Raises:
        DataError: nothing to compare, or other numbers of texts.
    """
    _check(hypotheses, references)
    matches, possible = [0] * order, [0] * order
    written = expected = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        own, wanted = hypothesis.split(), reference.split()
        written, expected = written + len(own), expected + len(wanted)
        for n in range(1, order + 1):
            matches[n - 1] += (_ngrams(own, n) & _ngrams(wanted, n)).total()
            possible[n - 1] += max(0, len(own) - n + 1)
    if min(matches) == 0 or expected == 0:
        return 0.0
    logs = [math.log(a / b) for a, b in zip(matches, possible, strict=True)]
    brevity = min(0.0, 1 - expected / written)
    return 100 * math.exp(brevity + sum(logs) / order)


def legacy_rouge_n(hypotheses: Sequence[str], references: Sequence[str], n: int) -> Rouge:
    """ROUGE-n on sets of n-grams; an empty text has 0.

    Raises:
        DataError: nothing to compare, or other numbers of texts.
    """
    _check(hypotheses, references)
    scores = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        own, wanted = set(_ngrams(hypothesis.split(), n)), set(_ngrams(reference.split(), n))
        precision, recall = _ratios(len(own & wanted), len(own), len(wanted))
        scores.append((2 * precision * recall / (precision + recall + _TINY), recall, precision))
    return _mean(scores)


def legacy_rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> Rouge:
    """ROUGE-L by the longest common subsequence of words, with beta = precision / recall.

    Raises:
        DataError: nothing to compare, or other numbers of texts.
    """
    _check(hypotheses, references)
    scores = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        own, wanted = hypothesis.split(), reference.split()
        common = _longest_common(own, wanted)
        precision, recall = _ratios(common, len(own), len(wanted))
        if common == 0:
            scores.append((0.0, 0.0, 0.0))
            continue
        beta = (precision / recall) ** 2
        f = (1 + beta) * precision * recall / (recall + beta * precision)
        scores.append((f, recall, precision))
    return _mean(scores)


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def _ratios(common: int, own: int, wanted: int) -> tuple[float, float]:
    return common / own if own else 0.0, common / wanted if wanted else 0.0


def _longest_common(left: Sequence[str], right: Sequence[str]) -> int:
    before = [0] * (len(right) + 1)
    for word in left:
        row = [0]
        for at, other in enumerate(right):
            row.append(before[at] + 1 if word == other else max(row[at], before[at + 1]))
        before = row
    return before[-1]


def _mean(scores: Sequence[tuple[float, float, float]]) -> Rouge:
    f, recall, precision = (100 * sum(column) / len(scores) for column in zip(*scores, strict=True))
    return Rouge(f, recall, precision)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if not hypotheses or len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses)} texts and {len(references)} references; expected as many of both, "
            "at least one"
        )
