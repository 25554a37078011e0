"""Rows of a comparison that are searched first, each by the same number of trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from legos.config.load import load_over, load_run_config
from legos.errors import ConfigError
from tests.modes.tiny_config import tiny_yamls

pytest.importorskip("optuna", reason="searching needs optuna (requirements-search.txt)")

EXP = """
name: field
mode: compare
compare:
  seeds: [1, 2]
  search: {trials: 3, random_trials: 2}
  models:
    - model: MODEL
      name: searched
      ranges:
        exp.train.lr: {low: 0.001, high: 0.1, log: true}
    - model: MODEL
      name: plain
    - model: rp3beta
      seeds: [1]
      ranges:
        model.method.alpha: {low: 0.1, high: 1.5}
train: {batch_size: 16, epochs: 3, lr: 0.01}
evaluate: {metrics: [GAUC, MRR]}
baselines: [random]
device: cpu
report: false
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and YAMLs of a small comparison."""
    folder = tmp_path_factory.mktemp("field")
    return tiny_yamls(folder, EXP.replace("MODEL", str(folder / "model.yaml")))


def words(world: Path, *more: str, exp: str = "exp") -> list[str]:
    return [f"--data={world}/data.yaml", f"--exp={world}/{exp}.yaml", *more]


def compared(world: Path, runs: Path, *more: str) -> dict[str, Any]:
    from legos.modes.main import run

    given = words(world, f"--exp.runs_folder={runs}", *more)
    return run(load_run_config(given), words=given)


@pytest.fixture(scope="module")
def summary(world: Path) -> dict[str, Any]:
    return compared(world, world / "runs")


@pytest.mark.slow
def test_each_row_with_ranges_is_searched_and_its_best_settings_are_compared(
    summary: dict[str, Any],
) -> None:
    searches = summary["searches"]
    assert searches.keys() == {"searched", "rp3beta"}
    for label, each in searches.items():
        trials = json.loads((Path(summary["runs"][label][0]) / "results.json").read_text())
        assert each["trials"] == 3
        assert trials["training"]["best"] == each["validation"]
    configs = [
        json.loads((Path(path) / "config.json").read_text()) for path in summary["runs"]["searched"]
    ]
    assert [each["exp"]["train"]["seed"] for each in configs] == [1, 2]
    chosen = searches["searched"]["values"]["exp.train.lr"]
    assert [each["exp"]["train"]["lr"] for each in configs] == [chosen, chosen]
    assert len(summary["runs"]["rp3beta"]) == 1


@pytest.mark.slow
def test_a_search_by_itself_finds_the_same(
    world: Path, summary: dict[str, Any], tmp_path: Path
) -> None:
    from legos.modes.main import run

    search = "name: s\nmode: search\nsearch:\n  trials: 3\n  random_trials: 2\n  ranges:\n"
    search += "    exp.train.lr: {low: 0.001, high: 0.1, log: true}\n"
    rest = EXP[EXP.index("train:") :]
    (tmp_path / "alone.yaml").write_text(search + rest)
    given = [f"--data={world}/data.yaml", f"--model={world}/model.yaml", "--exp.train.seed=1"]
    given += [f"--exp={tmp_path}/alone.yaml", f"--exp.runs_folder={tmp_path / 'runs'}"]
    alone = run(load_run_config(given), words=given)
    best = alone["trials"][0]
    assert best["values"] == summary["searches"]["searched"]["values"]
    assert best["validation"] == summary["searches"]["searched"]["validation"]


@pytest.mark.slow
def test_the_same_command_repeats_nothing(world: Path, summary: dict[str, Any]) -> None:
    runs = world / "runs"
    before = {path: path.read_bytes() for path in sorted(runs.rglob("metrics.jsonl"))}
    assert compared(world, runs) == summary
    assert {path: path.read_bytes() for path in sorted(runs.rglob("metrics.jsonl"))} == before


@pytest.mark.slow
def test_a_fitted_row_is_a_baseline_of_the_others(summary: dict[str, Any]) -> None:
    verdicts = summary["verdicts"]["test"]
    assert verdicts.keys() == {"searched", "plain"}
    rows = {row["name"]: row for row in summary["rows"]["test"]}
    best = max(rows["rp3beta"]["metrics"]["GAUC"], rows["random"]["metrics"]["GAUC"])
    for each in verdicts.values():
        assert each["baseline_value"] == pytest.approx(best)
    assert all(rows[name]["cpu_seconds"] > 0 for name in ("searched", "plain", "rp3beta"))


@pytest.mark.slow
def test_tables_and_figure_say_what_was_found(world: Path, summary: dict[str, Any]) -> None:
    (folder,) = (world / "runs" / "tiny").glob("compare-*")
    text = (folder / "results.md").read_text()
    lines = text[text.index("### settings found on the valid split") :].splitlines()
    assert lines[4].startswith("| searched | 3 | ")
    assert lines[5].startswith("| rp3beta | 3 | ")
    assert "alpha" in lines[5]
    figure = (folder / "costs-test.svg").read_text()
    assert all(name in figure for name in ("searched", "plain", "rp3beta", "CPU seconds"))
    assert (folder / "costs-test.png").stat().st_size > 5000


@pytest.mark.slow
def test_without_trials_rows_keep_their_settings(world: Path, tmp_path: Path) -> None:
    summary = compared(world, tmp_path / "runs", "--exp.compare.search.trials=0")
    assert summary["searches"] == {}
    rows = {row["name"]: row["metrics"] for row in summary["rows"]["test"]}
    assert rows["searched"] == rows["plain"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ("{model.user.dropot: {low: 0.0, high: 0.5}}", "unknown key"),
        ("{model.user: {choices: [pooling, gro]}}", "unknown user encoder 'gro'"),
        ("{exp.train.lr: {low: 0.5, high: 0.1}}", "low 0.5 is not below high 0.1"),
        ("{exp.runs_folder: {choices: [a, b]}}", "does not affect training"),
        ("{exp.train.metric: {choices: [GAUC, MRR]}}", "would not be comparable"),
        ("{exp.train.lr: 0.1}", "expected"),
    ],
)
def test_ranges_that_no_trial_could_take_are_refused_before_the_first(
    world: Path, tmp_path: Path, ranges: str, said: str
) -> None:
    text = (world / "exp.yaml").read_text()
    row = f"- model: naml\n      ranges: {ranges}\n    - model: rp3beta\n"
    (tmp_path / "bad.yaml").write_text(text.replace("- model: rp3beta\n", row))
    with pytest.raises(ConfigError, match=r"exp\.compare\.models\.2\.ranges") as refused:
        load_run_config([f"--data={world}/data.yaml", f"--exp={tmp_path}/bad.yaml"])
    assert said in str(refused.value)


def test_bricks_by_name_are_tried_with_their_shipped_settings(world: Path) -> None:
    row = load_run_config(words(world)).rows()[0]
    alone = ["--exp=tt", f"--data={world}/data.yaml", f"--model={world}/model.yaml"]
    shipped = load_run_config([*alone, "--user=hstu"]).model
    tried = load_over(row.runs[0], {"model.user": "hstu"}).model
    assert tried.model_dump(include={"user"}) == shipped.model_dump(include={"user"})


def test_a_seed_of_a_row_counts_once(world: Path) -> None:
    with pytest.raises(ConfigError, match="seed"):
        load_run_config(words(world, "--exp.compare.models.0.seeds=[1, 1]"))


def test_a_model_may_say_what_a_search_tries(world: Path) -> None:
    data = f"--data={world}/data.yaml"
    found = load_run_config([data, "--model=ease", "--exp=sequential", "--exp.mode=search"])
    assert found.exp.search is not None
    assert found.exp.search.ranges.keys() == {"model.method.l2", "model.method.neighbours"}
    given = "--exp.search.ranges={model.method.l2: {choices: [1.0, 2.0]}}"
    other = load_run_config([data, "--model=ease", "--exp=search", given])
    assert other.exp.search is not None
    assert other.exp.search.ranges.keys() == {"model.method.l2"}
    plain = load_run_config([data, f"--model={world}/model.yaml", "--exp=search"])
    assert plain.exp.search is not None
    assert "exp.train.lr" in plain.exp.search.ranges


def test_nothing_is_searched_unless_a_comparison_says_how_long(world: Path, tmp_path: Path) -> None:
    text = (world / "exp.yaml").read_text().replace("  search: {trials: 3, random_trials: 2}\n", "")
    (tmp_path / "plain.yaml").write_text(text)
    told: list[str] = []
    words = [f"--data={world}/data.yaml", f"--exp={tmp_path}/plain.yaml"]
    config = load_run_config(words, notice=told.append)
    assert config.exp.compare is not None
    assert config.exp.compare.search is None
    assert any("not searched: searched, rp3beta" in each for each in told)
    load_run_config([*words, "--exp.compare.search.trials=0"], notice=told.append)
    assert len([each for each in told if "not searched" in each]) == 1


def test_ranges_of_a_model_that_take_the_place_of_others_are_told(world: Path) -> None:
    told: list[str] = []
    words = [f"--data={world}/data.yaml", "--model=ease", "--exp=search"]
    load_run_config(words, notice=told.append)
    assert any("the ranges of the model, model.method.l2" in each for each in told)
    load_run_config([*words[:2], "--exp=sequential", "--exp.mode=search"], notice=told.append)
    assert len([each for each in told if "ranges of the model" in each]) == 1
