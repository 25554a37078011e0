"""Real lines of MIND, where they are at hand (``LEGOS_SHARED`` or ``../shared``)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from legos.data.tables import Tables
from legos.errors import DataError
from process.mind import read_mind
from process.raw import TokenizerSpec
from process.tables import write_tables

SHARED = Path(os.environ.get("LEGOS_SHARED", Path(__file__).parents[3] / "shared"))
SAMPLE = SHARED / "data" / "mind-sample"


@pytest.fixture
def sample() -> Path:
    if not (SAMPLE / "behaviors.tsv").is_file():
        pytest.skip(f"no real MIND lines: {SAMPLE} is not there (set LEGOS_SHARED)")
    return SAMPLE


def test_the_sample_needs_unknown_candidates_to_be_dropped(sample: Path) -> None:
    with pytest.raises(DataError, match=r"behaviors.tsv:1: candidate 'N43266' is not in news.tsv"):
        read_mind(sample)


def test_the_sample_becomes_tables_that_agree_with_its_lines(sample: Path, tmp_path: Path) -> None:
    raw = read_mind(sample, name="sample", unknown_candidates="drop")
    write_tables(raw, tmp_path / "tables", [TokenizerSpec("words", "words")])
    tables = Tables.load(tmp_path / "tables")
    lines = (sample / "news.tsv").read_text(encoding="utf-8").splitlines()
    assert tables.num_items == 2000
    titles = {line.split("\t")[0]: line.split("\t")[3] for line in lines}
    stored_titles = zip(tables.vocabulary("item_id"), tables.texts("title"), strict=True)
    assert dict(stored_titles) == titles
    known = set(tables.vocabulary("item_id"))
    shown = [
        token
        for line in (sample / "behaviors.tsv").read_text(encoding="utf-8").splitlines()
        for token in line.split("\t")[4].split()
    ]
    lost = sum(token[:-2] not in known for token in shown)
    assert raw.oddities["candidates absent from news.tsv (dropped)"] == lost
    stored = [tables.lists(split, "labels").values for split in tables.splits]
    assert sum(len(labels) for labels in stored) == len(shown) - lost
    clicks = sum(token.endswith("-1") and token[:-2] in known for token in shown)
    assert sum(int(labels.sum()) for labels in stored) == clicks
