"""The invented newsroom: the same bytes every time, MIND's own oddities, a taste worth learning."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from legos.errors import DataError
from process.mind import read_mind
from process.raw import RawData
from process.synthetic.__main__ import build_parser
from process.synthetic.impressions import simulate_day
from process.synthetic.newsroom import Reachable, write_newsroom
from process.synthetic.reachable import auc, auc_by_impression
from process.synthetic.stories import SUBCATEGORIES, write_stories
from process.synthetic.topics import ANGLES, CATEGORIES
from process.synthetic.world import NewsroomConfig, make_world

SMALL = NewsroomConfig(users=300, news=600)
TIME = re.compile(r"\d{1,2}/\d{1,2}/2019 \d{1,2}:\d\d:\d\d [AP]M")


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newsroom") / "raw"
    write_newsroom(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def raw(newsroom: Path) -> RawData:
    return read_mind(newsroom / "train", newsroom / "dev", name="newsroom")


def lines(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_writes_the_same_bytes(newsroom: Path, tmp_path: Path) -> None:
    write_newsroom(SMALL, tmp_path / "again")
    assert digest(tmp_path / "again") == digest(newsroom)
    assert sorted(digest(newsroom)) == [
        f"{part}/{name}"
        for part in ("dev", "train")
        for name in ("behaviors.tsv", "click_probability.tsv", "news.tsv")
    ]


def test_another_seed_writes_other_bytes_in_every_file(newsroom: Path, tmp_path: Path) -> None:
    write_newsroom(replace(SMALL, seed=2), tmp_path / "other")
    ours, theirs = digest(newsroom), digest(tmp_path / "other")
    assert all(ours[name] != theirs[name] for name in ours)


def test_the_layout_is_mind_s_to_the_column(newsroom: Path) -> None:
    for part in ("train", "dev"):
        news, behaviors = (lines(newsroom / part / f"{x}.tsv") for x in ("news", "behaviors"))
        assert {len(row) for row in news} == {8}
        assert {len(row) for row in behaviors} == {5}
        assert all(TIME.fullmatch(row[2]) for row in behaviors)
        assert all(re.fullmatch(r"N\d+-[01]( N\d+-[01])*", row[4]) for row in behaviors)
        for row in news:
            for entity in json.loads(row[6]) + json.loads(row[7]):
                (offset,), (surface,) = entity["OccurrenceOffsets"], entity["SurfaceForms"]
                assert any(text[offset:].startswith(surface) for text in row[3:5])


def test_the_oddities_of_real_news_are_there(newsroom: Path) -> None:
    news, behaviors = (lines(newsroom / "train" / f"{x}.tsv") for x in ("news", "behaviors"))
    assert any(row[4] == "" for row in news), "empty abstracts"
    assert any(row[3].startswith('"') for row in news), "titles that begin with a quote"
    assert any(row[3].count('"') % 2 for row in news), "titles with an unbalanced quote"
    assert any(row[6] != "[]" for row in news), "entities"
    assert any(row[3] == "" for row in behaviors), "empty histories"
    histories = [row[3].split() for row in behaviors]
    assert any(len(set(items)) < len(items) for items in histories), "duplicate history items"


def test_the_mind_reader_takes_it_without_loss(newsroom: Path, raw: RawData) -> None:
    raw.check()
    assert list(raw.splits) == ["train", "valid", "test"]
    counts = [len(lines(newsroom / part / "behaviors.tsv")) for part in ("train", "dev")]
    assert len(raw.splits["train"]) + len(raw.splits["valid"]) == counts[0]
    assert len(raw.splits["test"]) == counts[1]
    assert "history items absent from news.tsv (left out)" not in raw.oddities


def test_every_impression_has_a_click_and_distinct_candidates(raw: RawData) -> None:
    low, high = SMALL.candidates
    for rows in raw.splits.values():
        assert np.add.reduceat(rows.labels, rows.candidate_offsets[:-1]).min() >= 1
        assert low <= rows.candidate_counts.min() <= rows.candidate_counts.max() <= high
        for start, stop in zip(
            rows.candidate_offsets[:-1], rows.candidate_offsets[1:], strict=True
        ):
            shown = rows.candidate_values[start:stop]
            assert len(np.unique(shown)) == len(shown)


def test_a_tenth_of_dev_candidates_is_cold_with_and_without_the_validation_day(
    raw: RawData,
) -> None:
    train, valid, test = raw.splits.values()
    for known in ([train], [train, valid]):
        seen = np.concatenate(
            [x for rows in known for x in (rows.candidate_values, rows.history_values)]
        )
        assert 1 - np.isin(test.candidate_values, seen).mean() == pytest.approx(0.1, abs=1e-3)


def test_a_history_is_what_the_user_clicked_before(raw: RawData) -> None:
    """The history at an impression ends with the clicks since the user's impression before it."""
    checked = 0
    rows = raw.splits["train"]
    order = np.lexsort((rows.time, rows.user))
    for before, after in pairwise(order):
        if rows.user[before] != rows.user[after] or rows.time[before] == rows.time[after]:
            continue
        clicked = rows.candidate_values[
            rows.candidate_offsets[before] : rows.candidate_offsets[before + 1]
        ]
        clicked = clicked[
            rows.labels[rows.candidate_offsets[before] : rows.candidate_offsets[before + 1]] == 1
        ]
        old = rows.history_values[rows.history_offsets[before] : rows.history_offsets[before + 1]]
        new = rows.history_values[rows.history_offsets[after] : rows.history_offsets[after + 1]]
        assert new.tolist() == [*old, *clicked]
        checked += 1
    assert checked > 500


