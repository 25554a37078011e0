"""BLEU and ROUGE in the legacy form of explanation generation (NETE, PETER, P5), in per cent.

Papineni et al., "BLEU", ACL 2002, as in the old translation tutorial of TensorFlow: words between
blanks, case kept, counts over the whole corpus, no smoothing. Lin, "ROUGE", 2004, on *sets* of
n-grams, and ROUGE-L with a beta of precision over recall; means over pairs. Tables of the field are
in these numbers; sacrebleu and rouge-score give others (:mod:`legos.metrics.generation`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from legos.errors import DataError

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
