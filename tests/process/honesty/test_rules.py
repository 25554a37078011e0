"""Rules that read no content: hand-made splits, and a loop over pairs as reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from legos.data.honesty import RuleResult
from process.honesty import Evidence, rules
from process.honesty.rules import measure_splits, place_by_id
from tests.process.honesty.small import Row, evidence

IDS = [f"i{number:02d}" for number in range(30)]


def results(data: Evidence, split: str = "test") -> dict[str, RuleResult]:
    return measure_splits(data, seed=1)[split].rules


def leave_last_out(
    choose: Callable[[int], int], *, users: int = 200, negatives: int = 5
) -> Evidence:
    """Users whose next item is ``choose`` of the one before."""
    numbers = np.random.default_rng(3)
    train, test = [], []
    for user in range(users):
        last = int(numbers.integers(0, 28))
        clicked = choose(last)
        others = [item for item in numbers.permutation(30).tolist() if item not in (last, clicked)]
        before = others[0]
        train.append(Row(user, [before], [last, others[1]], [1, 0]))
        shown = [clicked, *others[2 : 2 + negatives]]
        test.append(Row(user, [before, last], shown, [1] + [0] * negatives))
    return evidence({"train": train, "test": test}, ids=IDS)


def test_an_order_of_ids_that_gives_clicks_away_is_seen() -> None:
    found = results(leave_last_out(lambda last: last + 1))
    assert found["next_id"].gauc == 1.0
    assert found["next_id"].hits_at_10 == 1.0
    assert "next_line" not in found  # it is the order of ids
    honest = results(leave_last_out(lambda last: (last * 7 + 3) % 30))
    assert abs(honest["next_id"].gauc - 0.5) < 4 * honest["next_id"].error  # type: ignore[operator]


def test_ids_are_ordered_as_numbers_where_all_are_and_as_text_else() -> None:
    assert place_by_id(["10", "9", "100"]).tolist() == [1, 0, 2]
    assert place_by_id(["10", "9", "b"]).tolist() == [0, 1, 2]
    assert place_by_id(["²", "1"]).tolist() == [1, 0]  # a digit that is no number


def test_the_order_of_lines_is_another_rule_than_that_of_ids() -> None:
    ids = [IDS[(row * 11) % 30] for row in range(30)]
    data = leave_last_out(lambda last: last + 1)
    shuffled = Evidence(data.tables, {"item_id": ids}, {})
    found = results(shuffled)
    assert found["next_line"].gauc == 1.0
    assert found["next_id"].gauc < 0.7  # type: ignore[operator]


def test_popularity_of_the_test_does_not_know_the_click_it_ranks() -> None:
    """Every item is clicked once: who counted the click itself would have GAUC 1."""
    rows = [Row(user, [], [user, (user + 7) % 30], [1, 0]) for user in range(30)]
    found = results(evidence({"train": rows[:1], "test": rows}, ids=IDS))
    assert found["popularity_test"].gauc < 0.6  # type: ignore[operator]
    hot = [Row(user, [], [4, 5 + user % 20], [1, 0]) for user in range(60)]
    found = results(evidence({"train": rows[:1], "test": hot}, ids=IDS))
    assert found["popularity_test"].gauc == 1.0
    assert found["popularity_train"].gauc == 0.5


def test_time_rules_read_train_alone() -> None:
    train = [
        Row(0, [], [1, 2], [1, 0], time=100),  # 1 and 2 appear first at 100
        Row(1, [], [3, 1], [1, 0], time=200),
        Row(2, [], [1, 3], [1, 0], time=300),  # 1 is clicked last
    ]
    test = [Row(3, [], [1, 3], [1, 0], time=400), Row(4, [], [3, 2], [1, 0], time=500)]
    found = results(evidence({"train": train, "test": test}, ids=IDS))
    assert found["most_recent"].gauc == 1.0  # 1 over 3, 3 over 2 which nobody clicked
    assert found["newest"].gauc == 0.5  # 3 over 1 is wrong, 3 over 2 is right
    late = [Row(9, [], [3, 29], [0, 1], time=1), *test]
    assert results(evidence({"train": train, "test": late}, ids=IDS))["newest"].gauc == 0.6667
    timeless = [row._replace(time=-1) for row in train]
    found = results(evidence({"train": timeless, "test": test}, ids=IDS))
    assert not {"most_recent", "newest"} & set(found)


def test_what_was_never_a_negative_of_the_user_can_give_clicks_away() -> None:
    train = [Row(user, [0], [1, 2, 3, 4], [1, 0, 0, 0]) for user in range(40)]
    honest = [Row(user, [0, 1], [5, 6, 7], [1, 0, 0]) for user in range(40)]
    leaky = [Row(user, [0, 1], [5, 2, 3], [1, 0, 0]) for user in range(40)]
    found = results(evidence({"train": train, "test": honest}, ids=IDS))
    assert found["never_negative"].gauc == 0.5
    assert results(evidence({"train": train, "test": leaky}, ids=IDS))["never_negative"].gauc == 1.0


def test_clicks_on_known_items_and_repeated_candidates_are_counted() -> None:
    train = [Row(0, [0], [1, 2], [1, 0])]
    test = [Row(0, [0, 1], [1, 3, 3], [1, 0, 0]), Row(1, [2], [4, 5], [1, 0])]
    split = measure_splits(evidence({"train": train, "test": test}, ids=IDS), seed=1)["test"]
    assert split.known_clicks == 50.0
    assert split.repeated_candidates == 50.0


def _reference(scores: np.ndarray, target: int, others: list[int]) -> tuple[float, float]:
    """AUC and the chance of a place among ten, by looking at every item."""
    above = sum(scores[item] > scores[target] for item in others)
    level = sum(scores[item] == scores[target] for item in others)
    return 1 - (above + level / 2) / len(others), min(max((10 - above) / (level + 1), 0), 1)


@pytest.mark.parametrize("seed", range(4))
def test_among_all_items_equals_a_loop_over_items(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    train, test = [], []
    for user in range(60):
        history = numbers.integers(0, 30, numbers.integers(1, 8)).tolist()
        target = int(numbers.integers(0, 30))
        train.append(Row(user, history[:-1], [history[-1]], [1]))
        test.append(Row(user, history, [target], [1]))
    data = evidence({"train": train, "test": test}, ids=IDS)
    found = measure_splits(data, seed=1)["test"]
    clicks = np.bincount([row.candidates[0] for row in train], minlength=30).astype(float)
    areas: dict[str, list[tuple[float, float]]] = {"next_id": [], "popularity_train": []}
    for row in test:
        target, last = row.candidates[0], row.history[-1]
        others = [item for item in range(30) if item != target and item not in row.history]
        ahead = np.arange(30.0) - last
        ordered = np.where(ahead > 0, -ahead, -1000.0)
        areas["next_id"].append(_reference(ordered, target, others))
        areas["popularity_train"].append(_reference(clicks, target, others))
    for rule, pairs in areas.items():
        area, hits = np.array(pairs).mean(0)
        assert found.rules[rule].all_items == pytest.approx(area, abs=1e-4)
        assert found.rules[rule].hits_at_10 == pytest.approx(hits, abs=1e-4)
        assert found.rules[rule].gauc is None  # nothing but clicks is shown


def test_the_same_clicks_are_ranked_among_all_items_once() -> None:
    data = leave_last_out(lambda last: last + 1, users=40)
    tables = {**data.tables, "test_uniform": data.tables["test"]}
    splits = measure_splits(Evidence(tables, data.vocabularies, {}), seed=1)
    assert splits["test"].chance_at_10 is not None
    assert splits["test_uniform"].chance_at_10 is None
    assert splits["test_uniform"].rules["next_id"].gauc == splits["test"].rules["next_id"].gauc


def test_a_log_of_shown_lists_is_not_ranked_among_all_items() -> None:
    shown = [Row(0, [1], [2, 3], [1, 0]), Row(0, [1], [4, 5], [1, 0])]
    split = measure_splits(evidence({"train": shown, "test": shown}, ids=IDS), seed=1)["test"]
    assert split.chance_at_10 is None
    unlabelled = [row._replace(labels=[-1, -1]) for row in shown]
    data = evidence({"train": shown, "test": unlabelled}, ids=IDS)
    assert results(data) == {}


def test_large_splits_are_sampled_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = leave_last_out(lambda last: last + 1)
    monkeypatch.setattr(rules, "MOST_MEASURED", 50)
    one, other = (measure_splits(data, seed=seed)["test"] for seed in (1, 1))
    assert (one.impressions, one.measured) == (200, 50)
    assert one == other
    assert one != measure_splits(data, seed=2)["test"]
