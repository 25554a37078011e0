"""``--load RUN``: a run folder knows how it was trained; only how it is measured may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import worker
from legos.config.saved import read_description
from legos.config.yaml_files import KINDS
from legos.modes.main import run
from tests.modes.tiny_config import tiny_config
from tests.tiny import tiny_tables


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables, token vectors as a file, and a trained run that reads both."""
    folder = tmp_path_factory.mktemp("world")
    tables = tiny_tables(folder / "tables")
    words = json.loads((tables / "columns" / "vocabulary" / "words.json").read_text())
    (folder / "glove.txt").write_text(
        "".join(f"{word} 1.0 0.5 {len(word)}.0\n" for word in words[1:])
    )
    config = tiny_config(tables, folder / "runs", mode="train", train={"epochs": 1})
    embed = {"name": "glove", "source": "text_file", "path": str(folder / "glove.txt")}
    run(type(config).model_validate({**config.model_dump(), "embed": embed}))
    return folder


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run under another name; the current folder is another one, too."""
    (found,) = world.glob("runs/tiny/naml/*")
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(found, tmp_path / "renamed"))


def test_tables_beside_the_runs_are_found_from_another_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tables = tmp_path / "runs/shop/naml/0123456789ab", tmp_path / "data/shop"
    for folder in (run, tables):
        folder.mkdir(parents=True)
    (tables / "manifest.json").write_text("{}")
    sections = {kind: {"folder": "data/shop"} for kind in KINDS}
    said = {"format": 2, "run": run.name, "sources": {}, **sections}
    (run / "config.json").write_text(json.dumps(said))
    monkeypatch.chdir(tmp_path)
    assert read_description(run).sections["data"]["folder"] == "data/shop"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert read_description(run).sections["data"]["folder"] == str(tables)
    assert read_description(run).sections["exp"]["folder"] == "data/shop"


def results(folder: Path) -> dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]:
    found: dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]] = json.loads(
        (folder / "results.json").read_text()
    )
    return found


def test_a_run_folder_alone_is_measured_where_it_lies(place: Path) -> None:
    assert worker.main(["--exp", "test", "--load", str(place)]) == 0
    assert "GAUC" in results(place)["splits"]["test"]["rows"]["all"]
    assert {path.name for path in place.parent.iterdir()} == {"renamed"}
    assert json.loads((place / "config.json").read_text())["exp"]["load"] is None
    assert worker.main(["--exp", "test", "--load", str(place)]) == 0


@pytest.mark.parametrize("inside", ["", "checkpoints/best"])
def test_no_experiment_is_needed_and_a_checkpoint_will_do(place: Path, inside: str) -> None:
    assert worker.main(["--load", str(place / inside)]) == 0
    assert results(place)["splits"]["test"]


def test_another_checkpoint_of_a_run_is_measured_in_a_folder_of_its_own(place: Path) -> None:
    last = str(place / "checkpoints" / "last")
    assert worker.main(["--load", last, "--exp.runs_folder", "elsewhere"]) == 0
    assert results(place)["splits"] == {}
    (found,) = Path("elsewhere").rglob("results.json")
    assert results(found.parent)["splits"]["test"]


@pytest.mark.parametrize(
    ("words", "metrics"),
    [
        (["--exp.evaluate.metrics", "[HR@2]"], {"HR@2", "GAUC"}),
        (["--exp", "test", "--exp.evaluate.ranking", "all", "--exp.evaluate.metrics", "[MRR]"],
         {"MRR", "GAUC"}),
        (["--device", "cpu", "--exp", "test"], {"GAUC", "MRR", "nDCG@5", "nDCG@10"}),
    ],
)  # fmt: skip
def test_it_is_measured_in_other_ways(place: Path, words: list[str], metrics: set[str]) -> None:
    assert worker.main([*words, "--load", str(place)]) == 0
    found = set(results(place)["splits"]["test"]["rows"]["all"])
    assert {name for name in found if not name.endswith("@10") or name in metrics} >= metrics


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exp.train.lr", "0.5"], "exp.train.lr: 0.5, trained with 0.01"),
        (["--lr", "0.5", "--exp", "test"], "exp.train.lr: 0.5, trained with 0.01"),
        (["--model.hidden_size", "4"], "model.hidden_size: 4, trained with 8"),
        (["--model", "nrms"], "trained with other settings"),
        (["--data.history_length", "2"], "data.history_length: 2, trained with 6"),
        (["--exp.train.seed", "5"], "exp.train.seed: 5, trained with 1"),
        (["--embed", "null"], "embed.source: 'random', trained with 'text_file'"),
        (["--hidden_size", "4"], "--hidden_size: nothing reads it beside --load"),
        (["--exp", "tt"], "load is read by modes test, export and recommend only, this"),
        (["--data.splits.test", "[tset]"], "no split 'tset'"),
        (["--data.folder", "gone"], "--data.folder FOLDER gives their new location"),
    ],
)
def test_what_would_change_the_weights_is_refused(
    place: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (place / "config.json").read_bytes()
    assert worker.main([*words, "--load", str(place)]) == 2
    assert message in capsys.readouterr().err
    assert (place / "config.json").read_bytes() == before
    assert {path.name for path in place.parent.iterdir()} == {"renamed"}


def test_tables_and_files_that_moved_are_given_anew_and_others_are_refused(
    place: Path, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(world / "tables", place.parent / "tables")
    glove = Path(shutil.copy(world / "glove.txt", place.parent / "vectors.txt"))
    words = ["--load", str(place), "--data.folder", str(moved), "--embed.path", str(glove)]
    assert worker.main(words) == 0
    assert results(place)["splits"]["test"]
    glove.write_text(glove.read_text().replace("0.5", "0.6"))
    assert worker.main(words) == 2
    assert "embed.path: its content hash is" in capsys.readouterr().err
    other = tiny_tables(place.parent / "other", seed=3)
    words = ["--load", str(place), "--embed.path", str(world / "glove.txt")]
    assert worker.main([*words, "--data.folder", str(other)]) == 2
    found = capsys.readouterr().err
    assert f"the tables in {other} are not those that it was trained on" in found
    assert "train again" in found
    assert "data.folder: its content hash is" in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a run folder: it has no config.json"),
        ("{", "config.json:1: not JSON"),
        ("[]", "format 'list', this version reads 2"),
        ('{"data": {}}', "format None, this version reads 2"),
        ('{"format": 1}', "format 1, this version reads 2"),
        ('{"format": 2}', "data, model, exp, embed missing"),
        (
            json.dumps({"format": 2, "run": "x", "sources": {}} | {key: {} for key in KINDS}),
            "give --data, --model, --embed and --exp as in the training",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=lambda text: str(text)[:20],
)
def test_what_is_no_run_folder_is_told(
    tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert worker.main(["--exp", "test", "--load", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(["--load", str(tmp_path / "gone")]) == 2
    assert "no such run folder" in capsys.readouterr().err


def test_the_newest_run_of_a_folder_and_the_digits_of_an_id_will_do(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    (run,) = world.glob("runs/tiny/naml/*")
    for named in ("runs/tiny", "tiny/naml", run.name[:5]):
        assert worker.main(["--load", named]) == 0
        assert run.name in capsys.readouterr().out
    assert worker.main(["--load", "0000", "--exp", "test"]) == 2
    assert f"the newest:\n  runs/tiny/naml/{run.name}" in capsys.readouterr().err


@pytest.mark.slow
def test_a_token_table_that_changed_is_another_run(world: Path, tmp_path: Path) -> None:
    """Other numbers in the file at the same path are not the finished run of the old ones."""
    glove = Path(shutil.copy(world / "glove.txt", tmp_path / "glove.txt"))
    config = tiny_config(world / "tables", tmp_path / "runs", train={"epochs": 1})
    embed = {"name": "glove", "source": "text_file", "path": str(glove)}
    config = type(config).model_validate({**config.model_dump(), "embed": embed})
    first = run(config)["run"]
    glove.write_text(glove.read_text().replace("0.5", "-0.7"))
    assert run(config)["run"] != first


def test_a_run_of_the_first_versions_opens_where_everything_else_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole.yaml"
    assert worker.main(["--exp", "test", "--load", str(place), "--save", str(whole)]) == 0
    written = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({kind: written[kind] for kind in KINDS}))
    (place / "results.json").unlink()
    words = [
        "--config",
        str(whole),
        "--exp.load",
        str(place),
        "--exp.runs_folder",
        str(tmp_path / "r"),
    ]
    assert worker.main(words) == 0
    assert "which did not record its inputs" in capsys.readouterr().err
    (measured,) = tmp_path.glob("r/tiny/naml/*/results.json")
    assert json.loads(measured.read_text())["splits"]["test"]
    assert worker.main(["--exp", "test", "--load", str(place)]) == 2
    assert "give --data, --model, --embed and --exp as in the training" in capsys.readouterr().err
