"""Ratings, items and sentences that were written: golden tests 24 to 27."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.errors import DataError
from legos.metrics.full_ranking import PRINTED, bound_violations, require_possible
from legos.metrics.generation import (
    candidate_metrics,
    legacy_bleu,
    legacy_rouge_l,
    legacy_rouge_n,
    list_metrics,
    match_items,
    parse_rating,
    rating_errors,
    text_metrics,
)

REFERENCES = ["the battery life is great", "good toy for kids", "this product is very good"]
WRITTEN = ["the battery is great", "great toy for the kids", "this product is good"]


def test_golden_24_legacy_bleu_and_rouge() -> None:
    bleu = [legacy_bleu(WRITTEN, REFERENCES, order=order) for order in (1, 2, 4)]
    assert bleu == pytest.approx([78.35055, 60.22855, 0.0], abs=1e-5)
    one, two = (legacy_rouge_n(WRITTEN, REFERENCES, n) for n in (1, 2))
    longest = legacy_rouge_l(WRITTEN, REFERENCES)
    close = pytest.approx
    assert (one.f, one.recall, one.precision) == close((81.4815, 78.3333, 86.6667), abs=1e-4)
    assert (two.f, two.recall, two.precision) == close((47.6190, 44.4444, 52.7778), abs=1e-4)
    found = (longest.f, longest.recall, longest.precision)
    assert found == close((79.5414, 78.3333, 86.6667), abs=1e-4)


def test_legacy_forms_by_hand() -> None:
    # 4-grams "a b c d" and "b c d e": 1 of 2 is matched, 3-grams 2/3, 2-grams 3/4, 1-grams 4/5
    by_hand = 100 * (1 / 2 * 2 / 3 * 3 / 4 * 4 / 5) ** 0.25
    assert legacy_bleu(["a b c d x"], ["a b c d e"]) == pytest.approx(by_hand)
    # sets of n-grams: repeated words count once, so recall is 1 of 2 and precision 1 of 1
    repeated = legacy_rouge_n(["toy toy toy"], ["toy box"], 1)
    assert (repeated.recall, repeated.precision) == pytest.approx((50, 100))
    assert legacy_rouge_n(["Good toy."], ["good toy"], 1).f == 0  # case and points count
    assert legacy_bleu(["Good toy."], ["good toy."], order=1) == pytest.approx(50)
    assert legacy_bleu([""], ["a b"], order=1) == legacy_rouge_l([""], ["a b"]).f == 0
    assert legacy_bleu(["a"], ["a b c"], order=1) == pytest.approx(100 * math.exp(-2))


def test_both_forms_stand_side_by_side() -> None:
    row = text_metrics(WRITTEN, REFERENCES)
    assert row["BLEU-4"] == 0
    assert row["standard BLEU-4"] == pytest.approx(27.29924, abs=1e-4)  # sacrebleu 2.6.0
    # by rouge-score's definition ROUGE-L's F is 2PR / (P + R): (8/9 + 2/3 + 8/9) / 3
    assert row["standard ROUGE-L"] == pytest.approx(81.48148, abs=1e-4)
    assert row["ROUGE-L"] == pytest.approx(79.5414, abs=1e-4)
    same = text_metrics(REFERENCES[:1], REFERENCES[:1])
    assert same == pytest.approx(dict.fromkeys(same, 100.0), abs=1e-4)
    with pytest.raises(DataError, match="1 texts and 2 references"):
        text_metrics(["a"], ["a", "b"])


def test_golden_25_lists() -> None:
    row = list_metrics([[5, 7, 9], [1, 2]], [7, 3], at=(5,))
    assert row["HR@5"] == 0.5
    assert row["nDCG@5"] == pytest.approx(0.3154648768)
    assert row["MRR"] == 0.25


def test_a_user_without_items_misses_and_repeats_count_once() -> None:
    row = list_metrics([[], [4, 4, 4, 3]], [1, 3], at=(1, 2))
    assert row == pytest.approx(
        {"HR@1": 0, "HR@2": 0.5, "nDCG@1": 0, "nDCG@2": 0.5 / math.log2(3), "MRR": 0.25}
    )
    with pytest.raises(DataError, match="0 lists"):
        list_metrics([], [])


def test_scored_candidates_by_hand() -> None:
    scores = np.array([[3.0, 1, 2], [1.0, 2, 3], [1.0, 1, 0]])  # ranks 1, 3, 1.5 (a tie)
    row = candidate_metrics(scores, at=(1, 2))
    assert row["HR@1"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert row["nDCG@2"] == pytest.approx((1 + 0 + 0.5 * (1 + 1 / math.log2(3))) / 3)
    with pytest.raises(DataError, match="not finite"):
        candidate_metrics(np.array([[math.nan, 1.0]]))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=30),
)
def test_golden_26_true_rows_pass_the_bound_check(ranks: list[int]) -> None:
    lists = [[1000 + at for at in range(rank - 1)] + [7] for rank in ranks]
    row = list_metrics(lists, [7] * len(ranks), at=(1, 5, 10))
    assert not bound_violations(row)
    hit = [1 / math.log2(rank + 1) * (rank <= 10) for rank in ranks]
    assert row["nDCG@10"] == pytest.approx(sum(hit) / len(hit))
    broken = {**row, "nDCG@10": row["nDCG@5"] + (row["HR@10"] - row["HR@5"]) / math.log2(7) + 1e-3}
    assert bound_violations(broken)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        # printed rows of RecSysLLM's tables 4 and 7, and what the bounds allow
        ((None, 0.0508, 0.0381, 0.0667, 0.0446), r"nDCG@10 0.0446 is not in \[0.0427, 0.0438\]"),
        ((None, 0.0360, 0.0291, 0.0417, 0.0302), r"not in \[0.0307, 0.0311\]"),
        ((0.6072, 0.1502, 0.1097, 0.2317, 0.1302), "HR@5 0.1502 is below HR@1 0.6072"),
        ((0.4965, 0.7435, 0.7032, 0.7728, 0.7237), r"nDCG@5 0.7032 is not in \[0.5921, 0.6523\]"),
        ((0.7079, 0.8154, 0.7671, 0.8560, 0.7804), ""),  # GPT-4, table 9
        ((None, 0.0387, 0.0249, 0.0605, 0.0318), ""),  # SASRec, table 4
    ],
)
def test_published_rows_are_judged(row: tuple[float | None, ...], message: str) -> None:
    names = ("HR@1", "HR@5", "nDCG@5", "HR@10", "nDCG@10")
    values = {name: value for name, value in zip(names, row, strict=True) if value is not None}
    if not message:
        require_possible(values, source="a table", tolerance=PRINTED)
        return
    with pytest.raises(DataError, match=message):
        require_possible(values, source="a table", tolerance=PRINTED)


@pytest.mark.parametrize(
    ("text", "stars"),
    [
        ("5.0", 5), ("5", 5), ("4.5 stars", 4.5), ("", None), ("five stars", 5), ("4/5", 4),
        ("Rated three and a half.", 3.5), ("3,5", 3.5), ("no idea", None), ("someone", None),
        ("the 10th time", None), ("4 out of 5", 4), ("Five, of course", 5),
        ("5.0.5.5", None), ("1,234,5", None), ("5.", 5), ("5stars", 5), ("1star", 1),
        ("5starships", None), ("4½", 4.5), ("4 ½ stars", 4.5), ("★★★★", 4), ("4★", 4),
        ("★★★☆☆ fine", 3), ("⭐⭐", 2), ("☆", None),
    ],
)  # fmt: skip
def test_golden_27_ratings_are_parsed(text: str, stars: float | None) -> None:
    assert parse_rating(text) == stars


def test_unparsed_ratings_are_counted_not_dropped() -> None:
    found = rating_errors(["5.0", "none", "9", "2"], [5, 4, 4, 1], fallback=2.5)
    # errors: 0, 2.5 - 4 = -1.5 (fallback), 5 - 4 = 1 (clipped), 1
    assert (found.rmse, found.mae) == pytest.approx((math.sqrt(4.25 / 4), 3.5 / 4))
    assert (found.unparsed, found.parse_rate, found.counted) == (1, 0.75, 4)
    old = rating_errors(["5.0", "none", "4.0", "2.5"], [1, 4, 4, 2], fallback=3.0, as_p5=True)
    assert (old.counted, old.mae, old.unparsed) == (2, 0.25, 1)  # the "5.0" is lost, as in P5
    with pytest.raises(DataError, match="expected a known one each"):
        rating_errors(["5"], [math.nan], fallback=3.0)


def test_written_items_match_whole_titles_only() -> None:
    names = ["Red Kit", "Red Kit Deluxe"]
    texts = [["red  kit ", "Red", "Red Kit Deluxe"], ["Blue"]]
    assert match_items(texts, names) == ([[0, 1], []], 0.5)
    assert math.isnan(match_items([], names)[1])
