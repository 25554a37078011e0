"""Times, texts and the bounds above which the report warns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from process.honesty import Evidence, measure_honesty
from process.honesty.measure import has_markup, measure_times
from process.ties import TimeTies
from process.tokenization import Column
from tests.process.honesty.small import Row, evidence, lists

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DAY = int(datetime(2014, 5, 1, tzinfo=UTC).timestamp())
ROWS = [Row(user, [0], [1 + user % 5, 6], [1, 0]) for user in range(40)]
IDS = [f"i{number}" for number in range(10)]


def warned(data: Evidence) -> dict[str, str]:
    return {w.kind: w.text for w in measure_honesty(data, now=NOW).warnings}


def test_ties_are_times_that_a_user_has_twice() -> None:
    reviews = [(0, DAY), (0, DAY), (0, DAY + 5), (1, DAY), (1, DAY + 86_400), (2, DAY)]
    found = measure_times(evidence({"train": ROWS}, ids=IDS, reviews=reviews), now=NOW)
    assert found is not None
    assert found.source == "interactions"
    assert found.tied == 33.33  # two of six: other users do not count
    assert found.dates == 83.33
    assert (found.earliest, found.latest) == ("2014-05-01", "2014-05-02")


def test_ties_that_a_reader_counted_are_taken_where_tables_keep_impressions_alone() -> None:
    rows = [Row(user, [0], [1, 2], [1, 0], time=DAY + user) for user in range(40)]
    data = replace(evidence({"train": rows}, ids=IDS), time_ties=TimeTies(400, 100))
    found = measure_times(data, now=NOW)
    assert found is not None
    assert (found.source, found.tied, found.tied_of) == ("impressions", 25.0, "interactions")
    assert "25.0 % of the interactions" in warned(data)["time_ties"]


def test_unknown_times_are_no_ties_and_no_times_are_no_report() -> None:
    reviews = [(0, -1), (0, -1), (0, DAY)]
    found = measure_times(evidence({"train": ROWS}, ids=IDS, reviews=reviews), now=NOW)
    assert found is not None
    assert (found.known, found.unknown, found.tied) == (1, 2, 0.0)
    assert measure_times(evidence({"train": ROWS}, ids=IDS), now=NOW) is None


def test_impressions_stand_for_interactions_and_the_same_clicks_count_once() -> None:
    test = [Row(0, [0], [1, 2], [1, 0], time=DAY + 1), Row(1, [0], [1, 2], [1, 0], time=DAY + 1)]
    data = evidence({"test": test}, ids=IDS)
    flavour = {**data.tables["test"], "candidates": Column(lists([[1, 3], [1, 3]]))}
    both = Evidence({**data.tables, "test_uniform": flavour}, data.vocabularies, {})
    found = measure_times(both, now=NOW)
    assert found is not None
    assert (found.source, found.known, found.tied) == ("impressions", 2, 0.0)


@pytest.mark.parametrize(
    ("when", "old", "future"),
    [
        (datetime(2099, 1, 1, tzinfo=UTC), 0, 1),
        (datetime(1970, 1, 1, tzinfo=UTC), 1, 0),
        (datetime(1994, 12, 31, tzinfo=UTC), 1, 0),
        (datetime(1900, 1, 1, tzinfo=UTC), 1, 0),
        (-(2**62), 1, 0),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), 0, 0),  # another time zone, not another year
        (DAY * 1000, 0, 1),  # milliseconds
        (2**62, 0, 1),
    ],
)
def test_dates_that_cannot_be_are_counted_and_named(
    when: datetime | int, old: int, future: int
) -> None:
    seconds = int(when.timestamp()) if isinstance(when, datetime) else when
    data = evidence({"train": ROWS}, ids=IDS, reviews=[(0, DAY), (1, seconds)])
    found = measure_times(data, now=NOW)
    assert found is not None
    assert (found.before_1995, found.in_future) == (old, future)
    assert ("implausible_dates" in warned(data)) == bool(old or future)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Fish &amp; Chips", True),
        ("Fish & Chips", False),
        ("caf&#233;", True),
        ("caf&#xE9;", True),
        ("a <b>bold</b> move", True),
        ("line<br/>break", True),
        ('<a href="x">there</a>', True),
        ("if a <b and c> d", False),
        ("R&D; more", False),
        ("x < y > z", False),
        ("<3", False),
        ("&nosuchthing;", False),
    ],
)
def test_markup_is_tags_and_entities_that_html_has(text: str, left: bool) -> None:
    assert has_markup(text) == left


def test_texts_are_measured_by_field_and_tokenizer() -> None:
    texts = {"title": ["a &amp; b", "a", "", "A ", *map(str, range(6))], "body": [""] * 10}
    data = evidence({"train": ROWS}, ids=IDS, texts=texts)
    tokens = Column(lists([[1, 2], [2], [], [2], [1], [0], [2], [2], [2], [2]]), "bert")
    tables = {**data.tables, "items": {**data.tables["items"], "title@bert": tokens}}
    vocabularies = {**data.vocabularies, "bert": ["[PAD]", "[UNK]", "word"]}
    report = measure_honesty(Evidence(tables, vocabularies, texts), now=NOW)
    title = report.texts["title"]
    assert (title.empty, title.markup, title.unknown) == (10.0, 10.0, {"bert": 20.0})
    assert report.texts["body"].empty == 100.0
    assert report.items_without_text == 1
    assert report.items_of_same_text == 1  # "a" and "A "
    kinds = {w.kind for w in report.warnings}
    assert {"markup", "unknown_tokens", "same_text"} <= kinds


def test_small_splits_and_what_gives_clicks_away_are_warned_of_with_the_number() -> None:
    few = evidence({"train": ROWS, "valid": ROWS[:1]}, ids=IDS)
    assert "split valid has 1 impressions" in warned(few)["small_split"]
    next_ids = [Row(user, [user % 8], [user % 8 + 1, 9], [1, 0]) for user in range(40)]
    found = warned(evidence({"train": ROWS, "test": next_ids}, ids=IDS))
    assert "GAUC 1.000 on test" in found["order"]
    lucky = warned(evidence({"train": ROWS, "test": next_ids[:29]}, ids=IDS))
    assert "order" not in lucky  # too few to say so
    ties = evidence({"train": ROWS}, ids=IDS, reviews=[(0, DAY)] * 3 + [(1, DAY + 1)])
    assert "75.0 % of the interactions" in warned(ties)["time_ties"]


def test_an_honest_data_set_has_no_warning() -> None:
    numbers = np.random.default_rng(0)
    splits = {
        name: [
            Row(
                user,
                numbers.permutation(100)[:4].tolist(),
                numbers.permutation(100)[:5].tolist(),
                [1, 0, 0, 0, 0],
                time=DAY + 7_001 * (user + 1000 * place),
            )
            for user in range(400)
        ]
        for place, name in enumerate(("train", "valid", "test"))
    }
    ids = [f"n{number}" for number in numbers.permutation(100).tolist()]
    texts = {"title": [f"title number {number}" for number in range(100)]}
    report = measure_honesty(evidence(splits, ids=ids, texts=texts), now=NOW)
    assert [w for w in report.warnings if w.kind != "known_clicks"] == []


def test_who_breaks_ties_by_a_hash_is_not_advised_to() -> None:
    next_ids = [Row(u, [u % 8], [u % 8 + 1, 9], [1, 0], time=DAY + u) for u in range(40)]
    data = evidence({"train": ROWS, "test": next_ids}, ids=IDS)
    assert "break ties in time by a hash" in warned(data)["order"]
    hashed = warned(replace(data, time_ties=TimeTies(400, 100)))["order"]
    assert "break ties" not in hashed
    assert "equal times are already ordered by a hash" in hashed
