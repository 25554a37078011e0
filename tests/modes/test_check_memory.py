"""``--check --processes 8``: memory of a device for published models, with no weights here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import worker
from legos.config.schema import RunConfig
from legos.files import write_json
from legos.modes.check import check
from tests.systems.cllm4rec.world import world_config, world_tables
from tests.tiny import tiny_tables
from tests.workplace.test_language import epochs, language_config

LLAMA = {
    "model_type": "llama", "vocab_size": 32_000, "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "intermediate_size": 11_008, "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12}
CARD = 24e9 / 2**30  # GiB of a card of 24 GB
_UNITS = {"B": 2**-30, "KiB": 2**-20, "MiB": 2**-10, "GiB": 1.0}


def told(
    config: RunConfig, capsys: pytest.CaptureFixture[str], processes: int = 8
) -> dict[str, list[float]]:
    """GiB by processes: parameters, gradients, optimizer, activations, all, checkpointed, all."""
    capsys.readouterr()
    check(config, Console(width=80), processes=processes)  # a table too wide is not folded
    lines = iter(capsys.readouterr().out.splitlines())
    next(line for line in lines if line.startswith("memory on cpu of "))
    next(lines)
    found = {}
    for line in lines:
        row = re.match(r" *(\d+(?: DDP| FSDP)?) ", line)
        if row is None:
            break
        sizes = re.findall(r"([\d.]+) (B|KiB|MiB|GiB)\b", line)
        found[row[1]] = [float(number) * _UNITS[unit] for number, unit in sizes]
    assert all(len(sizes) == 7 for sizes in found.values())
    return found


def published(folder: Path, shape: dict[str, Any]) -> dict[str, Any]:
    """What a model YAML says of a folder with a config.json and nothing else."""
    write_json(folder / "config.json", shape)
    return {"name": "published", "path": str(folder)}


@pytest.mark.slow
def test_llama_7b_with_lora_under_dire(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = tiny_tables(tmp_path / "tables")
    brick = {"model": published(tmp_path / "llama", LLAMA), "lora_rank": 32}
    half = language_config(tables, tmp_path, exp=epochs(1), dtype="bf16", **brick)
    small = language_config(tables, tmp_path, exp=epochs(1), dtype="bf16", quantised="nf4", **brick)
    bf16, nf4 = told(half, capsys), told(small, capsys)
    assert bf16["1"][0] == pytest.approx(12.4, abs=0.1)
    assert nf4["1"][0] == pytest.approx(3.8, abs=0.1)
    assert CARD > bf16["1"][4] > nf4["1"][4]
    assert bf16["8 DDP"][0] == bf16["1"][0]
    assert bf16["8 FSDP"][4] < 0.4 * bf16["8 DDP"][4]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_cllm4rec(
    shape: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world_tables(tmp_path / "tables", reviews=True)
    source = published(tmp_path / "published", shape)
    model = {"model": source, "max_length": 512, "backbone": {"row_tokens": 32}}
    found = told(world_config(tmp_path, model=model), capsys)
    numbers = {"gpt2": 124_439_808, "llama": 6_738_415_616}[str(shape["model_type"])]
    assert found["1"][0] == pytest.approx(4 * numbers / 2**30, rel=0.01)
    assert found["1"][6] < found["1"][4]
    assert found["8 DDP"][3] < found["1"][3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "8"], "--processes needs --check"),
        (["--check", "--processes", "none"], "expected a number of processes, such as 8"),
        (["--check", "--processes"], "--processes: needs a number"),
    ],
)
def test_a_wrong_number_of_processes_is_told(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(["--model", "naml", *words]) == 2
    assert message in capsys.readouterr().err
