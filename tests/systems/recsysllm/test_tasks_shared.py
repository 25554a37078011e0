"""The families on real reviews, where they are at hand (``LEGOS_SHARED`` or ``../shared``)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from legos.data.tables import Tables
from legos.metrics.generation import rating_errors, text_metrics
from legos.systems.recsysllm.baselines import Ratings, frequent_phrases, mean_ratings
from legos.systems.recsysllm.settings import TaskSettings
from legos.systems.recsysllm.tasks.review_tasks import random_split
from legos.systems.recsysllm.world import TaskFamilies
from process.amazon.assemble import Options, read_prepared
from process.interactions.filters import Filters
from process.interactions.impressions import Negatives
from process.raw import TokenizerSpec
from process.tables import write_tables
from tests.systems.recsysllm.reviews import held_out_pairs, items_of
from tests.systems.recsysllm.small import SHARED


def folder_of(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no prepared {name}: {SHARED / name} is not there (set LEGOS_SHARED)")
    return SHARED / name


@pytest.fixture(scope="module")
def giftcards(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    options = Options(filters=Filters(), negatives=Negatives(4, (20,), 0))
    raw = read_prepared(folder_of("amazon-giftcards"), name="giftcards", options=options)
    folder = tmp_path_factory.mktemp("giftcards")
    write_tables(raw, folder / "tables", [TokenizerSpec("words", "words")], unitok=False)
    return Tables.load(folder / "tables")


def test_p5_split_of_beauty_has_the_published_sizes() -> None:
    lines = (folder_of("amazon-beauty") / "sequences.tsv").read_text().splitlines()
    pairs = [
        (user, int(item)) for user, line in enumerate(lines) for item in line.split("\t")[1].split()
    ]
    users, items = torch.tensor(pairs).unbind(1)
    splits = random_split(users, items, seed=0)
    assert torch.bincount(splits).tolist() == [158_802, 19_850, 19_850]  # P5: 19,850 for test
    train = splits == 0
    assert users[train].unique().numel() == 22_363
    assert items[train].unique().numel() == 12_101


def test_every_family_has_examples_and_baselines_can_be_measured(giftcards: Tables) -> None:
    made = TaskFamilies.from_tables(giftcards, TaskSettings(num_negatives=9), seed=0)
    rows = made.reviews
    assert rows is not None
    assert len(rows) == 2965
    held_out = held_out_pairs(made.sequences)
    mixture = made.mixture()
    assert mixture.names == ["rating", "explanation", "review", "sequential", "direct"]
    for one in mixture.batch(torch.arange(2000), epoch=0):
        wrong = set(one.candidates) - {one.item}  # held-out items are negatives, too
        if one.reference == "no":
            wrong.add(one.item)
        named = {one.user * giftcards.num_items + item for item in items_of(one) - wrong}
        assert not named & held_out
    train, test = rows.of("train"), rows.of("test")
    guesses = mean_ratings(
        Ratings.of(rows, "train"), (rows.users[test], rows.items[test]),
        num_users=giftcards.num_users, num_items=giftcards.num_items, shrink=5.0,
    )  # fmt: skip
    found = rating_errors(
        [f"{guess:.2f}" for guess in guesses.tolist()],
        rows.ratings[test].tolist(),
        fallback=rows.train_mean(),
    )
    assert found.parse_rate == 1
    assert 0 < found.mae <= found.rmse < 1.5
    headlines = [rows.headlines[row] for row in train.tolist()]
    phrases = frequent_phrases(rows.items[train], headlines, torch.tensor([-1] * len(test)))
    wanted = [rows.headlines[row] for row in test.tolist()]
    row = text_metrics(phrases, wanted)
    assert set(phrases) == {"Five Stars"}
    assert 0 < row["ROUGE-1"] < 100
