"""The invented payment app: the same bytes every time, chances by hand, features that tell."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.recsysllm.settings import TaskSettings
from legos.systems.recsysllm.world import TaskFamilies
from process.payments.__main__ import build_parser, main
from process.payments.raw_files import GROUPS, Reachable, write_payments
from process.payments.titles import KINDS, TOPICS, titles_of
from process.payments.world import Entities, PaymentsConfig, _chances, _place

SMALL = PaymentsConfig(users=150, cold=40, items=216)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Reachable]]:
    folder = tmp_path_factory.mktemp("payments") / "raw"
    return folder, write_payments(SMALL, folder)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def digest(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def test_the_same_options_write_the_same_bytes(
    app: tuple[Path, list[Reachable]], tmp_path: Path
) -> None:
    assert write_payments(SMALL, tmp_path / "again") == app[1]
    assert digest(tmp_path / "again") == digest(app[0])
    write_payments(replace(SMALL, seed=2), tmp_path / "again")
    assert digest(tmp_path / "again").keys() == digest(app[0]).keys()
    assert not set(digest(tmp_path / "again").values()) & set(digest(app[0]).values())


def test_cold_users_are_others_over_the_same_entities(app: tuple[Path, list[Reachable]]) -> None:
    users, items = {}, {}
    for group in GROUPS:
        events = lines(app[0] / group / "reviews.jsonl")
        items[group] = (app[0] / group / "items.jsonl").read_text()
        titles = [line["title"] for line in lines(app[0] / group / "items.jsonl")]
        assert len(titles) == len(set(titles)) == SMALL.items
        by_user: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            by_user.setdefault(event["user_id"], []).append(event)
        users[group] = {line["user_id"] for line in lines(app[0] / group / "profiles.jsonl")}
        assert by_user.keys() == users[group]
        for own in by_user.values():
            assert len({event["item_id"] for event in own}) == len(own)  # no entity twice
            assert [event["timestamp"] for event in own] == sorted(e["timestamp"] for e in own)
            assert len(own) >= 5 if group == "known" else 3 <= len(own) <= 5
    assert items["known"] == items["cold"]
    assert not users["known"] & users["cold"]


def test_chances_by_hand() -> None:
    """Two topics; a search, its visit, and a bill of the other topic."""
    entities = Entities(["a", "b", "c"], np.array([0, 0, 1]), np.array([0, 1, 2]), np.ones(3))
    fresh = np.array([[0.2, 0.2, 0.4]])
    config = replace(SMALL, items=3, follow=0.6, noise=0.3)
    begins = _chances(config, entities, fresh, None)
    assert begins == pytest.approx(np.array([[0.275, 0.275, 0.45]]))  # .7 of .25 .25 .5, and .1
    after_search = _chances(config, entities, fresh, np.array([0]))
    # a visit follows with .6; the rest is as at the beginning
    assert after_search == pytest.approx(np.array([[0.17, 0.59, 0.24]]))
    after_bill = _chances(config, entities, fresh, np.array([2]))
    assert after_bill == pytest.approx(begins)
    assert _place(np.array([[0.5, 0.1, 0.7, 0.5], [1.0, 0.0, 0.0, 0.0]])).tolist() == [1.5, 0.0]


def test_features_tell_more_than_popularity_and_all_of_the_truth_most() -> None:
    found: dict[tuple[str, str], float] = {}
    for seed in range(3):
        config = replace(SMALL, seed=seed, users=400, cold=200)
        for row in write_only(config):
            key = row.users, row.knowledge
            found[key] = found.get(key, 0.0) + row.rates[10] / 3
    for group in GROUPS:
        rates = [found[group, name] for name in (
            "popularity", "features and popularity", "everything")]  # fmt: skip
        assert rates[0] + 0.05 < rates[1] < rates[2] - 0.05


def write_only(config: PaymentsConfig) -> list[Reachable]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return write_payments(config, Path(folder) / "raw")


def test_titles_are_all_different_and_enough_for_a_large_app() -> None:
    every = [title for topic in TOPICS for kind in KINDS for title in titles_of(topic, kind)]
    assert len(set(every)) == len(every)
    assert min(len(titles_of(topic, kind)) for topic in TOPICS for kind in KINDS) == 56


def test_tables_have_features_that_prompts_tell(tmp_path: Path) -> None:
    words = ["--raw", str(tmp_path / "raw"), "--output", str(tmp_path / "app"), "--no-unitok"]
    words += ["--users", "200", "--cold", "150", "--items", "216", "--tokenizer", "words=words"]
    main(build_parser().parse_args(words))
    titles = []
    for name in ("app", "app-cold"):
        tables = Tables.load(tmp_path / name)
        assert tables.num_items == 216
        assert "test_99" in tables.splits
        families = TaskFamilies.from_tables(tables, TaskSettings(), seed=0)
        titles.append(sorted(families.catalogue.items))
        task = families.users["direct"]
        (one,) = task.evaluate(families.sequences.users[:1] * 0, "direct-1", "test")
        text = "".join(unit.surface for unit in one.prompt)
        assert text.startswith("user_0 has the occupation ")
        for part in (", the city ", ", the level ", ", the age ", " has the category "):
            assert part in text
        assert not families.about_reviews  # nobody rates or writes
    assert titles[0] == titles[1]


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    for wrong, told in (
        ({"items": 50}, "--items 50: expected 200 to 2,016"),
        ({"cold": 0}, "expected at least 1 of both"),
        ({"events": 2.0}, "--events 2: expected 5 or more"),
    ):
        with pytest.raises(DataError, match=told):
            write_payments(replace(SMALL, **wrong), tmp_path / "raw")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="holds something else"):
        write_payments(SMALL, tmp_path / "raw")
    assert (tmp_path / "raw" / "mine.txt").exists()
