"""GLM-10B on cards of 24 GB, to be read off ``--check`` with no weights here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from legos.data.tables import Tables
from legos.modes.check import check
from tests.modes.test_check_memory import CARD, published, told
from tests.systems.recsysllm.system import system_config

GLM = {
    "model_type": "glm", "num_layers": 48, "hidden_size": 4096, "num_attention_heads": 64,
    "vocab_size": 50_304, "max_sequence_length": 1024,
}  # fmt: skip


@pytest.mark.slow
def test_glm_10b_on_two_cards(
    reviewed: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: dict[str, Any] = {
        "model": published(tmp_path / "glm", GLM),
        "backbone": {"kind": "glm", "layers": None, "dtype": "bf16", "lora_targets": ["linear"]},
        "positions": {"max_tokens": 1024},
        "train": {"batch_size": 8, "batch_tokens": 4096},
    }
    config = system_config(reviewed.folder, tmp_path, model=model)
    found = told(config, capsys, processes=2)
    assert found["1"][0] == pytest.approx(18.5, abs=0.1)
    assert found["1"][6] < 24 < found["1"][4]
    assert found["2 FSDP"][6] < CARD
    model["backbone"]["quantised"] = "nf4"
    small = told(system_config(reviewed.folder, tmp_path, model=model), capsys, processes=2)
    assert small["2 DDP"][6] < 0.6 * CARD


@pytest.mark.slow
def test_a_shape_is_enough_where_there_is_no_folder(
    reviewed: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source: dict[str, Any] = {"name": "glm", "path": str(tmp_path / "nowhere")}
    source["shape"] = {"model_type": "glm_infill", "size": "glm-10b"}
    model: dict[str, Any] = {
        "model": source,
        "backbone": {"kind": "glm", "layers": None, "lora_targets": ["linear"]},
        "positions": {"max_tokens": 1024},
    }
    config = system_config(reviewed.folder, tmp_path, model=model)
    check(config, Console(width=200))
    text = capsys.readouterr().out
    assert "memory on cpu of" in text
    assert "run folder: unknown until the language model is available (model.model)" in text
