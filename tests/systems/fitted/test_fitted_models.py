"""A baseline as a model of its own: measured as beside a model, kept, resumed, recommending."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import legos
from legos.baselines.base import Arrays, HistoryBaseline, make_baseline
from legos.baselines.data import shares
from legos.baselines.ials import IALS
from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.errors import CheckpointError, ConfigError, DataError
from legos.modes.main import run
from legos.modes.train_test import open_trained
from legos.recommend.readers import Reader
from legos.registry import read_baseline
from legos.systems.fitted.kept import keep, kept
from tests.modes.tiny_config import tiny_config
from tests.tiny import tiny_tables

BLEND = {"name": "item_knn_text_cosine"}
METHODS: list[dict[str, Any]] = [
    {"name": "popularity"},
    {"name": "item_knn", "similarity": "tfidf", "k": 20, "shrinkage": 3.0},
    {"name": "rp3beta", "beta": 0.4},
    {"name": "ease", "l2": 5.0},
    {"name": "ease", "l2": 5.0, "neighbours": 7},
    {"name": "slim", "l1": 0.1, "l2": 2.0, "neighbours": 9},
    {"name": "ials", "factors": 6, "iterations": 3, "seed": 4},
    {"name": "bm25"},
    {"name": "text_cosine"},
    {"name": "ease_texts", "l2": 5.0},
    BLEND,
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(autouse=True)
def _words_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """No language model reads the titles, which are no sentences."""
    monkeypatch.setattr("legos.evaluation.texts.minilm_knows", lambda columns: False)


def fitted(tables: Path, runs: Path, method: Any, **exp: Any) -> RunConfig:
    model = {"system": "fitted", "name": "own", "method": method}
    train = {"metric": "nDCG@5", **exp.pop("train", {})}
    return tiny_config(tables, runs, model=model, train=train, **exp)


def run_folder_of(runs: Path) -> Path:
    (found,) = (runs / "tiny" / "own").iterdir()
    return found


@pytest.mark.parametrize("ranking", ["shown", "all"])
@pytest.mark.parametrize("method", METHODS, ids=lambda each: ",".join(map(str, each.values())))
def test_it_measures_what_the_baseline_does_and_the_same_once_it_is_loaded(
    tables: Path, tmp_path: Path, method: dict[str, Any], ranking: str
) -> None:
    evaluate = {"ranking": ranking, "metrics": ["nDCG@5", "MRR"], "page_size": 7}
    config = fitted(tables, tmp_path / "a", method, evaluate=evaluate, baselines=[method])
    found = run(config)
    (beside_it,) = found["baselines"]["test"].values()
    beside = beside_it["rows"]["all"]
    own = found["splits"]["test"]["rows"]["all"]
    if method != BLEND or ranking == "all":  # alone it is standardised over all items
        assert own == pytest.approx({name: beside[name] for name in own}, abs=1e-6)
    assert found["training"]["metric"] == "nDCG@5"
    assert found["parameters"] > 0

    folder = run_folder_of(tmp_path / "a")
    again = fitted(tables, tmp_path / "b", method, mode="test", load=folder, evaluate=evaluate)
    loaded = run(again)
    assert loaded["splits"]["test"]["rows"]["all"] == own


@pytest.mark.parametrize("method", METHODS, ids=lambda each: ",".join(map(str, each.values())))
def test_what_was_kept_scores_to_the_same_bits(
    tables: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    run(fitted(tables, tmp_path, method, mode="train"))
    folder, data = run_folder_of(tmp_path), Tables.load(tables)
    opened = legos.open(folder, device="cpu")
    histories = [["N3", "N11"], ["N7"], []]
    readers = [Reader(history=each) for each in histories]
    items = [f"N{number}" for number in range(data.num_items)]
    shown = opened.score(readers, items).to_numpy()
    system: Any = open_trained(folder, device="cpu")
    fresh = system.method.learn(system.data())
    rows = shares(Ragged(torch.tensor([3, 11, 7]), torch.tensor([0, 2, 3, 3])), data.num_items)
    expected = system.method.scorer(fresh)(rows).astype(np.float32)
    assert np.array_equal(shown, expected)
    assert len(opened.recommend(history=["N3"], k=4)) == 4


def test_an_interrupted_fit_goes_on_to_the_same_bits(
    tables: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method = {"name": "ials", "factors": 4, "iterations": 5}
    run(fitted(tables, tmp_path / "whole", method, mode="train"))
    iterations, calls = IALS.iterations, []

    def interrupted(self: IALS, *arguments: Any) -> Any:
        for number, items in enumerate(iterations(self, *arguments)):
            calls.append(number)
            if len(calls) == 2:
                signal.raise_signal(signal.SIGINT)
            yield items

    monkeypatch.setattr(IALS, "iterations", interrupted)
    stopped = fitted(tables, tmp_path / "stopped", method, mode="train")
    with pytest.raises(KeyboardInterrupt):
        run(stopped)
    assert calls == [0, 1]
    run(stopped)
    assert len(calls) == 5
    assert "resumes after stage 2" in capsys.readouterr().out
    one, other = (
        kept(run_folder_of(tmp_path / each) / "checkpoints/best", method="ials", items=60)[0]
        for each in ("whole", "stopped")
    )
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_method_without_a_seed_takes_that_of_the_training(tables: Path, tmp_path: Path) -> None:
    """So a comparison over seeds draws other first vectors."""

    def vectors(seed: int, own: int | None) -> np.ndarray:
        runs = tmp_path / f"{seed}-{own}"
        method = {"name": "ials", "factors": 4, "iterations": 1, "seed": own}
        run(fitted(tables, runs, method, mode="train", train={"seed": seed}))
        arrays, _ = kept(run_folder_of(runs) / "checkpoints/best", method="ials", items=60)
        found: np.ndarray = arrays["vectors"]
        return found

    assert np.array_equal(vectors(7, None), vectors(3, 7))
    assert not np.array_equal(vectors(7, None), vectors(3, None))


def test_vectors_are_those_that_scores_are_products_of(tables: Path, tmp_path: Path) -> None:
    run(fitted(tables, tmp_path / "ials", {"name": "ials", "factors": 4}, mode="train"))
    opened = legos.open(run_folder_of(tmp_path / "ials"), device="cpu")
    users, items = opened.user_vectors(), opened.item_vectors()
    scores = opened.score(["U7"], list(items.index)).to_numpy()[0]
    assert np.allclose(users.loc["U7"].to_numpy() @ items.to_numpy().T, scores, atol=1e-5)
    assert len(opened.similar("N3", k=3)) == 3
    run(fitted(tables, tmp_path / "ease", "ease", mode="train"))
    other = legos.open(run_folder_of(tmp_path / "ease"), device="cpu")
    with pytest.raises(ConfigError, match="method ease has no vectors of items"):
        other.item_vectors()


@pytest.mark.parametrize("method", ["ease", "item_knn", "text_cosine", "item_knn_text_cosine"])
def test_similar_items_without_vectors_are_those_for_a_history_of_the_item(
    tables: Path, tmp_path: Path, method: str
) -> None:
    run(fitted(tables, tmp_path, method, mode="train"))
    opened = legos.open(run_folder_of(tmp_path), device="cpu")
    similar = opened.similar("N3", k=9)
    listed = opened.recommend(history=["N3"], k=9)
    assert similar["item_id"].tolist() == listed["item_id"].tolist()
    assert np.allclose(similar["score"], listed["score"])


def test_similar_items_with_vectors_have_the_largest_cosine(tables: Path, tmp_path: Path) -> None:
    run(fitted(tables, tmp_path, {"name": "ials", "factors": 4}, mode="train"))
    opened = legos.open(run_folder_of(tmp_path), device="cpu")
    vectors = opened.item_vectors()
    lengths = np.linalg.norm(vectors.to_numpy(), axis=1, keepdims=True)
    unit = vectors.to_numpy() / np.maximum(lengths, 1e-12)  # cold items have zeros
    cosines = unit[vectors.index != "N3"] @ unit[vectors.index == "N3"][0]
    assert np.allclose(opened.similar("N3", k=5)["score"], np.sort(cosines)[::-1][:5], atol=1e-5)


def test_popularity_has_no_similar_items(tables: Path, tmp_path: Path) -> None:
    run(fitted(tables, tmp_path, "popularity", mode="train"))
    opened = legos.open(run_folder_of(tmp_path), device="cpu")
    with pytest.raises(ConfigError, match="method popularity gives all readers the same list"):
        opened.similar("N3")


def test_shares_of_clicks_tell_why(tables: Path, tmp_path: Path) -> None:
    run(fitted(tables, tmp_path, "item_knn", mode="train"))
    opened = legos.open(run_folder_of(tmp_path), device="cpu")
    best = opened.recommend(history=["N3", "N11"], k=1)["item_id"][0]
    reasons = opened.reasons(best, history=["N3", "N11"])
    assert set(reasons["item_id"]) == {"N3", "N11"}


def test_a_server_gives_its_lists(tables: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="the server needs uvicorn (requirements-serve.txt)")
    from tests.server.serving import make_server, serving

    run(fitted(tables, tmp_path, "ease", mode="train"))
    opened = legos.open(run_folder_of(tmp_path), device="cpu")
    with serving(make_server(opened)) as client:
        status, answer = client.post("/recommend", {"history": ["N3", "N11"], "k": 3})
    assert status == 200
    expected = opened.recommend(history=["N3", "N11"], k=3)
    assert [each["item_id"] for each in answer["items"]] == list(expected["item_id"])


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("recent_popularity", "no click of the training split has a time, which model own"),
        ("bm25", "the items have no text field, which model own"),
    ],
)
def test_data_that_lack_what_it_reads_are_refused_in_one_line(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, said: str
) -> None:
    monkeypatch.setattr(Tables, "text_fields", [])
    with pytest.raises(DataError, match=said) as refused:
        run(fitted(tables, tmp_path, method, mode="train"))
    assert "\n" not in str(refused.value)


def test_only_what_is_fitted_is_a_model(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"baseline 'random' cannot recommend, it fits nothing; choose from: bm25"
    ):
        fitted(tables, tmp_path, "random")


def test_settings_of_gradients_are_refused() -> None:
    words = ["--data", "newsroom", "--model", "ease", "--exp", "tt"]
    for key in ("lr", "batch_size", "optimizer", "patience", "epochs"):
        value = {"optimizer": "adamw", "lr": "0.1"}.get(key, "3")
        with pytest.raises(ConfigError, match=rf"exp\.train\.{key}.* system fitted"):
            load_run_config([*words, f"--exp.train.{key}", value])
    assert load_run_config([*words, "--seed", "3"]).exp.train.seed == 3


@pytest.mark.slow
def test_a_search_tries_settings_of_the_method(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="mode search needs optuna (requirements-search.txt)")
    import worker

    (tmp_path / "data.yaml").write_text(
        f"{{name: tiny, folder: {tables}, fields: [category], history_length: 6}}"
    )
    ranges = "{model.method.l2: {choices: [1.0, 1.0e+5]}}"
    words = ["--data", str(tmp_path / "data.yaml"), "--model", "ease", "--exp", "search"]
    words += ["--exp.search.ranges", ranges, "--exp.search.trials", "3", "--exp.report", "false"]
    words += ["--exp.baselines", "[popularity]", "--exp.runs_folder", str(tmp_path / "runs")]
    assert worker.main(words) == 0
    (results,) = (tmp_path / "runs" / "tiny").glob("search-*/results.json")
    assert json.loads(results.read_text())["splits"]["test"]["rows"]["all"]
    assert "trial 3 of 3" in capsys.readouterr().out


def arrays() -> Arrays:
    return {"dense": np.arange(6.0).reshape(2, 3), "matrix": sparse.csr_matrix(np.eye(3, 4))}


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    keep(tmp_path / "k", arrays(), run="abc", method="ease", items=4, stages=2)
    found, state = kept(tmp_path / "k", method="ease", items=4)
    assert (state.run, state.stages, sorted(found)) == ("abc", 2, ["dense", "matrix"])
    assert np.array_equal(found["dense"], arrays()["dense"])
    assert (found["matrix"] != arrays()["matrix"]).nnz == 0
    assert found["matrix"].shape == (3, 4)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda state: state.update(method="ials"), "a fitted ials; expected ease"),
        (lambda state: state.update(items=5), "fitted to 5 items; the tables have 4"),
        (lambda state: state.update(system="bricks"), "fitted"),
        (lambda state: state.update(sparse={"matrix": [3]}), r"sparse\.matrix"),
        (lambda state: state.update(sparse={"matrix": [3, 2]}), "matrix: no sparse matrix"),
        (lambda state: state.update(sparse={"other": [3, 4]}), "no sparse matrix 'other'"),
    ],
)
def test_what_is_not_a_fitted_baseline_is_refused(tmp_path: Path, damage: Any, said: str) -> None:
    keep(tmp_path / "k", arrays(), run="abc", method="ease", items=4, stages=2)
    path = tmp_path / "k" / "state.json"
    state = json.loads(path.read_text())
    damage(state)
    path.write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=said):
        kept(tmp_path / "k", method="ease", items=4)


def test_stages_that_are_done_are_not_learned_again() -> None:
    method = make_baseline(read_baseline("popularity"))
    assert isinstance(method, HistoryBaseline)
    assert list(method.stages(None, {"popularity": torch.zeros(1)}, done=1)) == []  # type: ignore[arg-type]
