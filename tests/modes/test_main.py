"""Whole runs: what they write, what a second call does, comparison, new impressions."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.data.interactions import Interactions
from legos.data.tables import Tables
from legos.errors import CheckpointError, DataError, LegosError
from legos.modes.main import run
from tests.modes.tiny_config import NAML, POOLING, tiny_config
from tests.tiny import tiny_tables
from tests.training.two_processes import in_two_processes


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("tiny") / "tables")


@pytest.fixture(scope="module")
def trained(
    tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, dict[str, Any]]:
    """Runs folder, run folder and results of one finished run."""
    runs = tmp_path_factory.mktemp("runs")
    baselines = ["random", "popularity", "item_knn", "oracle"]
    results = run(tiny_config(tables, runs, baselines=baselines, report=True))
    return runs, runs / "tiny" / "naml" / results["run"], results


def unmeasured(trained: tuple[Path, Path, dict[str, Any]], folder: Path) -> Path:
    """A copy of the run, of which no test split has been measured."""
    shutil.copytree(trained[1], folder)
    (folder / "log.txt").unlink()
    results = {**trained[2], "splits": {}, "measurements": {}}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.mark.slow
def test_a_report_that_a_kill_prevented_is_written_by_the_same_command(
    trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path, tables: Path
) -> None:
    runs = shutil.copytree(trained[0], tmp_path / "runs")
    report = runs / trained[1].relative_to(trained[0]) / "report.html"
    report.unlink()
    baselines = ["random", "popularity", "item_knn", "oracle"]
    results = run(tiny_config(tables, runs, baselines=baselines, report=True))
    assert results == trained[2]
    assert report.is_file()


@pytest.mark.slow
def test_a_model_learns_the_planted_taste(trained: tuple[Path, Path, dict[str, Any]]) -> None:
    results = trained[2]
    model = results["splits"]["test"]["rows"]["all"]["GAUC"]
    assert model > 0.75
    assert model > results["baselines"]["test"]["popularity"]["rows"]["all"]["GAUC"] + 0.1


def test_a_run_folder_is_complete(trained: tuple[Path, Path, dict[str, Any]]) -> None:
    folder = trained[1]
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints", "config.json", "diagnostics", "events", "lock", "log.txt", "metrics.jsonl",
        "recommendations.json", "report.html", "results.json", "versions.json",
    }  # fmt: skip
    assert json.loads((folder / "results.json").read_text()) == trained[2]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best", "last"}
    assert not list(folder.rglob(".*"))


def test_cold_and_warm_stand_in_rows_of_their_own(
    trained: tuple[Path, Path, dict[str, Any]],
) -> None:
    found = trained[2]["splits"]["test"]
    assert list(found["rows"]) == [
        *("all", "cold items", "warm items"),
        *("cold users", "active users", "unseen users", "seen users"),
    ]
    counts = {name: counted["groups"] for name, counted in found["counts"].items()}
    assert counts["cold users"] + counts["active users"] == counts["all"]
    assert counts["unseen users"] + counts["seen users"] == counts["all"]
    assert {"novelty@10", "coverage@10", "diversity@10"} <= set(found["rows"]["all"])


def test_baselines_stand_beside_the_model_but_for_those_the_data_lack(
    trained: tuple[Path, Path, dict[str, Any]],
) -> None:
    assert list(trained[2]["baselines"]["test"]) == ["random", "popularity", "item_knn"]
    assert (
        "no row best reachable, which these data cannot have"
        in (trained[1] / "log.txt").read_text()
    )


def test_diagnostics_keep_every_group(trained: tuple[Path, Path, dict[str, Any]]) -> None:
    _, folder, results = trained
    arrays = folder / "diagnostics" / results["measurement"] / "test"
    values = np.load(arrays / "groups-GAUC.npy", allow_pickle=False)
    expected = results["splits"]["test"]["rows"]["all"]["GAUC"]
    assert np.nanmean(values) == pytest.approx(expected)


def test_a_finished_run_says_so_and_changes_nothing(
    tables: Path,
    trained: tuple[Path, Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, folder, results = trained
    before = {path: path.stat().st_mtime_ns for path in (folder / "checkpoints").rglob("*")}
    baselines = ["random", "popularity", "item_knn", "oracle"]
    assert run(tiny_config(tables, runs, baselines=baselines)) == results
    printed = capsys.readouterr().out
    assert "is finished" in printed
    assert "naml" in printed
    assert {path: path.stat().st_mtime_ns for path in (folder / "checkpoints").rglob("*")} == before


@pytest.mark.slow
def test_training_and_testing_apart_give_the_same_as_together(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config = tiny_config(tables, tmp_path, mode="train")
    assert run(config)["splits"] == {}
    later = run(tiny_config(tables, tmp_path, mode="test"))
    together = trained[2]
    assert later["run"] == together["run"]
    assert later["splits"]["test"]["rows"] == together["splits"]["test"]["rows"]


def test_testing_without_a_trained_model_says_what_to_do(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no trained model here .* train it"):
        run(tiny_config(tables, tmp_path, mode="test"))
    assert not list(tmp_path.iterdir())


def test_another_run_is_loaded_for_testing(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = unmeasured(trained, tmp_path / "moved")
    results = run(tiny_config(tables, tmp_path / "runs", mode="test", load=str(folder)))
    assert results["run"] == trained[2]["run"]
    assert json.loads((folder / "results.json").read_text()) == results
    assert not (tmp_path / "runs").exists()
    assert results["splits"]["test"]["rows"] == trained[2]["splits"]["test"]["rows"]


def test_a_checkpoint_of_another_model_is_refused(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    wide = {**NAML, "hidden_size": 16}
    with pytest.raises(CheckpointError, match=r"model\.hidden_size: 16, trained with 8"):
        run(tiny_config(tables, tmp_path, model=wide, mode="test", load=str(trained[1])))


def test_without_caches_the_metrics_are_the_same(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    load = str(unmeasured(trained, tmp_path / "copy"))
    config = tiny_config(tables, tmp_path, mode="test", load=load, evaluate={"fast_eval": False})
    slow = run(config)["splits"]["test"]["rows"]
    fast = trained[2]["splits"]["test"]["rows"]
    for subset, values in slow.items():
        for name, value in values.items():
            assert value == pytest.approx(fast[subset][name], abs=1e-6)


@pytest.mark.parametrize("most", [6, 99])  # as many as a history keeps; more than anybody has
def test_cold_users_are_told_by_their_clicks_before_histories_are_cut(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path, most: int
) -> None:
    whole = Tables.load(tables)
    clicks = whole.lists("histories", "items").lengths[whole.scalar("test", "history").long()]
    cold = int((clicks <= most).sum())
    config = tiny_config(
        tables,
        tmp_path,
        mode="test",
        load=str(trained[1]),
        evaluate={"cold_user_clicks": most},
    )
    counts = run(config)["splits"]["test"]["counts"]
    found = [counts.get(name, {}).get("groups") for name in ("cold users", "active users")]
    assert found == ([cold, len(clicks) - cold] if cold < len(clicks) else [None, None])
    assert (most == 6) == (cold < len(clicks))


def test_grouping_by_user_gives_a_group_a_user(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config = tiny_config(
        tables, tmp_path, mode="test", load=str(trained[1]), data={"group_by": "user"}
    )
    test = Interactions.from_tables(Tables.load(tables), "test", history_length=6)
    counts = run(config)["splits"]["test"]["counts"]["all"]
    assert counts["groups"] == len(test.users.unique())


def test_a_watched_metric_that_cannot_be_defined_is_refused_before_the_first_step(
    tables: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tables, tmp_path / "tables")
    labels = broken / "columns" / "valid" / "labels.values.npy"
    np.save(labels, np.ones_like(np.load(labels)))  # clicks alone: GAUC is undefined
    with pytest.raises(LegosError, match=r"data\.splits\.valid: split .valid.*GAUC is not defined"):
        run(tiny_config(broken, tmp_path / "runs"))
    assert not list((tmp_path / "runs").rglob("config.json"))


@pytest.mark.slow
def test_a_comparison_prints_every_method_and_reuses_finished_runs(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = {"models": [NAML, POOLING], "seeds": [1, 2]}
    config = tiny_config(
        tables, tmp_path, mode="compare", compare=compared, baselines=["random", "popularity"]
    )
    summary = run(config)
    assert [row["name"] for row in summary["rows"]["test"]] == [
        "random", "popularity", "naml", "pooling",
    ]  # fmt: skip
    naml = summary["rows"]["test"][2]
    alone = run(tiny_config(tables, tmp_path, train={"seed": 2}))
    capsys.readouterr()
    gauc = [
        json.loads((Path(path) / "results.json").read_text())["splits"]["test"]["rows"]["all"]
        for path in summary["runs"]["naml"]
    ]
    assert gauc[1] == alone["splits"]["test"]["rows"]["all"]
    assert naml["metrics"]["GAUC"] == pytest.approx(np.mean([each["GAUC"] for each in gauc]))
    assert naml["deviations"]["GAUC"] == pytest.approx(
        np.std([each["GAUC"] for each in gauc], ddof=1)
    )
    folder = next((tmp_path / "tiny").glob("compare-*"))
    with (folder / "results.csv").open() as lines:
        named = {line["method"] for line in csv.DictReader(lines)}
    assert {"random", "popularity", "naml", "pooling", "cold items: naml"} <= named
    assert "| naml |" in (folder / "results.md").read_text()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state.json")}
    again = run(config)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state.json")} == times
    assert again["rows"] == summary["rows"]
    printed = capsys.readouterr().out
    assert printed.count("is finished") == 4
    assert "±" in printed


def new_impressions(tables: Path, folder: Path, *, labelled: bool) -> Path:
    """The test split as if it were new impressions."""
    shutil.copytree(tables, folder)
    shutil.move(folder / "columns" / "test", folder / "columns" / "impressions")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text().replace("columns/test/", "columns/impressions/"))
    manifest["tables"]["impressions"] = manifest["tables"].pop("test")
    manifest["parent"] = manifest["fingerprint"]
    manifest["fingerprint"] = "f" * 64
    if not labelled:
        labels = folder / "columns" / "impressions" / "labels.values.npy"
        np.save(labels, np.full_like(np.load(labels), -1))
    path.write_text(json.dumps(manifest))
    return folder


def test_new_impressions_are_scored_and_measured(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    runs, folder, results = trained
    new = new_impressions(tables, tmp_path / "new", labelled=True)
    found = run(tiny_config(tables, runs, mode="test"), impressions=new)
    expected = results["splits"]["test"]["rows"]["all"]
    assert found["splits"]["impressions"]["rows"]["all"] == pytest.approx(expected)
    target = folder / "impressions" / ("f" * 12)
    lines = (target / "scores.tsv").read_text().splitlines()
    ranks = (target / "prediction.txt").read_text().splitlines()
    assert len(lines) == len(ranks) == found["impressions"]
    first = [part.split(":") for part in lines[0].split("\t")[1:]]
    assert [float(score) for _, score in first] == sorted(
        (float(score) for _, score in first), reverse=True
    )
    assert sorted(json.loads(ranks[0].split(" ")[1])) == list(range(1, len(first) + 1))


def test_unlabelled_impressions_get_scores_without_metrics(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    new = new_impressions(tables, tmp_path / "new", labelled=False)
    found = run(tiny_config(tables, trained[0], mode="test"), impressions=new)
    assert found["splits"] == {}
    assert (Path(found["folder"]) / "prediction.txt").is_file()


def test_impressions_read_for_other_tables_are_refused(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    new = new_impressions(tables, tmp_path / "new", labelled=True)
    path = new / "manifest.json"
    path.write_text(path.read_text().replace('"parent": "', '"parent": "0'))
    with pytest.raises(DataError, match="made for tables 0"):
        run(tiny_config(tables, trained[0], mode="test"), impressions=new)


@pytest.mark.multiprocess
def test_two_processes_measure_the_same_and_one_writes(
    tables: Path, trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    exp = {"mode": "test", "evaluate": {"page_size": 16}}
    one = run(tiny_config(tables, tmp_path, load=str(unmeasured(trained, tmp_path / "one")), **exp))
    exp["load"] = str(unmeasured(trained, tmp_path / "two"))
    arguments = ["-m", "tests.modes.tiny_config", str(tables), str(tmp_path)]
    outputs = in_two_processes([*arguments, json.dumps(exp)])
    both = [json.loads(output.splitlines()[-1]) for output in outputs]
    assert both[0]["splits"]["test"]["rows"] == one["splits"]["test"]["rows"]
    assert both[1] == both[0]
    log = next((tmp_path / "two").rglob("log.txt")).read_text()
    assert log.count("results in") == 1


@pytest.mark.multiprocess
def test_two_processes_train_and_test(tables: Path, tmp_path: Path) -> None:
    exp = {"train": {"epochs": 2, "batch_size": 8}}
    arguments = ["-m", "tests.modes.tiny_config", str(tables), str(tmp_path)]
    first, _ = in_two_processes([*arguments, json.dumps(exp)])
    results = json.loads(first.splitlines()[-1])
    assert results["processes"] == 2
    assert results["splits"]["test"]["rows"]["all"]["GAUC"] > 0.6
    lines = next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()
    assert sum(json.loads(line)["kind"] == "valid" for line in lines) == 2


def test_the_training_modules_are_not_needed_to_look_at_the_configuration() -> None:
    code = "import legos.config.schema, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
