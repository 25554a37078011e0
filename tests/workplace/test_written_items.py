"""Runs with items that a model wrote: in histories, for their users alone, measured apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from legos.config.refusals import check_tables
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.modes.main import run
from process.genre.synthetic_items import add_synthetic_items
from tests.modes.tiny_config import tiny_config
from tests.process.genre.test_store import answer
from tests.tiny import CATEGORIES, tiny_tables


@pytest.mark.slow
def test_written_items_change_their_users_and_nobody_else(tmp_path: Path) -> None:
    plain, source = tiny_tables(tmp_path / "plain"), tmp_path / "store.jsonl"
    source.write_text("{}\n")
    users = [f"U{n}" for n in range(0, 40, 3)]
    written = {
        f"{user}#1": answer(f"{user}#1", answer={"title": f"{CATEGORIES[n % 4]}1"})
        for n, user in enumerate(users)
    }
    add_synthetic_items(plain, written, tmp_path / "cg", sources=[source], column="written")
    evaluate = {"evaluate": {"user_columns": ["written"]}, "train": {"epochs": 1}}
    with_items = {"generated_items": {"column": "written"}}
    before, off, on = (
        run(tiny_config(folder, tmp_path / "runs", data=data, **settings))
        for folder, data, settings in (
            (plain, {}, {"train": {"epochs": 1}}),
            (tmp_path / "cg", {}, evaluate),
            (tmp_path / "cg", with_items, evaluate),
        )
    )
    metrics = [found["splits"]["test"]["rows"]["all"] for found in (before, off, on)]
    assert metrics[0] == metrics[1]  # what is not used changes nothing
    assert metrics[0]["GAUC"] != metrics[2]["GAUC"]
    rows = Tables.load(plain).scalar("test", "user_id").tolist()
    counts = on["splits"]["test"]["counts"]
    assert counts["users with written"]["groups"] == sum(row % 3 == 0 for row in rows)


def test_columns_that_users_do_not_have_are_refused_first(tmp_path: Path) -> None:
    folder = tiny_tables(tmp_path / "plain")
    config = tiny_config(
        folder,
        tmp_path,
        data={"generated_items": {"column": "written"}},
        evaluate={"user_columns": ["title@words"]},
    )
    with pytest.raises(ConfigError) as caught:
        check_tables(config, Tables.load(folder).manifest)
    assert "data.generated_items.column: users have no column 'written' of generated items" in str(
        caught.value
    )
    assert "exp.evaluate.user_columns.0: users have no column" in str(caught.value)
