"""Every YAML below config/, wherever it lies: it loads, it is explained, its command works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from legos.config.load import asks_for_vectors, load_embed_job, load_run_config
from legos.config.locations import headline
from legos.config.models import models, read_model, write_out
from legos.config.references import referenced_variables
from legos.config.variables import PUBLISHED
from legos.config.yaml_files import CONFIG_FOLDER, FAMILIES, KINDS, read_document, yaml_files
from legos.errors import ConfigError
from legos.lm.settings import LanguageModelSource
from legos.registry import bricks, bricks_in

ROOT = CONFIG_FOLDER.parent
SHIPPED = [path.relative_to(ROOT) for path in yaml_files(CONFIG_FOLDER)]
OF_A_KIND = [path for path in SHIPPED if path.parts[1] in KINDS]
NUMBER = re.compile(r"^\s*[-\w ]+:\s*(\[[\d, ]+\]|[\d.e-]+|\$\{\w+:[\d.e-]+\})\s*(#.*)?$")


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def command(path: Path) -> list[str]:
    """The arguments of the ``python worker.py`` line in a YAML's head."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# python worker.py "):
            return shlex.split(line)[3:]
    return []


def test_there_are_yamls_of_every_kind() -> None:
    tables = {"models.yaml", "bricks.yaml", "llm.yaml", "splits"}
    assert {path.parts[1] for path in SHIPPED} == {*KINDS, *tables}
    assert 60 <= len(SHIPPED) <= 200


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_yaml_begins_with_what_it_is(path: Path) -> None:
    text = headline(path)
    assert 20 < len(text) < 120
    assert not text.startswith("python")


@pytest.mark.parametrize("path", OF_A_KIND, ids=str)
def test_a_yamls_own_command_loads_and_validates_it(path: Path) -> None:
    arguments = command(path)
    assert arguments, f"{path} has no `# python worker.py` line"
    kind = path.parts[1]
    assert arguments[arguments.index(f"--{kind}") + 1] == path.as_posix()
    notices: list[str] = []
    load = load_embed_job if asks_for_vectors(arguments) else load_run_config
    config = load(arguments, notice=notices.append)
    assert getattr(config, kind).name.startswith(path.stem)
    assert notices == []


@pytest.mark.parametrize("path", OF_A_KIND, ids=str)
def test_every_variable_of_a_yaml_has_a_default_or_is_in_its_command(path: Path) -> None:
    given = {word[2:] for word in command(path) if word.startswith("--")}
    data = read_document(path).data
    with_default = set(re.findall(r"\$\{(\w+):", repr(data)))
    used = referenced_variables(data)
    assert used <= PUBLISHED.keys() | with_default | given


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_number_carries_its_reason(path: Path) -> None:
    bare = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if (found := NUMBER.match(line)) and not found[2]
    ]
    assert bare == []


@pytest.mark.parametrize("name", [name for name, model in models().items() if not model.file])
def test_every_row_loads_by_its_own_command(name: str) -> None:
    model = models()[name]
    notices: list[str] = []
    words = ["--model", name, *shlex.split(model.run)]
    config = load_run_config(words, notice=notices.append)
    assert config.model.name == name
    assert notices == []
    found = {family: brick.name for family, brick in bricks_in(config.model) if "." not in family}
    assert found.keys() == model.bricks.keys()
    if config.model.system == "bricks" and "--hidden_size" not in words:
        assert config.bricks.hidden_size == 64


@pytest.mark.parametrize("path", [p for p in OF_A_KIND if p.parts[1] == "model"], ids=str)
def test_a_file_says_the_same_as_the_row_of_its_name(path: Path) -> None:
    row = models()[path.stem]
    assert row.file is not None
    assert row.description == headline(path)
    if row.section.data:
        of_the_file, of_the_row = read_model(path.stem), row.section.part(())
        write_out(of_the_file)
        write_out(of_the_row)
        own = {"name": row.name, "hidden_size": "${hidden_size}"}
        assert of_the_row.data | own == of_the_file.data


def test_a_path_of_the_model_folder_without_a_file_is_the_row_of_its_name() -> None:
    words = ["--data", "newsroom", "--exp", "tt"]
    by_path = load_run_config([*words, "--model", "config/model/nrms.yaml"])
    assert by_path == load_run_config([*words, "--model", "nrms"])
    with pytest.raises(ConfigError, match=r"elsewhere/nrms\.yaml: no such file"):
        load_run_config([*words, "--model", "elsewhere/nrms.yaml"])


def test_every_published_variable_that_this_part_has_is_understood() -> None:
    arguments = ["--data", "mind", "--model", "naml", "--exp", "tt", "--embed", "minilm-token"]
    given = {
        "version": "large",
        "hidden_size": "32",
        "embed_hidden_size": "384",
        "fast_eval": "0",
        "lr": "1e-4",
        "batch_size": "32",
        "acc_batch": "2",
        "epoch_batch": "-4",
        "seed": "7",
        "device": "cpu",
        "precision": "bf16",
    }
    notices: list[str] = []
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    config = load_run_config([*arguments, *words], notice=notices.append)
    train = config.exp.train
    assert notices == []
    assert config.data.folder == Path("data/mind-large")
    assert (config.model.hidden_size, config.embed.embed_hidden_size) == (32, 384)
    assert (train.lr, train.seed) == (1e-4, 7)
    assert (train.batch_size, train.acc_batch, train.epoch_batch) == (32, 2, -4)
    assert (config.exp.device, config.exp.precision) == ("cpu", "bf16")
    assert config.exp.evaluate.fast_eval is False


def test_every_language_model_of_llm_yaml_says_where_it_is() -> None:
    models = read_document(CONFIG_FOLDER / "llm.yaml").data
    assert {"minilm", "smollm2", "12L", "7b", "13b"} <= models.keys()
    for name, entry in models.items():
        assert LanguageModelSource(name=name, **entry).name == name


NAMED = (
    "naml nrms lstur npa miner fastformer caum mf pooling flatten_transformer flatten_fastformer"
)
NETWORKS = "bst sasrec din dnn deepfm pnn dcn dcnv2 gdcn autoint finalmlp masknet"
FIRST = "naml nrms lstur miner fastformer bst din dcn deepfm pnn final_mlp"  # Legommenders' first


def test_every_named_model_is_shipped_on_texts_and_on_ids() -> None:
    """Also all names that Legommenders gives its models without a language model."""
    expected = {*NAMED.split(), *(f"lego_{name}" for name in FIRST.split())}
    expected |= {f"{name}_{kind}" for name in NETWORKS.split() for kind in ("id", "text")}
    expected |= {f"{name}_id" for name in ["naml", "nrms", "lstur", "npa", "miner", "fastformer"]}
    presets = ["bert", "llama", "opt", "glm", "qwen", "iisan"]
    bases = ["naml", "nrms", "lstur", "fastformer", "miner", "dcn"]
    expected |= {"plm-nr", *(f"{preset}-{base}" for preset in presets for base in bases)}
    assert expected <= models().keys()


BRICKS = read_document(CONFIG_FOLDER / "bricks.yaml").data


@pytest.mark.parametrize("family", FAMILIES)
def test_a_brick_of_the_table_is_valid_and_some_model_has_it(family: str) -> None:
    used = {model.bricks.get(family) for model in models().values()}
    assert BRICKS[family].keys() <= used
    assert {settings["name"] for settings in BRICKS[family].values()} <= set(bricks(family).names())
