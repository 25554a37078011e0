"""The verdict: which baseline it is against, how sure it is, what it advises."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import ttest_rel

from legos.config.load import load_run_config
from legos.data.tables import Tables
from legos.modes.main import run
from legos.registry import bricks
from legos.reports.next_step import command_of, model_of, next_command
from legos.reports.tables import show_run
from legos.reports.verdict import Contender, Verdict, best_row, judge, negatives_of
from tests.modes.tiny_config import NAML, tiny_config
from tests.tiny import tiny_tables

RNG = np.random.default_rng(0)
BASE = RNG.random(400)
NOISE = RNG.normal(0, 0.1, 400)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables.load(tiny_tables(tmp_path_factory.mktemp("data") / "tiny"))


def contender(
    tables: Tables, values: np.ndarray, *, training: Mapping[str, Any] | None = None, **exp: Any
) -> Contender:
    config = tiny_config(tables.folder, Path("runs"), **exp)
    return Contender(config, {"GAUC": values, "MRR": values / 2}, training or {})


def verdict(tables: Tables, values: np.ndarray, **baselines: np.ndarray) -> Verdict:
    rivals = {name: {"GAUC": each, "MRR": each / 2} for name, each in baselines.items()}
    return judge({"naml": contender(tables, values)}, rivals, tables, "test")["naml"]


def test_it_is_against_the_best_baseline_that_is_no_bound(tables: Tables) -> None:
    found = verdict(
        tables, BASE + 0.05 + NOISE, popularity=BASE - 0.2, item_knn=BASE, oracle=BASE + 9
    )
    assert (found.outcome, found.baseline, found.metric, found.n) == (
        *("above", "item-kNN", "GAUC"),
        400,
    )
    assert found.difference == pytest.approx(float((0.05 + NOISE).mean()))
    assert found.p == pytest.approx(float(ttest_rel(BASE + 0.05 + NOISE, BASE).pvalue))
    assert "above item-kNN, the best of 2 baselines" in found.sentence
    assert "p < .001, paired t-test over 400 impressions" in found.sentence
    assert found.lead == f"{found.difference:+.4f}*"
    assert found.advice == ()


def test_below_and_level(tables: Tables) -> None:
    below = verdict(tables, BASE - 0.05 + NOISE, item_knn=BASE)
    assert below.outcome == "below"
    assert "is below item-kNN, the only baseline" in below.sentence
    level = verdict(tables, BASE + NOISE - NOISE.mean(), item_knn=BASE)
    assert level.outcome == "level"
    assert "is not significantly different" in level.sentence
    assert level.lead.endswith("0")  # without a star
    assert any("more test impressions" in text for text in level.advice)


def test_only_groups_that_both_have_count(tables: Tables) -> None:
    """A system that measures some users is held against the baselines on these users."""
    own, rival = BASE + 0.05 + NOISE, BASE.copy()
    own[100:] = np.nan
    rival[:10] = np.nan
    rival[100:] += 5  # on users whom the model was not measured on
    found = verdict(tables, own, item_knn=rival)
    assert found.n == 90
    assert found.value == pytest.approx(float(own[10:100].mean()))
    assert found.baseline_value == pytest.approx(float(rival[10:100].mean()))
    assert found.outcome == "above"


def test_without_a_baseline_it_says_so(tables: Tables) -> None:
    found = verdict(tables, BASE)
    assert (found.outcome, found.baseline, found.p, found.lead) == ("alone", None, None, "")
    assert "--exp.baselines" in found.sentence


def test_models_of_one_table_are_corrected_for_their_number(tables: Tables) -> None:
    shift = NOISE - NOISE.mean() + 0.011
    values = {name: contender(tables, BASE + shift) for name in ("a", "b")}
    rivals = {"item_knn": {"GAUC": BASE}}
    alone = judge({"a": values["a"]}, rivals, tables, "test")["a"]
    both = judge(values, rivals, tables, "test")
    assert both["a"].p == pytest.approx(2 * (alone.p or 0))
    assert (alone.outcome, both["a"].outcome) == ("above", "level")
    assert best_row(both) == both["a"]
    assert best_row({}) is None


def test_a_watched_metric_without_groups_gives_way_to_one_that_has_some(tables: Tables) -> None:
    own = contender(tables, BASE, train={"metric": "AUC"}, evaluate={"metrics": ["AUC", "MRR"]})
    assert judge({"naml": own}, {}, tables, "test")["naml"].metric == "MRR"
    none = Contender(own.config, {}, {})
    assert judge({"naml": none}, {}, tables, "test") == {}


@pytest.mark.parametrize(
    ("manifest", "split", "ranking", "kind"),
    [
        ({"layout": "mind", "split_rule": "x"}, "test", "shown", "shown"),
        ({"layout": "mind", "split_rule": "x"}, "test", "all", "all"),
        ({"layout": "goodreads-once", "split_rule": "x"}, "test", "shown", "popularity"),
        ({"layout": "goodreads-once", "split_rule": "x"}, "test_uniform", "shown", "uniform"),
        ({"layout": "amazon-prepared", "split_rule": "leave-last-out: a"}, "valid_99", "shown",
         "uniform"),
        ({"layout": "table", "split_rule": "by-time: a"}, "test", "shown", "popularity"),
        ({"layout": "goodreads-ucsd", "split_rule": "x"}, "test", "shown", "rated"),
        ({"layout": "table", "split_rule": "own"}, "test", "shown", "given"),
        ({"layout": "own", "split_rule": "own", "negatives": {"test_9": "rated"}}, "test_9",
         "shown", "rated"),
    ],
)  # fmt: skip
def test_what_negatives_are_follows_from_the_manifest(
    manifest: dict[str, Any], split: str, ranking: str, kind: str
) -> None:
    assert negatives_of(manifest, split, ranking) == kind


def advice(tables: Tables, best: str, **settings: Any) -> str:
    own = contender(tables, BASE - 0.1 + NOISE, **settings)
    rivals = {best: {"GAUC": BASE, "MRR": BASE}}
    return " ".join(judge({"naml": own}, rivals, tables, "test")["naml"].advice)


def test_advice_follows_from_the_case(tables: Tables) -> None:
    stopped = {"best_epoch": 6}
    assert "--exp.train.epochs 18" in advice(tables, "item_knn", training=stopped)
    assert "--exp.train.epochs" not in advice(tables, "item_knn", training={"best_epoch": 5})
    text = advice(tables, "text_cosine")
    assert "--embed minilm-token" in text
    assert "--model recommended" in text
    assert "every known item" in advice(tables, "item_knn")
    assert "--embed" not in advice(tables, "popularity")
    ranked = advice(tables, "popularity", evaluate={"ranking": "all", "metrics": ["MRR"]},
                    train={"metric": "MRR"})  # fmt: skip
    assert "--exp.train.negatives.strategy uniform" in ranked


@pytest.mark.parametrize("best", ["ease", "ease,l2=50.0", "rp3beta", "ials", "ease_texts"])
def test_a_baseline_that_knows_readers_asks_for_vectors_of_items(tables: Tables, best: str) -> None:
    assert "every known item" in advice(tables, best)


@pytest.mark.parametrize("best", ["bm25", "bm25,k1=2.0", "recent_popularity", "popularity"])
def test_one_that_knows_none_does_not(tables: Tables, best: str) -> None:
    assert "every known item" not in advice(tables, best)


@pytest.mark.parametrize("best", ["bm25", "ease_texts"])
def test_one_that_reads_texts_asks_for_pretrained_words(tables: Tables, best: str) -> None:
    assert "--embed minilm-token" in advice(tables, best)


def test_a_baseline_above_the_model_is_named_as_a_model(tables: Tables) -> None:
    below = verdict(tables, BASE - 0.05 + NOISE, text_cosine=BASE, popularity=BASE - 0.2)
    assert below.rival == "text_cosine"
    assert below.advice[0].endswith("served as a model: --model text_cosine.")
    assert below.command == f"legos run --data {tables.folder} --model text_cosine"
    config = load_run_config(["--data", "newsroom", "--model", "naml", "--exp", "rank-all"])
    ranked = command_of(config, "ease,l2=50.0") or ""
    assert ranked.startswith("legos run --data newsroom --model ease --model.method.l2 50.0 --exp")
    assert ranked.endswith(" rank-all")
    level = verdict(tables, BASE + NOISE - NOISE.mean(), text_cosine=BASE)
    assert level.command is None
    assert not any("text_cosine" in text for text in level.advice)
    noise = verdict(tables, BASE - 0.05 + NOISE, random=BASE)
    assert (noise.outcome, noise.command) == ("below", None)


@pytest.mark.parametrize("label", sorted(set(bricks("baseline").names()) - {"random", "oracle"}))
def test_every_baseline_that_learns_is_a_model_with_its_settings(label: str) -> None:
    words = model_of(label)
    assert words is not None
    config = load_run_config(["--data", "newsroom", *shlex.split(words), "--exp", "tt"])
    assert config.model.baseline_label == label


def test_the_settings_of_a_baseline_are_those_of_its_model() -> None:
    for label in ("ease,l2=50.0", "item_knn,similarity=tfidf,k=20", "ials,seed=3"):
        words = shlex.split(model_of(label) or "")
        config = load_run_config(["--data", "newsroom", *words, "--exp", "tt"])
        assert config.model.baseline_label == label
    assert model_of("random") is None
    assert model_of("of a plugin") is None


def test_no_baseline_is_its_own_rival(tables: Tables) -> None:
    model = {"system": "fitted", "name": "knn", "method": "item_knn"}
    config = tiny_config(tables.folder, Path("runs"), model=model)
    own = Contender(config, {"GAUC": BASE}, {})
    rivals = {"item_knn": {"GAUC": BASE}, "popularity": {"GAUC": BASE - 0.2 + NOISE}}
    found = judge({"knn": own}, rivals, tables, "test")["knn"]
    assert (found.outcome, found.rival) == ("above", "popularity")
    assert "the only baseline" in found.sentence


@pytest.mark.parametrize(
    ("outcomes", "serves"),
    [
        (["above", "above"], True),
        (["level", "level"], True),
        (["below", "level"], False),
        (["level", "below"], False),
        (["below", "above"], True),
        ([], True),
    ],
)
def test_next_comes_the_better_one(outcomes: list[str], serves: bool) -> None:
    verdicts = [{"outcome": each, "command": "legos run --model x"} for each in outcomes]
    expected = "legos serve runs/a" if serves else "legos run --model x"
    assert next_command(Path("runs/a"), verdicts) == expected
    without = [{**each, "command": None} for each in verdicts]
    assert next_command(Path("runs/a"), without) == "legos serve runs/a"


@pytest.fixture(scope="module")
def measured(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The runs folder and results of a small run beside baselines."""
    runs = tmp_path_factory.mktemp("runs")
    config = tiny_config(
        tables.folder, runs, model=NAML, baselines=["random", "popularity"], train={"epochs": 2}
    )
    return runs, run(config)


