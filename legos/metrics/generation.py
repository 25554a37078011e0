"""Measuring what a language model writes: ratings, items and sentences.

Nothing is dropped in silence: what cannot be read as a rating gets a fallback and is counted, a
user without a valid item counts as a miss. Every row of HR and nDCG passes the bound check.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from legos.errors import DataError
from legos.metrics.bounds import require_possible
from legos.metrics.full_ranking import full_ranking_metrics
from legos.metrics.ranking import grouped_metrics
from legos.metrics.text_overlap import legacy_bleu, legacy_rouge_l, legacy_rouge_n

FEWEST_STARS, MOST_STARS = 1.0, 5.0
_WORDS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)?(?![\w])|\b(?:" + "|".join(_WORDS) + r")\b")
_HALF = re.compile(r"\s+and\s+a\s+half\b")
_OLD_FORM = re.compile(r"[1-4]\.\d")


@dataclass(frozen=True)
class RatingErrors:
    """How far written ratings are off.

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
    """The first number of a text, in digits or as a word up to five; None if there is none.

    ``5.0``, ``4.5 stars``, ``4/5``, ``four and a half``; a decimal comma is read too.
    """
    lower = text.lower()
    found = _NUMBER.search(lower)
    if found is None:
        return None
    word = found[0]
    value = float(_WORDS[word]) if word in _WORDS else float(word.replace(",", "."))
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
    """HR, nDCG and MRR of generated lists, one target a user; the row passes the bound check.

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
    wanted = np.asarray(targets, dtype=np.int64)
    offsets = np.arange(len(wanted) + 1)
    found = full_ranking_metrics(matrix, wanted, offsets, recall_at=at, ndcg_at=at).values
    row = {f"HR@{k}": found[f"Recall@{k}"] for k in at}  # with one target they are the same
    row |= {f"nDCG@{k}": found[f"nDCG@{k}"] for k in at}
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
    """Items that were written freely, and the share of texts that are one.

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
