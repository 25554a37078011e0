"""Equal times are ordered by a seeded hash, and how many there are is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from process.amazon.assemble import Options, read_prepared
from process.interactions.impressions import Negatives
from process.interactions.parts import Part, Parts
from process.interactions.rows import Collector, Interactions
from process.raw import TokenizerSpec
from process.tables import write_tables
from process.ties import TimeTies, by_hash, by_id, count_ties, pair_hashes
from tests.process.amazon.amazon_files import rows_of, write_prepared


def collect(rows: list[tuple[str, str, int]]) -> Interactions:
    collector = Collector()
    for user, item, time in rows:
        collector.add(user, item, 5.0, time)
    return collector.done()


def pairs(found: Interactions) -> list[tuple[str, str]]:
    return [
        (found.user_ids[user], found.item_ids[item])
        for user, item in zip(found.user, found.item, strict=True)
    ]


def test_times_come_first_and_the_hash_decides_among_equal_ones() -> None:
    late = [("u", f"late{i}", 9) for i in range(20)]
    early = [("u", f"early{i}", 3) for i in range(20)]
    found = pairs(collect([*late, *early]).chronological(1))
    assert {item[:5] for _, item in found[:20]} == {"early"}
    assert found == pairs(collect([*early[::-1], *late[::-1]]).chronological(1))
    assert found != pairs(collect([*late, *early]).chronological(2)), "another seed, another order"


def test_the_next_larger_id_says_nothing_of_the_next_item() -> None:
    """A shop's export: every user buys at one time, lines are sorted by id."""
    rows = [(f"u{user}", f"i{item:03}", 7) for user in range(1000) for item in (1, 2)]
    found = pairs(collect(rows).chronological(1))
    rising = sum(found[k][1] < found[k + 1][1] for k in range(0, len(found), 2))
    assert abs(rising - 500) < 4 * 250**0.5


def test_users_do_not_share_the_order_of_their_ties() -> None:
    rows = [(f"u{user}", f"i{item}", 7) for user in range(50) for item in range(6)]
    found = pairs(collect(rows).chronological(1))
    orders = {tuple(item for _, item in found[k : k + 6]) for k in range(0, len(found), 6)}
    assert len(orders) > 40


def test_sequences_keep_their_own_order() -> None:
    collector = Collector(ordered=True)
    for item in ("c", "a", "b"):
        collector.add("u", item)
    assert [item for _, item in pairs(collector.done().chronological(1))] == ["c", "a", "b"]


def test_ties_are_counted_by_user() -> None:
    user, time = np.array([0, 1, 0, 0, 1, 2]), np.array([5, 5, 5, 6, 7, -1])
    assert count_ties(user, time) == TimeTies(interactions=6, tied=2)
    assert count_ties(user, time).share == 2 / 6
    assert count_ties(user[:0], time[:0]).share == 0


def test_the_summary_tells_the_share_of_ties(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"u{user}", item, 5.0, 100) for user in range(3) for item in "abcdef"]
    rows += [("u9", item, 5.0, time) for time, item in enumerate("abcdeg")]
    raw = read_prepared(
        write_prepared(tmp_path, rows), name="x", options=Options(negatives=Negatives(0, (1,)))
    )
    assert raw.time_ties == TimeTies(interactions=24, tied=18)
    manifest = write_tables(raw, tmp_path / "tables", [TokenizerSpec("words", "words")])
    assert manifest["summary"]["time_ties"] == {"interactions": 24, "tied": 18, "percent": 75.0}
    assert "18 of 24 interactions (75.0 %)" in capsys.readouterr().out
    assert rows_of(raw, "test")[3][1:3] == (list("abcde"), ["g"])


@settings(max_examples=50)
@given(st.lists(st.text(min_size=0, max_size=5), unique=True, max_size=20))
def test_orders_depend_on_the_set_of_ids_alone(ids: list[str]) -> None:
    for order in (by_id, by_hash):
        assert [ids[i] for i in order(ids)] == [ids[::-1][i] for i in order(ids[::-1])]


def test_ids_that_are_numbers_go_by_their_values() -> None:
    ids = ["10", "9", "100", "1"]
    assert [ids[i] for i in by_id(ids)] == ["1", "9", "10", "100"]


def test_a_pair_has_one_hash_wherever_its_ids_stand() -> None:
    rows = np.arange(2)
    found = pair_hashes(["u", "v"], ["a", "b"], rows, rows, 1)
    turned = pair_hashes(["v", "u"], ["b", "a"], rows, rows, 1)
    assert found.tolist() == turned[::-1].tolist()
    assert found[0] != pair_hashes(["u", "v"], ["a", "b"], rows, rows, 2)[0]


IDS = st.sampled_from(["", "a", "b", "aa", "é", "10", "9"])
ROWS = st.lists(st.lists(st.tuples(IDS, IDS), max_size=5), max_size=6)


@pytest.mark.parametrize("many", [0, 1 << 20])
@given(parts=ROWS)
def test_parts_become_what_their_rows_become(parts: list[list[tuple[str, str]]], many: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("process.interactions.parts._MANY", many)
        grown, rows = Parts(), Collector()
        for part in parts:
            users, items = [user for user, _ in part], [item for _, item in part]
            numbers = range(len(part))
            grown.extend(Part.of(users, items, numbers, numbers, bytes(8 * len(part))))
            for number in numbers:
                rows.add(users[number], items[number], number, number)
        assert repr(grown.done()) == repr(rows.done())
