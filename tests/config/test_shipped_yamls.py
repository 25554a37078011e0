"""Every YAML below config/, wherever it lies: it loads, it is explained, its command works."""

from __future__ import annotations

import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from legos.config.load import asks_for_vectors, load_embed_job, load_run_config
from legos.config.locations import CONFIG_FOLDER, KINDS, headline, yaml_files
from legos.config.references import referenced_variables
from legos.config.variables import PUBLISHED
from legos.config.yaml_files import read_document
from legos.lm.source import LanguageModelSource

ROOT = CONFIG_FOLDER.parent
SHIPPED = [path.relative_to(ROOT) for path in yaml_files(CONFIG_FOLDER)]
OF_A_KIND = [path for path in SHIPPED if path.parts[1] in KINDS]


def models_on_data() -> list[Any]:
    """Every model YAML with every data YAML, as pytest parameters.

    Each of them always runs once, with a partner that a seed deals; the others are ``nightly``.
    """
    models, data = ([p for p in OF_A_KIND if p.parts[1] == kind] for kind in ("model", "data"))
    dealt = [place % len(data) for place in range(len(models))]
    random.Random(0).shuffle(dealt)
    return [
        pytest.param(
            model,
            other,
            id=f"{model.stem}-{other.stem}",
            marks=[] if place == chosen else [pytest.mark.nightly],
        )
        for model, chosen in zip(models, dealt, strict=True)
        for place, other in enumerate(data)
    ]


MODELS_ON_DATA = models_on_data()
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
    assert {path.parts[1] for path in SHIPPED} == {*KINDS, "bricks", "llm.yaml"}
    assert len(SHIPPED) >= 90


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


@pytest.mark.parametrize(("model", "data"), MODELS_ON_DATA)
def test_any_model_goes_with_any_data(model: Path, data: Path) -> None:
    config = load_run_config(["--data", str(data), "--model", str(model), "--exp", "tt-naml"])
    assert config.model.system != "bricks" or config.bricks.hidden_size == 64
    assert config.exp.train.negatives.count == 4


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
    assert expected <= {path.stem for path in OF_A_KIND if path.parts[1] == "model"}


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.parts[1] == "bricks"], ids=str)
def test_a_piece_is_one_brick_that_some_model_imports(path: Path) -> None:
    family = path.stem.split("_")[0]
    assert list(read_document(path).data) == [family]
    readers = [ROOT / other for other in SHIPPED if other.parts[1] in ("model", "bricks")]
    texts = [other.read_text(encoding="utf-8") for other in readers]
    assert any(re.search(rf"import.*\b{re.escape(path.name)}", text) for text in texts)
