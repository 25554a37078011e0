"""Filters and splits: against counts by hand, a plain reference, and properties of any data."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from legos.errors import DataError
from process.interactions.filters import Filters, apply_filters, core_mask
from process.interactions.impressions import Negatives, next_item_impressions, user_impressions
from process.interactions.rows import Collector, Interactions
from process.interactions.splits import TEST, TRAIN, VALID, by_time, leave_last_out, random_80_10_10
from tests.process.amazon.amazon_files import TINY

PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=60)


def collect(rows: list[tuple[str, str, float, int]]) -> Interactions:
    collector = Collector()
    for row in rows:
        collector.add(*row)
    return collector.done()


def of_pairs(pairs: list[tuple[int, int]]) -> Interactions:
    """One interaction a pair, at rising times, without repetitions."""
    rows = [(f"u{u}", f"i{i}", 5.0, t) for t, (u, i) in enumerate(dict.fromkeys(pairs))]
    return collect(rows).chronological(1)


def users_of(sizes: list[int]) -> Interactions:
    rows = [(f"u{u}", f"i{i}", 5.0, i) for u, size in enumerate(sizes) for i in range(size)]
    return collect(rows).chronological(1)


def pairs_in(found: Interactions, mask: np.ndarray | None = None) -> list[tuple[str, str]]:
    part = found if mask is None else found.take(mask)
    return [
        (found.user_ids[u], found.item_ids[i]) for u, i in zip(part.user, part.item, strict=True)
    ]


def slow_core(pairs: list[tuple[int, int]], user_core: int, item_core: int) -> set[int]:
    """Drop one interaction of one poor user or item at a time, until there is none."""
    left = set(range(len(pairs)))
    while True:
        users = Counter(pairs[k][0] for k in left)
        items = Counter(pairs[k][1] for k in left)
        poor = [k for k in left if users[pairs[k][0]] < user_core or items[pairs[k][1]] < item_core]
        if not poor:
            return left
        left.discard(poor[0])


@pytest.mark.slow
@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_the_core_is_that_of_dropping_one_at_a_time(
    pairs: list[tuple[int, int]], user_core: int, item_core: int
) -> None:
    user, item = np.array(pairs, dtype=np.int32).T
    mask = core_mask(user, item, user_core, item_core)
    assert set(np.flatnonzero(mask).tolist()) == slow_core(pairs, user_core, item_core)


def test_the_rating_threshold_drops_equal_and_unknown_ratings_and_counts_them() -> None:
    rows = [*TINY, ("u5", "a", float("nan"), 1)]
    kept, counts = apply_filters(collect(rows).chronological(1), Filters(rating_above=3))
    assert pairs_in(kept) == [
        (user, item)
        for user, item, rating, _ in sorted(rows, key=lambda row: (row[0], row[3]))
        if rating > 3
    ]
    assert list(counts.values()) == [1, 3, 0]
    assert "u5" not in kept.user_ids


@pytest.mark.parametrize(("which", "time"), [("first", 1), ("last", 9)])
def test_one_of_a_repeated_pair_stays(which: str, time: int) -> None:
    rows = [("u", "a", 5.0, 9), ("u", "b", 5.0, 5), ("u", "a", 1.0, 1), ("v", "a", 5.0, 3)]
    filters = Filters(duplicates=which)  # type: ignore[arg-type]
    kept, counts = apply_filters(collect(rows).chronological(1), filters)
    at = {pair: int(t) for pair, t in zip(pairs_in(kept), kept.time, strict=True)}
    assert at == {("u", "a"): time, ("u", "b"): 5, ("v", "a"): 3}
    assert list(counts.values()) == [1]


def test_filters_that_leave_nothing_say_what_they_dropped() -> None:
    with pytest.raises(DataError, match=r"none of 13 .*outside the core, dropped: 13.*--item-core"):
        apply_filters(collect(TINY).chronological(1), Filters(user_core=5, item_core=5))


@pytest.mark.parametrize(("size", "parts"), [(5, (3, 1, 1)), (14, (12, 1, 1)), (44, (36, 4, 4))])
def test_the_random_split_has_the_published_sizes(size: int, parts: tuple[int, int, int]) -> None:
    """Golden G8 of CLLM4Rec; (44, 4, 4) is max(1, int(0.1 n))."""
    codes = random_80_10_10(users_of([size, 7]), seed=3)
    assert tuple(np.bincount(codes[:size], minlength=3)) == parts
    assert tuple(np.bincount(codes[size:], minlength=3)) == (5, 1, 1)


def test_the_random_split_is_int_of_a_tenth_for_every_size() -> None:
    sizes = list(range(1, 130))
    found = users_of(sizes)
    codes = random_80_10_10(found, seed=1)
    for user, size in enumerate(sizes):
        tenth = max(1, int(0.1 * size)) if size >= 3 else 0
        counts = np.bincount(codes[found.user == user], minlength=3)
        assert counts.tolist() == [size - 2 * tenth, tenth, tenth]


def test_the_random_split_is_uniform_and_decided_by_its_seed() -> None:
    found = users_of([5] * 3000)
    codes = random_80_10_10(found, seed=1)
    shares = np.bincount(found.rank[codes == TEST], minlength=5) / 3000
    np.testing.assert_allclose(shares, 0.2, atol=0.03)
    assert (codes == random_80_10_10(found, seed=1)).all()
    assert (codes != random_80_10_10(found, seed=2)).any()


@pytest.mark.slow
@given(PAIRS, st.sampled_from(["leave-last-out", "random"]))
def test_splits_are_disjoint_whole_and_none_of_them_is_empty_for_a_user_of_three(
    pairs: list[tuple[int, int]], rule: str
) -> None:
    found = of_pairs(pairs)
    codes = leave_last_out(found) if rule == "leave-last-out" else random_80_10_10(found, seed=1)
    parts = [pairs_in(found, codes == code) for code in (TRAIN, VALID, TEST)]
    assert sorted(itertools.chain(*parts)) == sorted(pairs_in(found))
    for a, b in itertools.combinations(parts, 2):
        assert not set(a) & set(b)
    for user in range(len(found.user_ids)):
        own = codes[found.user == user]
        if len(own) < 3:
            assert set(own) == {TRAIN}
        else:
            assert set(own) == {TRAIN, VALID, TEST}


@pytest.mark.slow
@given(PAIRS)
def test_nothing_in_train_is_later_than_anything_held_out(pairs: list[tuple[int, int]]) -> None:
    found = of_pairs(pairs)
    codes = leave_last_out(found)
    for user in range(len(found.user_ids)):
        own = found.user == user
        assert (np.diff(codes[own]) >= 0).all()
        assert (np.diff(found.time[own]) > 0).all()


def test_by_time_cuts_all_users_at_the_same_two_moments() -> None:
    found = collect([(f"u{i % 7}", f"i{i}", 5.0, i) for i in range(100)]).chronological(1)
    codes = by_time(found, (0.8, 0.9))
    assert [sorted(found.time[codes == code]) for code in range(3)] == [
        list(range(80)), list(range(80, 90)), list(range(90, 100)),
    ]  # fmt: skip
    same = collect([("u", f"i{i}", 5.0, 10) for i in range(9)] + [("u", "z", 5.0, 11)])
    with pytest.raises(DataError, match=r"valid would be empty with quantiles 0\.8 and 0\.9"):
        by_time(same, (0.8, 0.9))


def test_by_time_needs_times() -> None:
    found = collect([("u", f"i{i}", 5.0, -1 if i == 3 else i) for i in range(9)])
    with pytest.raises(DataError, match="1 of 9 interactions have no time; use leave-last-out"):
        by_time(found, (0.8, 0.9))


@pytest.mark.parametrize("rule", ["leave-last-out", "by-time"])
def test_an_impression_is_a_click_after_all_that_the_user_did_before(rule: str) -> None:
    generator = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{i}", 5.0, int(generator.integers(500)))
        for u in range(12)
        for i in generator.permutation(30)[: 2 + u]
    ]  # fmt: skip
    found = collect(rows).chronological(1)
    codes = leave_last_out(found) if rule == "leave-last-out" else by_time(found, (0.6, 0.8))
    negatives = Negatives(train=3, candidates=(5, 8), seed=4)
    splits, unasked = next_item_impressions(found, codes, negatives)
    names = ["train", "valid", "test", "valid_uniform", "test_uniform", "valid_8", "test_8"]
    assert list(splits) == names
    of_split = {name: 0 if name == "train" else 1 + name.startswith("test") for name in names}
    for name, impressions in splits.items():
        targets = np.flatnonzero((codes == of_split[name]) & (found.rank > 0))
        assert len(impressions) == len(targets)
        for row, target in enumerate(targets):
            user = found.user[target]
            own = found.item[found.user == user]
            history = impressions.histories.row(row)
            assert history.tolist() == own[: found.rank[target]].tolist()
            begin, end = impressions.candidate_offsets[row : row + 2]
            shown, labels = impressions.candidate_values[begin:end], impressions.labels[begin:end]
            assert shown[labels == 1].tolist() == [found.item[target]]
            assert end - begin == 1 + (3 if name == "train" else 8 if name.endswith("8") else 5)
            assert len(set(shown)) == len(shown)
            never = own if name != "train" else found.item[(found.user == user) & (codes == 0)]
            assert not set(shown[labels == 0]) & set(never)
            assert impressions.time[row] == found.time[target]
    assert unasked == int(((found.rank == 0) & (codes > 0)).sum())


@pytest.mark.slow
def test_valid_and_test_go_by_popularity_and_their_uniform_twins_do_not() -> None:
    rows = [(f"u{u}", f"i{i}", 5.0, i) for u in range(300) for i in (u % 40 + 60, 0, 1, 2)]
    rows += [(f"v{v}", f"i{50 + i}", 5.0, i) for v in range(900) for i in range(4)]
    found = collect(rows).chronological(1)
    codes = leave_last_out(found)
    splits, _ = next_item_impressions(found, codes, Negatives(candidates=(5,)))
    hot = [found.item_ids.index(name) for name in ("i50", "i51")]
    asked_by_u = splits["test"].user < 300
    shares = {}
    for name in ("test", "test_uniform"):
        rows_of_u = np.repeat(asked_by_u, 6)
        negatives = splits[name].candidate_values[rows_of_u & (splits[name].labels == 0)]
        shares[name] = np.isin(negatives, hot).mean()
    assert shares["test"] > 0.25
    assert shares["test_uniform"] < 0.08


def test_a_user_is_one_row_a_split_when_all_items_are_ranked() -> None:
    found = users_of([5, 2, 14])
    codes = random_80_10_10(found, seed=5)
    splits = user_impressions(found, codes)
    assert [len(rows) for rows in splits.values()] == [3, 2, 2]
    assert splits["test"].user.tolist() == [0, 2]
    for code, (name, rows) in enumerate(splits.items()):
        assert (rows.labels == 1).all()
        for row, user in enumerate(rows.user):
            own = found.user == user
            part = slice(*rows.candidate_offsets[row : row + 2])
            expected = found.item[own & (codes == code)]
            assert rows.candidate_values[part].tolist() == expected.tolist()
            history = rows.histories.row(row)
            known = [] if name == "train" else found.item[own & (codes == TRAIN)].tolist()
            assert history.tolist() == known


def test_a_row_number_tells_nothing_unless_asked_for() -> None:
    found = users_of([6, 4])
    hashed = found.with_items_in("hash")
    again = users_of([4, 6]).take(np.arange(10)[::-1]).with_items_in("hash")
    assert hashed.item_ids == again.item_ids
    assert hashed.item_ids != sorted(found.item_ids)
    assert pairs_in(hashed) == pairs_in(found)
    mixed = collect([("u", "z", 5.0, 2), ("u", "a", 5.0, 1), ("v", "m", 5.0, 0)]).chronological(1)
    assert mixed.with_items_in("appearance").item_ids == ["a", "z", "m"]
    assert pairs_in(mixed.with_items_in("appearance")) == pairs_in(mixed)
