"""A baseline as a model under two processes: one fits, both measure, as one does alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_tables
from tests.training.finished import assert_same, finished
from tests.training.two_processes import in_two_processes

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


@pytest.mark.parametrize("ranking", ["shown", "all"])
@pytest.mark.parametrize("method", ["ease", "ials"])
def test_two_processes_end_as_one(tmp_path: Path, method: str, ranking: str) -> None:
    import worker

    tables = tiny_tables(tmp_path / "tables")
    (tmp_path / "data.yaml").write_text(
        f"{{name: tiny, folder: {tables}, fields: [category], history_length: 6}}"
    )
    words = ["--data", str(tmp_path / "data.yaml"), "--model", method, "--exp", "tt"]
    words += ["--exp.evaluate.ranking", ranking, "--exp.evaluate.metrics", "[GAUC, MRR]"]
    words += ["--exp.baselines", "[]", "--exp.report", "false", "--exp.device", "cpu"]
    assert worker.main([*words, "--exp.runs_folder", str(tmp_path / "one")]) == 0
    in_two_processes(["worker.py", *words, "--exp.runs_folder", str(tmp_path / "two")])
    one, two = finished(tmp_path / "one"), finished(tmp_path / "two")
    for found in (one, two):
        found["results.json"].pop("processes")
    assert json.dumps(one["results.json"]["splits"]) == json.dumps(two["results.json"]["splits"])
    assert_same(two, one)