@pytest.mark.slow
def test_a_run_keeps_and_prints_its_verdict(
    measured: tuple[Path, Any], tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, results = measured
    found = results["verdict"]["test"]
    assert found["baseline"] in ("random", "popularity")
    rows = results["splits"]["test"]["rows"]["all"], results["baselines"]["test"]
    assert found["value"] == pytest.approx(rows[0]["GAUC"])
    best = max(each["rows"]["all"]["GAUC"] for each in rows[1].values())
    assert found["baseline_value"] == pytest.approx(best)
    assert json.loads((runs / "tiny/naml" / results["run"] / "results.json").read_text()) == results
    show_run(Console(), results)
    said = " ".join(capsys.readouterr().out.split())
    assert found["sentence"] in said
    assert found["negatives"] in said
    assert "vs baseline" in said
    assert "by items and users" not in said
    show_run(Console(), results, verbose=True)
    assert "by items and users" in capsys.readouterr().out


@pytest.mark.slow
def test_a_split_with_the_numbers_of_another_one_is_a_line(
    measured: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    results = measured[1]
    twice = {
        part: {"test": results[part]["test"], "test_uniform": results[part]["test"]}
        for part in ("splits", "baselines", "verdict")
    }
    show_run(Console(width=200), {**results, **twice})
    said = capsys.readouterr().out
    assert said.count("vs baseline") == 1
    assert "test_uniform" in said
    assert "groups: the numbers of test\n" in said
    other = json.loads(json.dumps({**results, **twice}))
    other["splits"]["test_uniform"]["rows"]["all"]["GAUC"] += 0.1
    show_run(Console(width=200), other)
    assert capsys.readouterr().out.count("vs baseline") == 2


@pytest.mark.slow
def test_a_finished_run_of_an_earlier_version_is_judged_when_it_is_shown_again(
    measured: tuple[Path, Any], tables: Tables, tmp_path: Path
) -> None:
    runs, results = measured
    shutil.copytree(runs, tmp_path / "runs")
    folder = tmp_path / "runs/tiny/naml" / results["run"]
    for name in ("random", "popularity"):
        shutil.rmtree(folder / "diagnostics" / results["measurement"] / "test" / name)
    earlier = {key: value for key, value in results.items() if key != "verdict"}
    (folder / "results.json").write_text(json.dumps(earlier))
    config = tiny_config(
        tables.folder, tmp_path / "runs", baselines=["random", "popularity"], train={"epochs": 2}
    )
    again = run(config)
    assert again["verdict"] == results["verdict"]
    assert again["training"] == results["training"]
