"""``python -m process.item_vectors``: the texts of the tables, encoded, with the items' ids."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.data.vector_files import Encoding, encoder_of, read_vector_rows
from legos.errors import ConfigError
from legos.files import sha256_of_file
from legos.lm.locate import model_folder
from legos.lm.text_vectors import TextEncoder, as_shipped, text_vectors
from process.command import run_cli
from process.item_vectors import build_parser, item_texts, main
from process.vector_blocks import VectorBlocks
from tests.lm.shipped import WIDTH, dense, ship
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


@pytest.mark.slow
def test_vectors_are_written_with_the_ids_of_items_that_have_text(
    tables: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = ship(tmp_path / "model", heads=(dense(WIDTH, 4), ("Normalize", {})))
    output = tmp_path / "v.safetensors"
    arguments = ["--tables", tables.folder, "--model", folder, "--output", output]
    assert run(monkeypatch, *arguments, "--max-length", "4", "--dimensions", "3") == 0
    how = as_shipped(folder, max_length=4, dimensions=3)
    rows = read_vector_rows(output)
    assert rows.ids == [f"N{row}" for row in range(1, 20)]
    assert np.array_equal(rows.values, text_vectors(item_texts(tables, None)[1:], folder, how))
    encoder = encoder_of(output)
    assert encoder is not None
    assert Encoding(**{name: getattr(encoder, name) for name in Encoding.model_fields}) == how
    told = capsys.readouterr().out
    assert "cut at 4 tokens: 17 of 19 texts lose 34 tokens" in told
    assert "19 vectors of 3 numbers; 1 items without text left out" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "tiny", "v.safetensors"]


@pytest.mark.slow
def test_the_library_encodes_the_same(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("sentence_transformers", reason="it is not installed")
    prompts = {"query": "title ", "passage": "abstract : "}
    folder = ship(tmp_path / "model", heads=(dense(WIDTH, 4),), whole={"prompts": prompts})
    model = library.SentenceTransformer(str(folder), device="cpu")
    texts = item_texts(tables, None)[1:]
    output = tmp_path / "v.safetensors"
    for words, expected in (
        (["--task", "query"], model.encode_query(texts)),
        (["--prompt-name", "passage"], model.encode(texts, prompt_name="passage")),
        (["--prompt", r"sea\nand "], model.encode(texts, prompt="sea\nand ")),
        ([], model.encode_document(texts)),
    ):
        shared = ["--tables", tables.folder, "--model", folder, "--output", output]
        assert run(monkeypatch, *shared, *words) == 0
        assert np.abs(read_vector_rows(output).values.numpy() - expected).max() < 1e-5, words


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pages of two texts and a block each; collects the texts of every page that is encoded."""
    pages: list[int] = []
    whole = TextEncoder._page

    def page(self: TextEncoder, tokens: Ragged, items: Tensor) -> Tensor:
        pages.append(len(items))
        return whole(self, tokens, items)

    monkeypatch.setattr("legos.lm.text_vectors.BATCH_TOKENS", 12)
    monkeypatch.setattr(TextEncoder.pages, "__defaults__", (12,))
    monkeypatch.setattr("process.item_vectors.BLOCK_TOKENS", 20)
    monkeypatch.setattr(TextEncoder, "_page", page)
    return pages


@pytest.mark.slow
def test_a_killed_run_goes_on_and_writes_the_same_bits(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: list[int]
) -> None:
    folder = ship(tmp_path / "model", heads=(dense(WIDTH, 4),))
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    shared = ["--tables", tables.folder, "--model", folder, "--output"]
    assert run(monkeypatch, *shared, whole) == 0
    number = len(small_blocks)
    assert number > 6
    write = VectorBlocks.write

    def kill(self: VectorBlocks, block: int, vectors: np.ndarray) -> None:
        if block == 2:
            raise KeyboardInterrupt
        write(self, block, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(VectorBlocks, "write", kill)
        run(patch, *shared, killed)
    partial = tmp_path / "killed.safetensors.partial"
    left = ["block-00000.npy", "block-00001.npy", "facts.json"]
    assert sorted(path.name for path in partial.iterdir()) == left
    assert not killed.exists()
    damaged = partial / "block-00001.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    small_blocks.clear()
    assert run(monkeypatch, *shared, killed) == 0
    assert 0 < len(small_blocks) < number
    rows, expected = read_vector_rows(killed), read_vector_rows(whole)
    assert rows.ids == expected.ids
    assert torch.equal(rows.values, expected.values)
    assert not partial.exists()


SLOW = """
import time
from legos.lm import text_vectors
from process import item_vectors
from process.command import run_cli

page = text_vectors.TextEncoder._page

def slowly(self, tokens, items):
    time.sleep(0.2)
    return page(self, tokens, items)

text_vectors.BATCH_TOKENS, item_vectors.BLOCK_TOKENS = 12, 20
text_vectors.TextEncoder.pages.__defaults__ = (12,)
text_vectors.TextEncoder._page = slowly
run_cli(item_vectors.main, item_vectors.build_parser())
"""


@pytest.mark.slow
def test_kill_9_costs_a_block(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: list[int]
) -> None:
    folder = ship(tmp_path / "model", heads=(dense(WIDTH, 4),))
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    shared = ["--tables", tables.folder, "--model", folder, "--output"]
    assert run(monkeypatch, *shared, whole) == 0
    number = len(small_blocks)
    command = [sys.executable, "-c", SLOW, *map(str, shared), str(killed)]
    second = tmp_path / "killed.safetensors.partial/block-00001.npy"
    with subprocess.Popen(command, cwd=ROOT) as process:
        while not second.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not killed.exists()
    small_blocks.clear()
    assert run(monkeypatch, *shared, killed) == 0
    assert 0 < len(small_blocks) < number
    expected = read_vector_rows(whole).values
    assert torch.equal(read_vector_rows(killed).values, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--max-length", "9"], "was begun with other max_length: null, not 9"),
        (["--dimensions", "2"], "was begun with other dimensions: null, not 2"),
        (["--prompt", "sea "], 'was begun with other prompt: "", not "sea "'),
        (["--field", "title"], "was begun with other texts"),
    ],
)
def test_other_settings_do_not_go_on(
    tables: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
) -> None:
    folder = ship(tmp_path / "model", heads=(dense(WIDTH, 4),))
    output = tmp_path / "v.safetensors"
    shared = ["--tables", tables.folder, "--model", folder, "--output", output]

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("process.item_vectors.write_item_vectors", kill)
        run(patch, *shared)
    assert run(monkeypatch, *shared, *change) == 2
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert "v.safetensors.partial" in told
    assert run(monkeypatch, *shared) == 0


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
    expected = text_vectors(item_texts(tables, None)[1:], folder)
    assert np.array_equal(read_vector_rows(output).values.numpy(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--field", "titel"], "--field 'titel': no such text field; did you mean 'title'?"),
        (["--field", "category"], "--field 'category': no such text field"),
        (["--model", "absent"], "language model 'absent'"),
        (["--task", "query", "--prompt", ""], "--prompt: cannot be combined with --task"),
        (["--prompt-name", "qeury"], "no prompt is called 'qeury'; did you mean 'query'"),
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
    for expected in ("embed.item_vectors", "example:", "default: minilm", "encode_document"):
        assert expected in shown