def test_the_saved_probability_is_the_frequency_of_clicks() -> None:
    """Given a click in the impression: in every tenth of the candidates, within 4 sigma."""
    config = NewsroomConfig(users=20_000, news=2000)
    generator = np.random.default_rng(5)
    day = simulate_day(make_world(config, generator), 3, generator)
    order = np.argsort(day.probability)
    for part in np.array_split(order, 10):
        expected, found = day.probability[part], day.clicked[part]
        sigma = np.sqrt((expected * (1 - expected)).sum())
        assert abs(found.sum() - expected.sum()) < 4 * sigma


def test_the_probability_file_follows_the_candidates(raw: RawData) -> None:
    for rows in raw.splits.values():
        assert rows.oracle is not None
        assert rows.oracle.min() > 0
        assert rows.oracle.max() <= 1
        assert rows.oracle[rows.labels == 1].mean() > 2 * rows.oracle[rows.labels == 0].mean()


def test_the_printed_figures_belong_to_the_written_files(newsroom: Path, tmp_path: Path) -> None:
    *_, best = write_newsroom(SMALL, tmp_path / "raw")
    behaviors = lines(newsroom / "dev" / "behaviors.tsv")
    labels = np.array([x.endswith("-1") for row in behaviors for x in row[4].split(" ")])
    scores = np.array(
        [
            float(x)
            for row in lines(newsroom / "dev" / "click_probability.tsv")
            for x in row[1].split()
        ]
    )
    rows = np.repeat(np.arange(len(behaviors)), [len(row[4].split(" ")) for row in behaviors])
    assert auc(scores, labels) == pytest.approx(best.auc, abs=1e-4)
    assert auc_by_impression(scores, labels, rows) == pytest.approx(
        best.auc_by_impression, abs=1e-4
    )


@pytest.mark.slow
def test_taste_is_worth_much_more_than_popularity_and_noise_bounds_both(tmp_path: Path) -> None:
    popularity, taste, best = write_newsroom(NewsroomConfig(), tmp_path / "raw")
    assert [type(row) for row in (popularity, taste, best)] == [Reachable] * 3
    assert 0.53 < popularity.auc < 0.62
    assert 0.77 < taste.auc < best.auc
    assert 0.82 < best.auc < 0.88


def test_more_noise_leaves_less_to_reach(tmp_path: Path) -> None:
    quiet = write_newsroom(replace(SMALL, noise=0.0), tmp_path / "quiet")
    loud = write_newsroom(replace(SMALL, noise=0.8), tmp_path / "loud")
    assert quiet[-1].auc > loud[-1].auc + 0.05


@pytest.mark.slow
def test_a_story_tells_its_topic_and_angle() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    """A bag of words names nearly all subcategories and angles of unseen stories."""
    generator = np.random.default_rng(0)
    topic = np.arange(2880) % len(SUBCATEGORIES)
    angle = generator.integers(0, len(ANGLES), len(topic))
    stories = write_stories(generator, topic, angle)
    words = CountVectorizer(binary=True).fit_transform([f"{x.title} {x.abstract}" for x in stories])
    half = len(stories) // 2
    for truth in (topic, angle):
        model = LogisticRegression(C=10).fit(words[:half], truth[:half])
        assert model.score(words[half:], truth[half:]) > 0.95


def test_the_vocabulary_is_complete() -> None:
    assert len(CATEGORIES) == 18
    assert len(SUBCATEGORIES) == 72
    assert len({subcategory for _, subcategory in SUBCATEGORIES}) == 72
    for category in CATEGORIES.values():
        assert len(category.words.split()) >= 7
        assert all(len(words.split()) >= 6 for words in category.subcategories.values())


def test_auc_by_hand_and_with_ties() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.1])
    labels = np.array([True, True, False, False])
    assert auc(scores, labels) == pytest.approx((2 + 1.5) / 4)
    rows = np.array([0, 1, 0, 1])
    assert auc_by_impression(scores, labels, rows) == pytest.approx(1.0)
    one_class = np.array([7, 7, 7])
    assert auc_by_impression(
        np.append(scores, [1, 2, 3]), np.append(labels, [True] * 3), np.append(rows, one_class)
    ) == pytest.approx(1.0)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="something else than a newsroom"):
        write_newsroom(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"news": 100}, "--news 100"),
        ({"users": 3}, "--users"),
        ({"noise": 1.5}, "--noise"),
        ({"cold_share": 0.9}, "--cold"),
    ],
)
def test_impossible_sizes_are_refused(
    tmp_path: Path, change: dict[str, int | float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_newsroom(replace(SMALL, **change), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_the_help_teaches() -> None:
    text = build_parser().format_help()
    assert "example:" in text
    assert "click_probability.tsv" in text
    assert "--seed" in text
