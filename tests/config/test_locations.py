"""A YAML by name: the user's own, beside tables, shipped; from any working directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from legos.config.help import list_families
from legos.config.load import load_run_config
from legos.config.locations import locate
from legos.config.models import names_of
from legos.config.schema import RunConfig
from legos.config.yaml_files import CONFIG_FOLDER
from legos.errors import ConfigError
from legos.settings import OF_WEIGHTS, deciding


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that is no checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def load(*words: str) -> RunConfig:
    return load_run_config(["--data", "newsroom", "--model", "naml", "--exp", "tt", *words])


def write_tables(folder: str) -> None:
    """As much of a folder of tables as a configuration reads."""
    write(f"{folder}/manifest.json", "{}")
    write(
        f"{folder}/data.yaml",
        "# A shop\nname: shop\nfolder: where/they/were\nfields: [title@bert]\nhistory_length: 20\n",
    )


def test_shipped_yamls_are_found_from_anywhere() -> None:
    config = load("--embed", "minilm-token")
    assert config.data.name == "newsroom"
    assert config.data.folder == Path("data/newsroom")
    assert config.embed.name == "minilm-token"


def test_a_shipped_yaml_is_imported_by_its_name() -> None:
    path = write("far/away/mine.yaml", "$$import: legos:model/naml.yaml\nname: mine\n")
    model = load_run_config(["--data", "newsroom", "--model", str(path), "--exp", "tt"]).model
    assert (model.name, model.model_dump()["item"]["name"]) == ("mine", "cnn")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("legos:model/nmal.yaml", "did you mean 'naml.yaml'"),
        ("legos:model/nrms.yaml", "write `like: nrms` in place of the import"),
        ("legos:../pyproject.yaml", "expected the like of legos:model/naml.yaml"),
        ("naml.yaml", "the shipped one is legos:model/naml.yaml"),
    ],
)
def test_an_import_that_is_not_there_is_told_what_is(name: str, message: str) -> None:
    path = write("mine.yaml", f"$$import: {name}\nname: mine\n")
    with pytest.raises(ConfigError) as error:
        load_run_config(["--data", "newsroom", "--model", str(path), "--exp", "tt"])
    assert message in str(error.value)


def test_own_yamls_come_before_tables_and_these_before_shipped_ones() -> None:
    assert locate("data", "newsroom") == CONFIG_FOLDER / "data" / "newsroom.yaml"
    write_tables("data/newsroom")
    assert locate("data", "newsroom") == Path("data/newsroom/data.yaml")
    own = write("config/data/newsroom.yaml", "name: own\n")
    assert locate("data", "newsroom") == own
    assert locate("data", "legos:data/newsroom") == CONFIG_FOLDER / "data" / "newsroom.yaml"


def test_a_file_of_the_working_directory_is_no_name() -> None:
    write("naml.yaml", "like: nrms\nname: mine\n")
    words = ["--data", "newsroom", "--exp", "tt", "--model"]
    assert load_run_config([*words, "naml.yaml"]).model.name == "mine"
    assert load_run_config([*words, "naml"]).model.name == "naml"
    assert load_run_config([*words, "nrms.yaml"]).model.name == "nrms"


@pytest.mark.parametrize("name", ["shop", "data/shop", "data/shop/", "data/shop/data.yaml"])
def test_tables_bring_their_data_yaml_and_may_have_moved(name: str) -> None:
    write_tables("data/shop")
    config = load_run_config(["--data", name, "--model", "naml", "--exp", "tt"])
    assert (config.data.name, config.data.folder) == ("shop", Path("data/shop"))


def test_home_holds_tables_runs_and_caches(
    place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables("data/shop")
    monkeypatch.setenv("LEGOS_HOME", str(place))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert load().data.folder == place / "data/newsroom"
    words = ["--data", "shop", "--model", "bert-naml", "--exp", "tt-llm"]
    config = load_run_config(words)
    assert config.data.folder == place / "data/shop"
    assert config.exp.runs_folder == place / "runs"
    assert config.exp.cache.folder == place / "cache/hidden"
    assert load("--exp.runs_folder", "runs").exp.runs_folder == Path("runs")
    monkeypatch.delenv("LEGOS_HOME")
    monkeypatch.chdir(place)
    elsewhere = load_run_config(words)
    assert elsewhere.exp.runs_folder == Path("runs")
    assert deciding(elsewhere, OF_WEIGHTS) == deciding(config, OF_WEIGHTS)  # the same run id


def test_an_own_model_may_be_like_the_shipped_one_of_its_name() -> None:
    write("config/model/naml.yaml", "# Ours\nlike: naml\nname: naml\nhidden_size: 32\n")
    assert load().model.model_dump()["hidden_size"] == 32
    assert load("--model.item.dropout", "0.3").model.model_dump()["item"]["dropout"] == 0.3
    assert names_of("model")[0] == "naml"


def test_lists_and_errors_know_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    write_tables("data/shop")
    write("config/data/pets.yaml", "# Toys for dogs\nname: pets\n")
    list_families(["data"])
    lines = [line.split("  ")[1:] for line in capsys.readouterr().out.splitlines()]
    assert [word.strip() for word in lines[1] if word] == ["pets", "Toys for dogs"]
    assert [word.strip() for word in lines[2] if word] == ["shop", "A shop"]
    for name, meant in (("shp", "shop"), ("pest", "pets"), ("newsrom", "newsroom")):
        with pytest.raises(
            ConfigError,
            match=f"--data {name}: no such YAML, nor tables in .*; did you mean '{meant}",
        ):
            locate("data", name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data/bare", "tables without data.yaml; give the data YAML that reads them"),
        ("data/none", "--data data/none: no tables; did you mean 'bare'|choose from"),
        ("config/data/mind.yaml", "needs only its name: --data mind"),
        ("data/shop.yaml", "--data data/shop.yaml: no such file"),
    ],
)
def test_a_folder_without_a_yaml_says_what_it_lacks(name: str, message: str) -> None:
    write("data/bare/manifest.json", "{}")
    Path("data/none").mkdir()
    with pytest.raises(ConfigError, match=message):
        locate("data", name)
