"""Tables that replace others name the runs that were trained on the old ones."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import legos.tables

_HAD = {"u": "abc", "v": "bcd", "w": "acd"}
ITEMS = pd.DataFrame({"item_id": list("abcd"), "title": ["red lamp", "kettle", "pan", "chair"]})
OLD = pd.DataFrame(
    [(user, item, time) for user, items in _HAD.items() for time, item in enumerate(items)],
    columns=["user_id", "item_id", "time"],
)
NEW = pd.concat([OLD, pd.DataFrame({"user_id": ["x"], "item_id": ["a"], "time": [9]})])


def write_run(runs: Path, name: str, tables: Path, fingerprint: str) -> Path:
    """What a run folder says of its tables."""
    folder = runs / "shop" / "naml" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"data": {"folder": str(tables)}}))
    (folder / "results.json").write_text(json.dumps({"fingerprint": fingerprint}))
    return folder


@pytest.mark.slow
def test_replaced_tables_name_the_runs_that_were_trained_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEGOS_HOME", str(tmp_path))
    tables = Path("data/shop")
    legos.tables.build(ITEMS, OLD, split="none", output=tables)
    fingerprint = json.loads((tables / "manifest.json").read_text())["fingerprint"]
    own = write_run(Path("runs"), "aaa", tables, fingerprint)
    write_run(Path("runs"), "bbb", tables, "of tables before those")
    write_run(Path("runs"), "ccc", Path("data/other"), fingerprint)
    capsys.readouterr()
    legos.tables.build(ITEMS, OLD, split="none", output=tables, force=True)
    assert "trained on" not in capsys.readouterr().out  # the same tables once more
    legos.tables.build(ITEMS, NEW, split="none", output=tables, force=True)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "note: 1 run was trained on the tables that were just replaced and cannot be used any "
        f"more: {own}. Train again on the new tables."
    ) in said
    assert "--output data/shop-2 --name shop" in said
