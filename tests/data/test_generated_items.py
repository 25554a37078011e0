"""Items that a model wrote: in histories where a data YAML says so, never offered to anybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.config.data_schema import GeneratedItemsConfig
from legos.data.batch import TrainingRows
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged, join_rows
from legos.data.sampling import NegativeSampler, Strategy
from legos.data.tables import Tables
from legos.errors import DataError
from process.genre.synthetic_items import add_synthetic_items
from tests.bricks import lists, ragged
from tests.process.genre.test_store import answer
from tests.tiny import tiny_tables

USERS = ("U0", "U3", "U5")  # U0 has read nothing


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Tiny tables without and with two items of three users each."""
    folder = tmp_path_factory.mktemp("generated")
    plain, source = tiny_tables(folder / "plain"), folder / "store.jsonl"
    source.write_text("{}\n")
    written = {
        f"{user}#{n}": answer(f"{user}#{n}", answer={"title": "sports1 music2"})
        for user in USERS
        for n in (1, 2)
    }
    add_synthetic_items(plain, written, folder / "cg", sources=[source], column="written")
    return plain, folder / "cg"


rows_of = st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6)


@given(rows_of, st.randoms())
def test_rows_are_joined_one_by_one(rows: list[list[int]], random: object) -> None:
    others = [list(reversed(row)) * 2 for row in rows]
    joined = join_rows([ragged(rows), ragged(others)])
    assert lists(joined) == [row + other for row, other in zip(rows, others, strict=True)]


def test_histories_hold_them_where_asked(folders: tuple[Path, Path]) -> None:
    plain, tables = Tables.load(folders[0]), Tables.load(folders[1])
    owners = plain.scalar("histories", "user_id").tolist()
    users = plain.vocabulary("user_id")
    ids = tables.vocabulary("item_id")
    for length in (3, 50):
        before = Interactions.from_tables(plain, "train", history_length=50)
        for position in ("end", "start"):
            choice = GeneratedItemsConfig(column="written", position=position)
            data = Interactions.from_tables(
                tables, "train", history_length=length, generated=choice
            )
            assert data.history_clicks.tolist() == before.histories.lengths.tolist()
            for state, read in enumerate(lists(before.histories)):
                name = users[owners[state]]
                own = [f"GENRE:written:{name}#{n}" for n in (1, 2) if name in USERS]
                added = [ids.index(item) for item in own]
                whole = read + added if position == "end" else added + read
                assert lists(data.histories)[state] == whole[-length:]
        untouched = Interactions.from_tables(tables, "train", history_length=50)
        assert lists(untouched.histories) == lists(before.histories)


@pytest.mark.parametrize("strategy", ["impression", "user", "uniform", "popularity"])
def test_they_are_never_negatives_and_change_no_draw(
    folders: tuple[Path, Path], strategy: Strategy
) -> None:
    drawn = []
    for folder in folders:
        tables = Tables.load(folder)
        data = Interactions.from_tables(tables, "train", history_length=9)
        sampler = NegativeSampler(
            data, num_items=tables.num_items, offered=tables.offered, strategy=strategy,
            count=30, seed=1,
        )  # fmt: skip
        rows = TrainingRows(data, sampler)
        drawn.append(sampler.draw(rows.impressions, torch.arange(len(rows)), pass_number=0))
    for was, became in zip(*drawn, strict=True):
        assert torch.equal(was, became)
    tables = Tables.load(folders[1])
    unguarded = NegativeSampler(
        data, num_items=tables.num_items, strategy="uniform", count=30, seed=1
    )
    items, _ = unguarded.draw(rows.impressions, torch.arange(len(rows)), pass_number=0)
    assert not bool(tables.offered[items].all())  # so the guard is what keeps them out


def test_a_synthetic_candidate_and_an_unknown_column_are_refused(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables.load(folders[1])
    with pytest.raises(DataError, match="no column 'writen'; did you mean 'written'"):
        Interactions.from_tables(
            tables, "train", history_length=9, generated=GeneratedItemsConfig(column="writen")
        )
    found = Tables.lists

    def offering(self: Tables, table: str, column: str) -> Ragged:
        rows = found(self, table, column)
        if column != "candidates":
            return rows
        values = rows.values.clone()
        values[4] = np.flatnonzero(~self.offered.numpy())[0]
        return Ragged(values, rows.offsets)

    monkeypatch.setattr(Tables, "lists", offering)
    with pytest.raises(DataError, match="train: a generated item is a candidate"):
        Interactions.from_tables(tables, "train", history_length=9)
