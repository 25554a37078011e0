"""Whole runs where all items are ranked: what they measure, train on, write and compare."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import worker
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.modes.check import check
from legos.modes.main import run
from tests.modes.test_main import new_impressions
from tests.modes.tiny_config import NAML, POOLING, tiny_config
from tests.tiny import tiny_tables
from tests.training.two_processes import in_two_processes

RANK_ALL: dict[str, Any] = {
    "evaluate": {
        "ranking": "all",
        "metrics": ["Recall@5", "nDCG@10", "HR@99", "GAUC"],
        "beyond_accuracy_k": 5,
    },
    "train": {"metric": "nDCG@5", "epochs": 2, "batch_size": 32},
}
SASREC = {
    "name": "sasrec",
    "hidden_size": 8,
    "item": {"name": "id"},
    "user": {"name": "sasrec"},
    "predictor": {"name": "dot"},
}
MULTI_VAE = {
    **SASREC,
    "name": "multi_vae",
    "user": {"name": "multi_vae", "latent_size": 4, "annealing_steps": 10},
}


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
    results = run(tiny_config(tables, runs, baselines=baselines, report=True, **RANK_ALL))
    return runs, runs / "tiny" / "naml" / results["run"], results


def expected_clicks(tables: Path) -> tuple[list[set[int]], list[set[int]]]:
    """Of every test impression the clicks that its history does not hold, and the history."""
    opened = Tables.load(tables)
    shown, labels = opened.lists("test", "candidates"), opened.lists("test", "labels").values
    read = opened.lists("histories", "items")
    histories = [
        set(read.values[read.offsets[state] : read.offsets[state + 1]].tolist())
        for state in opened.scalar("test", "history").tolist()
    ]
    clicks = []
    for row, history in enumerate(histories):
        span = slice(int(shown.offsets[row]), int(shown.offsets[row + 1]))
        clicks.append(set(shown.values[span][labels[span] == 1].tolist()) - history)
    return clicks, histories


@pytest.mark.slow
def test_popularity_equals_a_loop_over_impressions(
    trained: tuple[Path, Path, dict[str, Any]], tables: Path
) -> None:
    """Expected over ties; the catalogue has 60 items, so HR@99 is 1 wherever there is a click."""
    from legos.baselines.data import BaselineData

    popular = np.asarray(BaselineData(Tables.load(tables), "test").reads.sum(0)).ravel()
    clicks, histories = expected_clicks(tables)
    recalls = []
    for wanted, read in zip(clicks, histories, strict=True):
        if not wanted:
            continue
        listed = np.array([i for i in range(60) if i not in read])
        chance = []
        for item in wanted:
            above = (popular[listed] > popular[item]).sum()
            equal = (popular[listed] == popular[item]).sum()
            chance.append(np.clip((5 - above) / equal, 0, 1))
        recalls.append(sum(chance) / min(5, len(wanted)))
    found = trained[2]["baselines"]["test"]["popularity"]
    assert found["rows"]["all"]["Recall@5"] == pytest.approx(np.mean(recalls), rel=1e-9)
    assert found["rows"]["all"]["HR@99"] == 1.0
    assert found["counts"]["all"]["no_positive"] == sum(not wanted for wanted in clicks)
    assert found["counts"]["all"]["unlisted_clicks"] > 0


@pytest.mark.slow
def test_results_have_all_that_other_runs_have(
    trained: tuple[Path, Path, dict[str, Any]],
) -> None:
    runs, folder, results = trained
    found = results["splits"]["test"]
    assert {"cold items", "warm items", "cold users", "unseen users"} <= set(found["rows"])
    assert {"novelty@5", "coverage@5", "diversity@5"} <= set(found["rows"]["all"])
    assert list(results["baselines"]["test"]) == ["random", "popularity", "item_knn"]
    counts = {name: counted["groups"] for name, counted in found["counts"].items()}
    assert counts["cold users"] + counts["active users"] == counts["all"] == 100
    arrays = folder / "diagnostics" / results["measurement"] / "test"
    groups = np.load(arrays / "groups-Recall@5.npy")
    assert np.nanmean(groups) == pytest.approx(found["rows"]["all"]["Recall@5"])
    assert not (arrays / "scores.npy").exists()
    assert "Recall@5" in (folder / "report.html").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    valid = [line["metrics"] for line in lines if line["kind"] == "valid"]
    assert [list(metrics) for metrics in valid] == [["nDCG@5"]] * 2  # early stopping's alone
    best = max(metrics["nDCG@5"] for metrics in valid)
    assert results["training"]["best"] == pytest.approx(best)
    again = run(tiny_config(*folders(folder, runs), baselines=[*results["baselines"]["test"]],
                            report=True, **RANK_ALL))  # fmt: skip
    assert again == results


def folders(folder: Path, runs: Path) -> tuple[Path, Path]:
    """The tables that a run read, and where runs lie."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Path(config["data"]["folder"]), runs


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_rank_as_one(
    trained: tuple[Path, Path, dict[str, Any]], tables: Path, tmp_path: Path
) -> None:
    """Both score the same weights: those that one process trained."""
    exp = {**RANK_ALL, "mode": "test", "load": str(trained[1])}
    arguments = ["-m", "tests.modes.tiny_config", str(tables), str(tmp_path), json.dumps(exp)]
    outputs = in_two_processes(arguments)
    found = json.loads(outputs[0].splitlines()[-1])["splits"]["test"]["rows"]
    for subset, values in trained[2]["splits"]["test"]["rows"].items():
        assert found[subset] == pytest.approx(values, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "loss", "history"),
    [
        (SASREC, "full_softmax", "given"),
        (MULTI_VAE, "multinomial", "clicks"),
        (NAML, "full_softmax", "clicks"),
    ],
)
def test_losses_over_the_catalogue_learn_the_planted_taste(
    model: dict[str, Any], loss: str, history: str, tables: Path, tmp_path: Path
) -> None:
    train = {"loss": loss, "history": history, "metric": "GAUC", "epochs": 8, "lr": 0.03}
    exp = {**RANK_ALL, "train": {**train, "batch_size": 32}, "baselines": ["popularity"]}
    results = run(tiny_config(tables, tmp_path, model=model, **exp))
    rows = results["splits"]["test"]["rows"]["warm items"]
    assert rows["GAUC"] > results["baselines"]["test"]["popularity"]["rows"]["all"]["GAUC"] + 0.1
    folder = tmp_path / "tiny" / model["name"] / results["run"]
    warned = "encodes all 60 items in every" in (folder / "log.txt").read_text(encoding="utf-8")
    assert warned == (model is NAML)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "negatives", "optimizer"),
    [
        ("gbce", {"strategy": "uniform", "count": 16}, "adam"),
        ("gbce", {"strategy": "uniform", "count": 48, "shared": True}, "adam"),
        ("sampled_softmax", {"strategy": "uniform", "count": 16}, "lazy_adam"),
        (
            "sampled_softmax",
            {"strategy": "popularity", "power": 0.5, "count": 16, "shared": True},
            "adam",
        ),
    ],
)
def test_losses_over_a_sample_of_the_catalogue_learn_the_planted_taste(
    loss: str, negatives: dict[str, Any], optimizer: str, tables: Path, tmp_path: Path
) -> None:
    train = {"loss": loss, "metric": "GAUC", "epochs": 36, "lr": 0.03, "negatives": negatives}
    train["optimizer"] = optimizer
    exp = {
        **RANK_ALL,
        "train": {**train, "batch_size": 32, "patience": 0},
        "baselines": ["popularity"],
    }
    results = run(tiny_config(tables, tmp_path, model=SASREC, **exp))
    rows = results["splits"]["test"]["rows"]["warm items"]
    assert rows["GAUC"] > results["baselines"]["test"]["popularity"]["rows"]["all"]["GAUC"] + 0.1


