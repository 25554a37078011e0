"""One row of docs/errors.md a test: command, message, exit code, what is left on disk."""

from __future__ import annotations

import errno
import gzip
import json
import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import worker
from tests.tiny import tiny_tables
from tests.training.watched import STEPPED, Strike, striking

ROOT = Path(__file__).parent.parent
NEWS = "N{n}\tsports\tsoccer\tTitle {n}\tText\thttps://x\t[]\t[]"
VIEW = "{n}\tU1\t11/1{day}/2019 8:00:00 AM\tN1 N2\tN3-1 N4-0"


@dataclass
class Place:
    """A working folder with raw files, tables and a data YAML."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def tables(self) -> Path:
        return self.folder / "tables"

    def command(self, *words: str) -> list[str]:
        """Train the smallest model on the tables."""
        yaml = self.folder / "tiny.yaml"
        yaml.write_text(
            f"name: tiny\nfolder: {self.tables}\nhistory_length: 10\n"
            "fields: [{column: title@words, length: 5}, {column: category}]\n"
        )
        return [
            *("--data", str(yaml), "--model", "pooling", "--exp", "train"),
            *("--hidden_size", "8", "--exp.train.epochs", "1", "--device", "cpu"),
            *("--exp.runs_folder", str(self.folder / "runs"), *words),
        ]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    here = Place(tmp_path)
    for name, days in (("train", (1, 2)), ("dev", (3,))):
        folder = here.raw / name
        folder.mkdir(parents=True)
        (folder / "news.tsv").write_text("\n".join(NEWS.format(n=n) for n in range(1, 6)) + "\n")
        lines = [VIEW.format(n=n, day=day) for n, day in enumerate(days, start=1)]
        (folder / "behaviors.tsv").write_text("\n".join(lines) + "\n")
    return here


def process_mind(place: Place, monkeypatch: pytest.MonkeyPatch) -> int:
    """``python -m process.mind`` in this process; returns its exit code."""
    words = ["--raw", str(place.raw), "--output", str(place.folder / "out"), "--no-unitok"]
    monkeypatch.setattr(sys, "argv", ["process.mind", *words, "--tokenizer", "words=words"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("process.mind.__main__", run_name="__main__")
    return int(str(stop.value.code))


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def gzip_cut(place: Place) -> None:
    path = place.raw / "train" / "behaviors.tsv"
    whole = gzip.compress(path.read_bytes() * 500)
    (path.parent / "behaviors.tsv.gz").write_bytes(whole[: len(whole) // 2])
    path.unlink()


RAW_FAULTS: dict[str, tuple[Callable[[Place], object], str]] = {
    "missing file": (
        lambda p: (p.raw / "train" / "news.tsv").unlink(),
        "news.tsv",
    ),
    "wrong number of columns": (
        lambda p: edit(p.raw / "train" / "behaviors.tsv", lambda t: t + "3\tU1\n"),
        "behaviors.tsv:3",
    ),
    "unknown news id": (
        lambda p: edit(p.raw / "dev" / "behaviors.tsv", lambda t: t.replace("N4-0", "N9-0")),
        "behaviors.tsv:1: candidate 'N9' is not in news.tsv",
    ),
    "duplicate ids": (
        lambda p: edit(p.raw / "train" / "news.tsv", lambda t: t + NEWS.format(n=2) + "\n"),
        "'N2'",
    ),
    "empty file": (
        lambda p: (p.raw / "train" / "behaviors.tsv").write_text(""),
        "behaviors.tsv: ",
    ),
    "non-UTF-8": (
        lambda p: (p.raw / "train" / "news.tsv").write_bytes(
            (p.raw / "train" / "news.tsv").read_bytes() + b"N8\tcaf\xe9\t\t\t\t\t\t\n"
        ),
        "news.tsv:6: not UTF-8",
    ),
    "truncated gz": (gzip_cut, "behaviors.tsv.gz"),
}


@pytest.mark.parametrize("fault", RAW_FAULTS)
def test_raw_files(
    fault: str,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage, message = RAW_FAULTS[fault]
    damage(place)
    assert process_mind(place, monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert not [path for path in place.folder.iterdir() if "out" in path.name]


def misspell(place: Place, old: str, new: str) -> list[str]:
    command = place.command()
    edit(place.folder / "tiny.yaml", lambda text: text.replace(old, new))
    return command


def circular(place: Place) -> list[str]:
    path = place.folder / "circle.yaml"
    path.write_text("name: ${exp.mode}\nmode: ${exp.name}\n")
    return place.command("--exp", str(path))


def other_impressions(place: Place) -> list[str]:
    place.command()
    other = place.folder / "other.yaml"
    other.write_text(f"$$import: {place.folder / 'tiny.yaml'}\nname: other\ngroup_by: user\n")
    return compared(place, f"[{{model: pooling, data: {other}}}]")


def compared(place: Place, models: str) -> list[str]:
    words = place.command("--exp", "compare", "--exp.compare.models", models)
    model = words.index("--model")
    return words[:model] + words[model + 2 :]


def without_variable(place: Place) -> list[str]:
    return misspell(place, "name: tiny", "name: ${set_name}")


CONFIG_FAULTS: dict[str, tuple[Callable[[Place], list[str]], str]] = {
    "unknown brick": (
        lambda p: p.command("--model.item.name", "poling"),
        "unknown item encoder 'poling'; did you mean 'pooling'?",
    ),
    "misspelled key": (
        lambda p: misspell(p, "history_length", "history_lenght"),
        "did you mean 'history_length'",
    ),
    "wrong type": (
        lambda p: p.command("--exp.train.batch_size", "many"),
        "exp.train.batch_size",
    ),
    "comparison on other impressions": (
        other_impressions,
        "exp.compare.models.0.data.group_by: other has user, but tiny (--data) has impression",
    ),
    "unknown row in `against`": (
        lambda p: compared(p, "[nrms, {model: naml, against: nmrs}]"),
        "models.1.against: no row is called 'nmrs'; did you mean 'nrms'",
    ),
    "unused CLI variable": (lambda p: p.command("--batch_sizes", "8"), "did you mean 'batch_size'"),
    "missing ${variable}": (without_variable, "set_name"),
    "circular reference": (circular, "exp.name"),
    "unknown item field": (
        lambda p: misspell(p, "title@words", "titel@words"),
        "did you mean 'title@words'",
    ),
    "unknown system": (
        lambda p: p.command("--model", "cllm4rec", "--model.system", "cllm4re"),
        "model.system: unknown system 'cllm4re'; did you mean 'cllm4rec'?",
    ),
    "incompatible sizes": (
        lambda p: p.command("--model", "nrms", "--model.item.num_heads", "3"),
        "model.item (attention): num_heads 3 does not divide hidden_size 8",
    ),
    "unknown language model": (
        lambda p: p.command("--model", "bert-naml", "--llm_ver", "minilmm"),
        "language model 'minilmm': neither a name of config/llm.yaml nor",
    ),
    "language model not on this machine": (
        lambda p: p.command("--model", "bert-naml", "--llm_ver", "12L"),
        "`hf download google-bert/bert-base-uncased` fetches it",
    ),
    "unknown generated items": (
        lambda p: p.command("--data.generated_items.column", "written"),
        "users have no column 'written' of generated items; there is none",
    ),
    "no such layer": (
        lambda p: p.command("--model", "bert-naml", "--layer", "6"),
        "layer 6: minilm has 6 layers, so the cut must be between 0 (nothing cached) and 5",
    ),
    "LoRA on a frozen model": (
        lambda p: p.command("--model", "bert-naml", "--lora", "8", "--frozen", "true"),
        "LoRA is a way of training",
    ),
}


OTHER_FAULTS = (
    "`--load` of another model",
    "checkpoint cut short",
    "tables of an older version",
    "column cut short",
    "disk full while writing",
    "Ctrl-C while training",
)


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_configuration(fault: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_tables(place.tables)
    command, message = CONFIG_FAULTS[fault]
    words = command(place)
    last = {name: words[i + 1] for i, name in enumerate(words) if name.startswith("--")}
    assert worker.main([word for pair in last.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not list(place.folder.glob("runs/**/results.json"))


def trained(place: Place) -> Path:
    """Train once; returns the best checkpoint."""
    tiny_tables(place.tables)
    assert worker.main(place.command()) == 0
    (best,) = place.folder.glob("runs/tiny/pooling/*/checkpoints/best")
    return best


def test_checkpoint_of_another_model(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    best = trained(place)
    words = place.command("--exp.load", str(best), "--exp.mode", "test")
    words[words.index("pooling")] = "naml"
    assert worker.main(words) == 2
    assert "trained with other settings; with --load give only" in capsys.readouterr().err


def test_checkpoint_cut_short(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    best = trained(place)
    weights = best / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert worker.main(place.command("--exp.load", str(best), "--exp.mode", "test")) == 2
    assert "model.safetensors" in capsys.readouterr().err


def test_tables_of_an_older_version(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_tables(place.tables)
    manifest = json.loads((place.tables / "manifest.json").read_text())
    (place.tables / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))
    assert worker.main(place.command()) == 2
    assert "tables of format 0, this version reads format 1" in capsys.readouterr().err


def test_column_cut_short(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_tables(place.tables)
    column = place.tables / "columns" / "items" / "title@words.values.npy"
    column.write_bytes(column.read_bytes()[:-4])
    assert worker.main(place.command()) == 2
    error = capsys.readouterr().err
    assert "title@words.values.npy: has " in error
    assert "make the tables again" in error


def test_disk_full_while_writing(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import process.columns

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("write_array", "write_json"):
        if hasattr(process.columns, name):
            monkeypatch.setattr(process.columns, name, full)
    assert process_mind(place, monkeypatch) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert not [path for path in place.folder.iterdir() if "out" in path.name]


def test_ctrl_c_while_training(place: Place) -> None:
    tiny_tables(place.tables)
    with striking(Strike(STEPPED, 1)):
        assert worker.main(place.command()) == 130
    assert list(place.folder.glob("runs/**/checkpoints/last/model.safetensors"))
    assert not list(place.folder.glob("runs/**/results.json"))
    assert worker.main(place.command()) == 0
    assert list(place.folder.glob("runs/**/results.json"))


def test_every_mistake_has_its_row_in_the_docs() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    for mistake in (*RAW_FAULTS, *CONFIG_FAULTS, *OTHER_FAULTS):
        assert mistake in rows
