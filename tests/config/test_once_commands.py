"""ONCE's own commands: LoRA's switch, old names of variables, and what is trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaModel

import worker
from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from legos.config.variables import OLD
from legos.errors import ConfigError
from legos.item.language_model import LanguageModelConfig
from legos.lm.locate import locate, packaged
from tests.tiny import tiny_tables

TRAINING = [
    *("--data", "config/data/mind-llama.yaml", "--embed", "config/embed/llama-token.yaml"),
    *("--model", "config/model/llama-naml.yaml", "--exp", "config/exp/tt-llm.yaml"),
    *("--layer", "4", "--version", "small", "--lr", "0.0001", "--item_lr", "0.00001"),
    *("--batch_size", "32", "--acc_batch", "2", "--epoch_batch", "-4"),
]
CACHING = [
    *("--embed", "config/embed/llama-token.yaml", "--model", "config/model/llama-naml.yaml"),
    *("--exp", "config/exp/llama-split.yaml", "--data", "config/data/mind-llama.yaml"),
    *("--version", "small", "--hidden_size", "64", "--layer", "0", "--lora", "0"),
    *("--fast_eval", "0"),
]
NAML = ["--data", "newsroom", "--model", "naml", "--exp", "tt"]


def load(words: list[str]) -> tuple[RunConfig, list[str]]:
    notices: list[str] = []
    return load_run_config(words, notice=notices.append), notices


def rank(*words: str, model: str = "llama-naml") -> int:
    item = load(["--data", "newsroom", "--model", model, "--exp", "tt-llm", *words])[0].bricks.item
    assert isinstance(item, LanguageModelConfig)
    return item.lora_rank


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", 32),
        ("--lora 1", 32),
        ("--lora 0", 0),
        ("--lora 32", 32),
        ("--lora 8", 8),
        ("--lora 1 --lora_r 16", 16),
        ("--lora_r 4", 4),
        ("--lora 0 --lora_r 4", 0),
        ("--lora null", 32),
        ("--frozen true", 0),
        ("--frozen 1", 0),
        ("--use_lora true --lora_r 4", 4),
        ("--use_lora false", 0),
        ("--model.item.lora_rank 1", 1),
        ("--model.item.lora_rank 0", 0),
        ("--model.item.train lora --lora_r 4", 4),
        ("--model.item.train full", 0),
        ("--model.item.train frozen --lora 1", 0),
    ],
)
@pytest.mark.parametrize("model", ["llama-naml", "bert-naml"])
def test_lora_is_onces_switch_and_a_value_above_1_a_rank(
    words: str, expected: int, model: str
) -> None:
    assert rank(*words.split(), model=model) == expected


def test_alpha_and_dropout_are_variables_and_plm_nr_tunes_its_layers() -> None:
    words = ["--data", "newsroom", "--model", "bert-naml", "--exp", "tt-llm", "--lora_alpha", "16"]
    item = load([*words, "--lora_dropout", "0.0"])[0].bricks.item
    assert isinstance(item, LanguageModelConfig)
    assert (item.lora_alpha, item.lora_dropout) == (16, 0)
    assert rank(model="plm-nr") == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--lora -1", r"model\.item\.lora: expected 0 \(off\), 1 \(on\) or a rank.*found -1"),
        ("--lora 0.5", r"--lora 0\.5: expected a whole number"),
        ("--lora 100000", r"model\.item\.lora: expected .* at most 16,384"),
        ("--lora_r 0", r"model\.item\.lora_r: expected a rank, at most 16,384, found 0"),
        ("--lora 1 --frozen true", "LoRA is a way of training"),
        ("--frozen maybe", r"model\.item\.frozen: expected true or false, found 'maybe'"),
        ("--model.item.train full --model.item.lora_rank 8", "lora_rank 8 is of LoRA alone"),
        ("--model.item.train loar", "did you mean 'lora'"),
    ],
)
def test_what_is_no_switch_and_no_rank_is_refused(words: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        rank(*words.split())


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("--cuda 1", "device", "cuda:1"),
        ("--cuda -1", "device", "cpu"),
        ("--mode train", "mode", "train"),
        ("--load_path null", "load", None),
        ("--mode test --load_path runs/x", "load", Path("runs/x")),
        ("--metric MRR", "train.metric", "MRR"),
        ("--patience 7", "train.patience", 7),
        ("--page_size 9", "evaluate.page_size", 9),
        ("--max_item_batch_size 3", "train.item_page_size", 3),
        ("--warmup 0", "train.warmup", 0),
        ("--epoch_start 0", "train.seed", 2023),
        ("--simple_dev 0", "train.seed", 2023),
    ],
)
def test_a_published_variable_with_another_name_here_acts(words: str, key: str, value: Any) -> None:
    config, notices = load([*NAML, *words.split()])
    found: Any = config.exp
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    renamed = words.split()[0][2:] in OLD
    assert bool(notices) == renamed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--warmup 100", "--warmup: .*set exp.train.warmup, a fraction of all steps"),
        ("--simple_dev 1", "--simple_dev: .*exp.train.metric"),
        ("--epoch_start 3", "--epoch_start: .*the same command resumes"),
        ("--cuda 0,1", "--cuda 0,1: .*accelerate launch"),
        ("--mode test_fake", "--mode test_fake: .*exp.evaluate.cold_warm"),
        ("--mode test_llm_layer_split", "config/exp/cache.yaml"),
        ("--cuda 0 --device cpu", "--cuda: is now --device, which is also given"),
        ("--mind_large_submission 1", "--mind_large_submission: .*data.splits.test"),
    ],
)
def test_one_without_a_counterpart_names_what_to_do(words: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load([*NAML, *words.split()])


@pytest.mark.parametrize("name", OLD)
def test_every_old_name_acts_or_is_refused_by_a_sentence(name: str) -> None:
    old = OLD[name]
    assert (old.now is None) == bool(old.instead)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, and a LLaMA of five layers, 16 wide, as a folder."""
    folder = tmp_path_factory.mktemp("once")
    tiny_tables(folder / "tables")
    shape = LlamaConfig(
        vocab_size=30_522, hidden_size=16, num_hidden_layers=5, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=16,
    )  # fmt: skip
    LlamaModel(shape).save_pretrained(folder / "stand-in")
    shutil.copy(locate(packaged("minilm")).folder / "tokenizer.json", folder / "stand-in")
    return folder


