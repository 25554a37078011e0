"""``--save FILE``: what it writes explains itself, and ``--config FILE`` is the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from legos.config.load import load_run_config, save_configuration
from legos.config.model_schema import SystemModel
from legos.config.models import models
from legos.config.saved import yaml_of
from legos.config.schema import RunConfig
from legos.config.yaml_files import CONFIG_FOLDER, KINDS, read_document
from legos.errors import ConfigError

RUN = ["--data", "newsroom", "--exp", "tt"]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG_FOLDER.parent)


def load(*words: str) -> RunConfig:
    notices: list[str] = []
    config = load_run_config(words, notice=notices.append)
    assert notices == []
    return config


@pytest.mark.parametrize("name", models())
def test_every_model_is_the_same_when_it_was_saved(name: str, tmp_path: Path) -> None:
    # what `recommended` takes over from tables is told where there are some
    config = load_run_config([*RUN, "--model", name], notice=lambda text: None)
    path = tmp_path / "saved.yaml"
    text = yaml_of(config, path)
    path.write_text(text[text.index("\nmodel:") : text.index("\nexp:")])
    section = read_document(path).data["model"]
    assert SystemModel.model_validate(section) == config.model


@pytest.mark.parametrize(
    "words",
    [
        [*RUN, "--model", "naml", "--embed", "minilm-token", "--lr", "1e-05"],
        [*RUN, "--model", "bert-naml", "--llm_ver", "12L", "--layer", "10"],
        ["--data", "mind-llama", "--model", "cllm4rec", "--exp", "cllm4rec"],
        ["--data", "mind-genre", "--exp", "once-mind", "--data.prompt", "a: 'b' # c\\n\u00e9"],
        ["--data", "newsroom", "--exp", "quickstart", "--exp.compare.curve", "null"],
        ["--data", "amazon-beauty-direct", "--exp", "direct"],
    ],
    ids=lambda words: " ".join(words[1:6]),
)
def test_a_saved_run_is_the_same_run(words: list[str], tmp_path: Path) -> None:
    config = load(*words)
    path = tmp_path / "saved.yaml"
    save_configuration(config, path)
    assert load("--config", str(path)) == config
    assert [*tmp_path.iterdir()] == [path]


def test_it_says_what_each_key_means_and_which_values_are_defaults(tmp_path: Path) -> None:
    path = tmp_path / "saved.yaml"
    save_configuration(load(*RUN, "--model", "naml", "--seed", "7"), path)
    lines = path.read_text().splitlines()
    assert lines[1] == f"# python worker.py --config {path}"
    assert list(yaml.safe_load(path.read_text())) == list(KINDS)
    place = lines.index("    seed: 7")
    assert lines[place - 1] == "    # Seed of initial weights, order, negatives and dropout."
    assert "    optimizer: adam  # default" in lines
    assert "    kernel_size: 3  # default" in lines
    assert max(map(len, lines[2:])) <= 110


def test_a_section_of_a_saved_file_may_be_used_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "saved.yaml"
    save_configuration(load(*RUN, "--model", "nrms", "--model.item.dropout", "0.4"), path)
    model = load("--data", "goodreads", "--exp", "tt-naml", "--model", str(path)).model
    assert model == load("--config", str(path)).model
    other = load("--config", str(path), "--model", "naml", "--exp.train.seed", "3")
    assert (other.model.name, other.exp.train.seed, other.data.name) == ("naml", 3, "newsroom")


def test_a_file_that_is_there_and_a_value_that_is_lost_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.yaml"
    path.write_text("mine")
    config = load(*RUN, "--model", "naml")
    with pytest.raises(ConfigError, match=r"saved\.yaml: already exists"):
        save_configuration(config, path)
    assert path.read_text() == "mine"
    lost = config.model_copy(update={"data": config.data.model_copy(update={"prompt": "${x}"})})
    with pytest.raises(ConfigError):
        save_configuration(lost, tmp_path / "other.yaml")
    assert [*tmp_path.iterdir()] == [path]
