"""Bricks and models by name: on the command line, in YAMLs, in comparisons."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from legos.config import models as tables
from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from legos.config.yaml_files import CONFIG_FOLDER
from legos.errors import ConfigError

RUN = ["--data", "newsroom", "--exp", "tt"]
MINER = ["--item", "language_model", "--user", "poly_attention", "--predictor", "interests"]


def load(*words: str) -> RunConfig:
    return load_run_config([*RUN, *words], notice=lambda text: None)


def message(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*words)
    return str(caught.value)


def test_three_bricks_by_name_are_a_model() -> None:
    model = load(*MINER, "--layer", "5", "--model.item.pooling", "mean").bricks
    assert model.name == "language_model-poly_attention-interests"
    assert model.hidden_size == 64
    assert model.user == load("--model", "miner").bricks.user
    assert model.item.model_dump()["layer"] == 5
    assert model.item.model_dump()["pooling"] == "mean"


@pytest.mark.parametrize(
    "words",
    [
        ["--item", "pooling", "--model.item.mode", "max"],
        ["--model.item.mode", "max", "--item", "pooling"],
        ["--model.item", "pooling", "--model.item.mode", "max"],
        ["--model.item", "{like: pooling, mode: max}"],
        ["--model.item", "{name: pooling, mode: max}"],
    ],
)
def test_a_brick_by_name_takes_the_place_of_a_models_own(words: list[str]) -> None:
    model = load("--model", "nrms", *words).bricks
    assert model.item.model_dump() == {"name": "pooling", "mode": "max", "flatten": False}
    assert model.user == load("--model", "nrms").bricks.user


def test_a_brick_without_a_row_has_its_defaults() -> None:
    model = load("--model", "nrms", "--user", "transformer").bricks
    assert model.user.model_dump()["candidate"] is False


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model", "nrms", "--item", "langage_model"], "did you mean 'language_model'?"),
        (["--model", "nrms", "--item", "cn"], "command line: model.item: unknown item encoder"),
        (["--model", "nrms", "--model.user", "{like: poly}"], "unknown user encoder 'poly'"),
        (["--model", "nrsm"], "--model nrsm: no such YAML; did you mean 'nrms'?"),
        (["--item", "cnn"], "--model: missing; choose from: naml, nrms,"),
        (
            ["--item", "manner", "--user", "pooling", "--predictor", "dot"],
            "command line: model.item.encoder: missing; The item encoder that the CR-Module and "
            "every A-Module have one of; give --model.item.encoder.name NAME (`legos list item` "
            "shows the names), or choose a model with 'manner', such as --model manner",
        ),
        (
            ["--item", "id_and_content", "--user", "pooling", "--predictor", "dot"],
            "command line: model.item.content: missing; The item encoder that reads the content; "
            "give --model.item.content.name NAME",
        ),
        (
            ["--item", "cnn", "--user", "profile", "--predictor", "dot"],
            "command line: model.user.history: missing; The user encoder that reads the history; "
            "give --model.user.history.name NAME (`legos list user` shows the names)",
        ),
        (["--item", "cnn"], "or give --item, --user and --predictor"),
        (["--model", "nrms", "--item", "cnn", "--model.item", "id"], "which is also given"),
        (["--model", "nrms", "--predictor", "interests"], "predictor interests scores"),
        (["--model", "cllm4rec", "--item", "cnn"], "model.item: unknown key"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(words: list[str], expected: str) -> None:
    assert expected in message(*words)


def test_a_yaml_may_be_like_a_model_and_name_bricks(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nlike: nrms\nitem: {like: cnn, dropout: 0.5}\npredictor: cosine\n")
    model = load("--model", str(path)).bricks
    naml = load("--model", "naml").bricks
    assert model.item.model_dump() == {**naml.item.model_dump(), "dropout": 0.5}
    assert model.user == load("--model", "nrms").bricks.user
    assert model.predictor.model_dump()["temperature"] == 1.0
    path.write_text(path.read_text().replace("dropout", "dropot"))
    assert f"{path}:3: model.item.dropot: unknown key" in message("--model", str(path))
    path.write_text(path.read_text().replace("nrms", "nrsm"))
    assert f"{path}:2: model.like: no model 'nrsm'; did you mean 'nrms'?" in message(
        "--model", str(path)
    )


def test_an_import_of_a_model_that_became_a_row_is_told_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\n$$import: {CONFIG_FOLDER}/model/nrms.yaml\n")
    found = message("--model", str(path))
    assert f"{path}:2: " in found
    assert "model nrms is a row of config/models.yaml; write `like: nrms`" in found
    path.write_text(path.read_text().replace("nrms.yaml", "nrsm.yaml"))
    assert "nrsm.yaml: no such file" in message("--model", str(path))


def test_bricks_by_name_reach_every_model_of_a_comparison(tmp_path: Path) -> None:
    path = tmp_path / "rows.yaml"
    path.write_text(
        "name: rows\nmode: compare\ncompare:\n  data:\n"
        "    short: {data: newsroom, name: short, history_length: 5}\n"
        "  models:\n    - naml\n    - {model: nrms, name: cut, data: short, user: gru}\n"
    )
    words = ["--data", "newsroom", "--exp", str(path)]
    runs = [row.runs[0] for row in load_run_config([*words, "--item", "id"]).rows()]
    assert [run.bricks.item.name for run in runs] == ["id", "id"]
    assert [run.bricks.user.name for run in runs] == ["additive_attention", "gru"]
    assert [run.data.name for run in runs] == ["newsroom", "short"]
    assert runs[1].data.history_length == 5
    path.write_text(path.read_text().replace("history_length: 5", "history_lenght: 5"))
    with pytest.raises(ConfigError, match=r"rows\.yaml:5: exp\.compare\.models\.1\.data\.hist"):
        load_run_config(words)


def test_a_broken_yaml_beside_the_models_is_told_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(CONFIG_FOLDER / "model", folder)
    broken = folder / "broken.yaml"
    broken.write_bytes(b"name: caf\xe9\n")
    monkeypatch.setattr(tables, "_FOLDER", folder)
    tables.shipped_models.cache_clear()
    try:
        assert tables.models()["broken"].group == tables.OWN
        assert load("--model", "nrms").model.name == "nrms"
        assert "not UTF-8" in message("--model", str(broken))
    finally:
        tables.shipped_models.cache_clear()