def at(place: Path) -> list[str]:
    data = ["--data.folder", str(place / "tables"), "--data.fields", "[title@words, category]"]
    return ["--llm_ver", str(place / "stand-in"), *data, "--device", "cpu"]


def checked(words: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    code = worker.main([*words, *at(place), "--check"])
    out, err = capsys.readouterr()
    return f"{code}\n{out}{err}"


@pytest.mark.slow
def test_the_published_training_command_trains_adapters_above_the_cut(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = checked([*TRAINING, "--embed_hidden_size", "16"], place, capsys)
    assert "LoRA of rank 32 on 1 of 5 layers: 2,048 parameters" in text
    assert text.startswith("0")
    assert "nothing: mode cache computes hidden states" in checked(CACHING, place, capsys)
    text = checked([*TRAINING, "--lora", "0"], place, capsys)
    assert "full tuning of 1 of 5 layers" in text


@pytest.mark.slow
@pytest.mark.parametrize("command", [TRAINING, CACHING], ids=["training", "caching"])
@pytest.mark.parametrize("embed", ["llama-token", "null"])
def test_the_width_must_be_the_language_models(
    command: list[str], embed: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word if "config/embed" not in word else embed for word in command]
    assert checked([*words, "--embed_hidden_size", "16"], place, capsys).startswith("0")
    text = checked([*words, "--embed_hidden_size", "4092"], place, capsys)
    assert text.startswith("2")
    assert "embed.embed_hidden_size: 4092, but language model stand-in is 16 wide" in text


def test_mode_cache_itself_checks_the_width(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*CACHING, *at(place), "--cache_folder", str(tmp_path / "cache")]
    assert worker.main([*words, "--embed_hidden_size", "4092"]) == 2
    assert "stand-in is 16 wide" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
