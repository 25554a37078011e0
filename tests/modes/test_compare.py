"""Comparisons: what a row is measured against, its own data, the tables that come out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from legos.errors import ConfigError
from legos.modes.main import run
from legos.reports.rows import ResultRow, with_improvement
from legos.reports.significance import legend, significance, stars
from legos.reports.tables import twin_of
from tests.modes.tiny_config import NAML, POOLING, tiny_config
from tests.tiny import tiny_tables

TITLES = {"name": "titles", "fields": ["title@words"], "history_length": 4}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Tables, runs folder and summary of a comparison over two data sections."""
    tables = tiny_tables(tmp_path_factory.mktemp("tiny") / "tables")
    runs = tmp_path_factory.mktemp("runs")
    titles = {**TITLES, "folder": str(tables)}
    models = [
        NAML,
        {**POOLING, "name": "plain"},
        {**NAML, "name": "naml-titles", "data": titles},
        {**POOLING, "name": "plain-titles", "data": titles, "against": "plain"},
    ]
    config = tiny_config(
        tables,
        runs,
        mode="compare",
        compare={"models": models, "seeds": [1, 2]},
        baselines=["random"],
        train={"epochs": 2},
        evaluate={"metrics": ["GAUC", "LogLoss"]},
    )
    return tables, runs, run(config)


@pytest.mark.slow
def test_a_row_runs_on_its_own_data_as_if_started_by_itself(
    compared: tuple[Path, Path, dict[str, Any]],
) -> None:
    tables, runs, summary = compared
    folders = {label: [Path(path) for path in each] for label, each in summary["runs"].items()}
    assert [each[0].parent.parent.name for each in folders.values()] == [
        *("tiny", "tiny", "titles", "titles"),
    ]
    alone = run(
        tiny_config(
            tables,
            runs,
            model={**NAML, "name": "naml-titles"},
            data=TITLES,
            train={"epochs": 2, "seed": 2},
            evaluate={"metrics": ["GAUC", "LogLoss"]},
        )
    )
    assert alone["run"] == folders["naml-titles"][1].name
    config = json.loads((folders["naml-titles"][1] / "config.json").read_text())
    assert [field["column"] for field in config["data"]["fields"]] == ["title@words"]


@pytest.mark.slow
def test_a_model_that_a_later_row_lacks_is_told_before_the_first_row_runs(tmp_path: Path) -> None:
    tables = tiny_tables(tmp_path / "tables")
    missing = {"name": "language_model", "model": {"name": "gone", "path": str(tmp_path / "gone")}}
    config = tiny_config(
        tables,
        tmp_path / "runs",
        mode="compare",
        compare={"models": [NAML, {**POOLING, "name": "later", "item": missing}]},
        baselines=[],
    )
    with pytest.raises(ConfigError, match="gone"):
        run(config)
    assert not list((tmp_path / "runs").rglob("config.json"))


@pytest.mark.slow
def test_a_comparison_of_short_trainings_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = tiny_tables(tmp_path / "tables")
    config = tiny_config(
        tables,
        tmp_path / "runs",
        mode="compare",
        compare={"models": [NAML, {**POOLING, "name": "plain"}]},
        baselines=[],
        report=True,
        train={"epochs": 1, "epoch_batch": 1, "batch_size": 8},
    )
    run(config)
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: naml, plain: trained for 1 of the " in said
    assert "next: train longer; " in said
    (report,) = (tmp_path / "runs").glob("*/compare-*/report.html")
    assert "naml, plain: trained for 1 of the " in report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_improvement_is_of_means_over_seeds_against_the_row_that_is_named(
    compared: tuple[Path, Path, dict[str, Any]],
) -> None:
    summary = compared[2]
    rows = {row["name"]: row for row in summary["rows"]["test"]}
    assert {name: row["reference"] for name, row in rows.items()} == {
        "random": "",
        "naml": "",
        "plain": "naml",
        "naml-titles": "naml",
        "plain-titles": "plain",
    }

    def mean(label: str, metric: str) -> float:
        found = [json.loads((Path(p) / "results.json").read_text()) for p in summary["runs"][label]]
        return float(np.mean([each["splits"]["test"]["rows"]["all"][metric] for each in found]))

    for metric, sign in (("GAUC", 1), ("LogLoss", -1)):
        ours, base = mean("plain-titles", metric), mean("plain", metric)
        assert rows["plain-titles"]["relative"][metric] == pytest.approx(
            sign * 100 * (ours / base - 1)
        )
    assert set(rows["naml-titles"]["relative"]) == {"GAUC", "LogLoss"}
    tested = rows["plain-titles"]["p_values"]
    assert list(tested) == ["GAUC"]  # a metric over all rows has no groups to pair
    assert 0 < tested["GAUC"] <= 1
    assert not rows["naml"]["relative"]
    cold = next(r for r in summary["subsets"]["test"] if r["name"] == "cold users: plain-titles")
    assert cold["reference"] == "cold users: plain"
    assert set(cold["relative"]) == {"GAUC", "LogLoss"}