@pytest.mark.slow
def test_a_comparison_pairs_users(tables: Path, tmp_path: Path) -> None:
    compare = {"models": [NAML, POOLING], "seeds": [1]}
    exp = {**RANK_ALL, "mode": "compare", "compare": compare, "baselines": ["popularity"]}
    results = run(tiny_config(tables, tmp_path, **exp))
    rows = results["rows"]["test"]
    assert [row["name"] for row in rows] == ["popularity", "naml", "pooling"]
    assert set(rows[2]["marks"]) == {"Recall@5", "nDCG@10", "HR@99", "GAUC", "nDCG@5"}


@pytest.mark.slow
def test_the_command_line_from_check_to_results(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--data", "amazon-beauty-random", "--model", "multi_vae", "--exp", "rank-all",
        "--data.folder", str(tables), "--data.fields", "[title@words]", "--hidden_size", "9",
        "--exp.train.epochs", "1", "--exp.baselines", "[popularity]",
        "--exp.runs_folder", str(tmp_path),
    ]  # fmt: skip
    assert worker.main([*words, "--check"]) == 0
    assert "items: products of all users with all items" in capsys.readouterr().out
    assert worker.main(words) == 0
    assert "nDCG@100" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("results.json"))) == 1


@pytest.mark.parametrize(
    ("model", "exp", "message"),
    [
        (NAML, {"evaluate": {"ranking": "all", "metrics": ["AUC"]}}, "AUC compares scores of"),
        (NAML, {"evaluate": {"ranking": "all", "fast_eval": False}}, "fast_eval true"),
        (
            {**POOLING, "predictor": {"name": "mlp"}},
            {"train": {"loss": "full_softmax"}},
            "use predictor cosine, dot, interests",
        ),
        (
            {**SASREC, "user": {"name": "sequence"}, "predictor": {"name": "din"}},
            {"train": {"loss": "multinomial"}},
            "depends on the candidate",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    model: dict[str, Any], exp: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(tmp_path, tmp_path, model=model, **exp)


@pytest.mark.slow
def test_check_says_what_is_slow(tables: Path, tmp_path: Path) -> None:
    def printed(model: dict[str, Any], **exp: Any) -> str:
        config: RunConfig = tiny_config(tables, tmp_path, model=model, **exp)
        text = StringIO()
        check(config, Console(file=text, width=200))
        return text.getvalue()

    ranking = {"ranking": "all", "metrics": ["GAUC"]}
    mlp = {**POOLING, "predictor": {"name": "mlp"}}
    din = {**SASREC, "user": {"name": "sequence"}, "predictor": {"name": "din"}}
    assert "x 60 items: a network over each pair" in printed(mlp, evaluate=ranking)
    assert "sequence makes another user for every item" in printed(din, evaluate=ranking)
    assert "ranking all" not in printed(POOLING)


@pytest.mark.slow
def test_new_impressions_leave_out_what_was_clicked_in_valid_of_the_training_tables(
    tables: Path, tmp_path: Path
) -> None:
    evaluate = {**RANK_ALL["evaluate"], "exclude": "history+valid"}
    exp = {**RANK_ALL, "evaluate": evaluate, "train": {"metric": "nDCG@5", "epochs": 1}}
    measured = run(tiny_config(tables, tmp_path / "runs", **exp))["splits"]["test"]
    new = new_impressions(tables, tmp_path / "new", labelled=True)
    manifest = json.loads((new / "manifest.json").read_text())
    for split in ("train", "valid"):  # tables of new impressions have that one split alone
        del manifest["tables"][split]
    (new / "manifest.json").write_text(json.dumps(manifest))
    found = run(tiny_config(tables, tmp_path / "runs", **exp, mode="test"), impressions=new)
    again = found["splits"]["impressions"]
    assert again["rows"]["all"] == pytest.approx(measured["rows"]["all"])
    counts = again["counts"]["all"]["unlisted_clicks"]
    assert counts == measured["counts"]["all"]["unlisted_clicks"] > 0
