"""Every shipped model of the family is one command, and CLLM4Rec-Emb two, on a small set.

The planted world of ``world.py``, and a small random GPT-2 or T5 as a folder of files.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import worker
from process import cllm4rec_vectors
from process.command import run_cli
from tests.systems.cllm4rec.world import world_config, world_language_model, world_tables

pytestmark = pytest.mark.slow
ROWS = ("cllm4rec_public_code", "llm_ftall", "cllm4rec", "llm_scratch", "llm_prerec", "llm_fixord")
ALWAYS = [*((name, "gpt2") for name in ROWS), *((name, "t5") for name in ROWS[:2])]
CASES = [*ALWAYS, *(pytest.param(name, "t5", marks=pytest.mark.nightly) for name in ROWS[2:])]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    world_tables(folder / "tables", reviews=True)
    data = world_config(folder).data.model_dump(mode="json")
    (folder / "world.yaml").write_text(f"# the planted world\n{json.dumps(data)}")
    return folder


def language_model(root: Path, family: str) -> Path:
    """Files of a small random model with the words of the planted world."""
    folder = root / family
    if not folder.exists():
        words = world_language_model(folder)["shape"]["vocab_size"]
        sizes: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        if family == "t5":
            sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
            sizes |= {"decoder_start_token_id": 0}
        kind = {"gpt2": transformers.GPT2LMHeadModel, "t5": transformers.T5ForConditionalGeneration}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: Any = kind[family]
            shape = {"vocab_size": words, "bos_token_id": 0, "eos_token_id": 0, **sizes}
            model(model.config_class(**shape)).save_pretrained(folder)
    return folder


def trained(root: Path, name: str, family: str, *more: str, called: str = "") -> Path:
    """The folder of the run that one command makes."""
    words = ["--data", str(root / "world.yaml"), "--model", name, "--exp", "cllm4rec"]
    words += ["--llm_ver", str(language_model(root, family)), "--max_length", "64"]
    words += ["--warmup_epochs", "1", "--pretraining_epochs", "2"]
    words += [] if name == "llm_prerec" else ["--finetuning_epochs", "2"]
    runs = root / "runs" / family
    words += ["--exp.runs_folder", str(runs), "--exp.cache.token_folder", str(root / "tokens")]
    words += ["--exp.evaluate.metrics", "[Recall@4, nDCG@10]", "--device", "cpu"]
    words += ["--exp.evaluate.beyond_accuracy_k", "null", "--exp.report", "false", *more]
    assert worker.main(words) == 0
    (folder,) = (runs / "world" / (called or name)).iterdir()
    return folder


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_shipped_row_is_one_command(root: Path, name: str, family: str) -> None:
    folder = trained(root, name, family)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert set(results["splits"]["test"]["rows"]["all"]) >= {"Recall@4", "nDCG@10"}
    if name == "cllm4rec_public_code":  # the epoch is chosen by the sum
        assert results["training"]["metric"] == "Recall@20+Recall@40+nDCG@100"
        assert results["training"]["best"] <= 3


@pytest.mark.parametrize("scale", ["learned", "auto"])
def test_a_scale_that_learns_is_kept_with_the_tables(root: Path, scale: str) -> None:
    words = ("--item_scale", scale, "--soft_dropout", "0.2", "--model.name", f"scale-{scale}")
    folder = trained(root, "cllm4rec", "t5", *words, called=f"scale-{scale}")
    tensors = load_file(folder / "checkpoints" / "best" / "model.safetensors")
    found = tensors.get("collaborative.log_scale")
    assert (found is not None) == (scale == "learned")
    if found is not None:
        assert float(found) != pytest.approx(math.log(32**-0.5), abs=1e-4)  # where it began


def test_vectors_of_a_run_rank_by_towers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLLM4Rec-Emb is two commands: its vectors, and the towers over them."""
    run = trained(root, "cllm4rec", "gpt2")
    output = tmp_path / "vectors"
    words = ["process.cllm4rec_vectors", "--run", str(run), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="0"):
        run_cli(cllm4rec_vectors.main, cllm4rec_vectors.build_parser())
    exp = ["--data", str(root / "world.yaml"), "--model", "cllm4rec_emb", "--exp", "rank-all"]
    exp += ["--embed", "user-item-vectors", "--vectors_folder", str(output), "--hidden_size", "128"]
    exp += ["--exp.train.epochs", "2", "--exp.runs_folder", str(tmp_path / "runs")]
    exp += ["--device", "cpu", "--exp.report", "false", "--exp.baselines", "[popularity]"]
    assert worker.main(exp) == 0
    assert list((tmp_path / "runs").glob("world/cllm4rec_emb/*/results.json"))