@pytest.mark.slow
def test_validation_stands_beside_test_and_the_best_row_is_judged(
    compared: tuple[Path, Path, dict[str, Any]],
) -> None:
    summary = compared[2]
    rows = {row["name"]: row for row in summary["rows"]["test"]}
    found = [json.loads((Path(p) / "results.json").read_text()) for p in summary["runs"]["naml"]]
    best = float(np.mean([each["training"]["best"] for each in found]))
    assert rows["naml"]["validation"] == pytest.approx({"GAUC": best})
    assert rows["random"]["validation"] == {}
    verdicts = summary["verdicts"]["test"]
    assert verdicts.keys() == {"naml", "plain", "naml-titles", "plain-titles"}
    assert summary["verdict"]["test"] in verdicts.values()
    differences = [each["difference"] for each in verdicts.values()]
    assert summary["verdict"]["test"]["difference"] == max(differences)
    assert rows["naml"]["lead"] == verdicts["naml"]["lead"] != ""
    (folder,) = (compared[1] / "tiny").glob("compare-*")
    text = (folder / "results.md").read_text()
    assert summary["verdict"]["test"]["sentence"] in text
    assert "valid GAUC" in text


@pytest.mark.slow
def test_the_tables_are_written_with_improvements(
    compared: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, runs, summary = compared
    (folder,) = (runs / "tiny").glob("compare-*")
    assert json.loads((folder / "results.json").read_text()) == summary
    text = (folder / "results.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith("### ")]
    assert [head.split(" · ")[3:] for head in heads] == [
        [],
        ["relative improvement over the reference, %"],
        ["by items and users"],
        ["by items and users", "relative improvement over the reference, %"],
    ]
    with (folder / "results.csv").open() as lines:
        found = {(line["method"], line["metric"]): line for line in csv.DictReader(lines)}
    rows = {row["name"]: row for row in summary["rows"]["test"]}
    line = found["plain-titles", "GAUC"]
    assert line["reference"] == "plain"
    assert float(line["relative"]) == rows["plain-titles"]["relative"]["GAUC"]
    assert found["cold users: plain", "GAUC"]["reference"] == "cold users: naml"


def test_stars_are_against_a_rows_own_reference_and_corrected_within_its_family() -> None:
    rng = np.random.default_rng(0)
    base, other, noise = rng.random((3, 40))
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    shift = noise + student.isf(0.03 / 2, df=39) / np.sqrt(40)  # paired with 0: p = .03
    values = {"base": base, "other": other, "first": base + shift}
    values |= {"second": other + shift, "third": other - shift}
    references = {"first": "base", "second": "other", "third": "other"}
    found = significance({name: {"GAUC": each} for name, each in values.items()}, references)
    assert found["first"]["GAUC"] == pytest.approx(0.03)
    marks = {name: {m: stars(p) for m, p in each.items()} for name, each in found.items()}
    assert marks == {
        "base": {},
        "other": {},
        "first": {"GAUC": "*"},  # alone with its reference; three in one family had p = .09
        "second": {"GAUC": ""},  # two of a family: p = .06
        "third": {"GAUC": ""},
    }


def test_the_legend_says_what_the_stars_of_a_table_are() -> None:
    rows = [
        ResultRow("popularity", {"GAUC": 0.5}),
        ResultRow("naml", {"GAUC": 0.6}, reference="popularity", marks={"GAUC": "**"}),
        ResultRow("nrms", {"GAUC": 0.5}, reference="popularity", marks={"GAUC": ""}, lead="+0.1*"),
    ]
    stars_of = (
        "* p < .05, ** p < .01, *** p < .001: paired t-test over groups against popularity, "
        "Holm-corrected over the rows"
    )
    lead = "vs baseline: paired t-test against the best baseline, * p < .05"
    assert legend(rows[:1]) == ""
    assert legend(rows[:2]) == stars_of
    assert legend(rows) == f"{stars_of}; {lead}"
    other = ResultRow("dire", {"GAUC": 0.7}, reference="nrms", marks={"GAUC": "*"})
    assert "against the reference of the row, Holm" in legend([*rows, other])


def test_a_split_with_the_same_metrics_is_a_twin_whatever_it_cost() -> None:
    first = {"a": [["", "GAUC", "test s"], ["naml", "0.6", "1.0"]]}
    slower = {"b": [["", "GAUC", "test s"], ["naml", "0.6", "7.0"]]}
    better = {"c": [["", "GAUC", "test s"], ["naml", "0.7", "1.0"]]}
    shown: dict[str, list[list[list[str]]]] = {}
    found = [twin_of(shown, *each) for each in (("x", first), ("y", slower), ("z", better))]
    assert found == ["", "x", ""]
    assert list(shown) == ["x", "z"]


def test_improvement_worked_by_hand() -> None:
    rows = [
        ResultRow("base", {"GAUC": 0.5, "LogLoss": 0.4, "MRR": 0.0, "novelty@10": 3.0}),
        ResultRow("new", {"GAUC": 0.55, "LogLoss": 0.3, "MRR": 0.1, "novelty@10": 4.0}),
    ]
    base, new = with_improvement(rows, {"new": "base"})
    assert base == rows[0]
    assert new.reference == "base"
    assert new.relative == pytest.approx({"GAUC": 10.0, "LogLoss": 25.0})
