"""``python -m process.item_vectors``: the texts of the tables, encoded, with the items' ids."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.data.tables import Tables
from legos.data.vector_files import read_vector_rows
from legos.errors import ConfigError
from legos.files import sha256_of_file
from legos.lm import states as encoding
from legos.lm.locate import model_folder
from process.command import run_cli
from process.item_vectors import build_parser, item_texts, main
from tests.tiny import tiny_tables

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Two text fields; item 0 has no text, item 1 no title, item 2 no abstract."""
    folder = tiny_tables(tmp_path / "tiny", num_items=20)
    texts = {
        "title": [f"title {row}" if row not in (0, 1) else "" for row in range(20)],
        "abstract": [f"abstract {row}" if row not in (0, 2) else "" for row in range(20)],
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, rows in texts.items():
        path = folder / f"columns/items/{name}.json"
        path.write_text(json.dumps(rows))
        manifest["fields"][name] = {"kind": "text", "tokenizers": []}
        manifest["files"][f"columns/items/{name}.json"] = {
            "bytes": path.stat().st_size,
            "sha256": sha256_of_file(path),
        }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Tables.load(folder)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["process.item_vectors", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_cli(main, build_parser())
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_texts_are_joined_in_the_order_asked(tables: Tables) -> None:
    both = item_texts(tables, None)
    assert both[:4] == ["", "abstract 1", "title 2", "title 3. abstract 3"]
    assert item_texts(tables, ["abstract", "title"])[3] == "abstract 3. title 3"
    assert item_texts(tables, ["title"])[:3] == ["", "", "title 2"]


def test_vectors_are_written_with_the_ids_of_items_that_have_text(
    tables: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[str] = []

    def encode(texts: list[str], folder: Path, *, max_length: int, **named: Any) -> np.ndarray:
        seen.extend([*texts, f"{folder} {max_length}"])
        return np.arange(len(texts) * 2, dtype=np.float32).reshape(-1, 2)

    monkeypatch.setattr(encoding, "text_vectors", encode)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").touch()
    output = tmp_path / "v.safetensors"
    arguments = ["--tables", tables.folder, "--model", tmp_path / "model", "--output", output]
    assert run(monkeypatch, *arguments, "--max-length", "7") == 0
    assert seen == [*item_texts(tables, None)[1:], f"{tmp_path / 'model'} 7"]
    rows = read_vector_rows(output)
    assert rows.ids == [f"N{row}" for row in range(1, 20)]
    assert np.array_equal(rows.values.numpy(), np.arange(38).reshape(-1, 2))
    assert "19 vectors of 2 numbers; 1 items without text left out" in capsys.readouterr().out


@pytest.mark.slow
def test_the_packaged_model_encodes(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    try:
        folder = model_folder("minilm")
    except ConfigError as error:
        pytest.skip(str(error))
    output = tmp_path / "v.safetensors"
    assert run(monkeypatch, "--tables", tables.folder, "--output", output) == 0
    expected = encoding.text_vectors(item_texts(tables, None)[1:], folder)
    assert np.array_equal(read_vector_rows(output).values.numpy(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--field", "titel"], "--field 'titel': no such text field; did you mean 'title'?"),
        (["--field", "category"], "--field 'category': no such text field"),
        (["--model", "absent"], "language model 'absent'"),
        (["--max-length", "0"], "--max-length: expected a whole number from 1"),
        (["--output", "v.npy"], "v.npy: items are written with their ids"),
        (["--tables", "absent"], "absent: no manifest.json"),
    ],
)
def test_what_cannot_be_is_refused(
    tables: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code = run(monkeypatch, "--tables", "tiny", "--output", "v.safetensors", *arguments)
    assert code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_the_help_teaches(help_of: Callable[[str], str]) -> None:
    shown = help_of("process.item_vectors")
    for expected in ("embed.item_vectors", "example:", "default: minilm"):
        assert expected in shown
