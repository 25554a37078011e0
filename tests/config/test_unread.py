"""What is given and not read is refused, with what is read instead."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from legos.config.data_schema import DataConfig, EmbedConfig, FieldConfig, SplitsConfig
from legos.config.exp_schema import CacheConfig, EvaluateConfig, ExpConfig
from legos.config.load import load_run_config
from legos.config.refusals import nearest_rule, unread_keys
from legos.config.schema import RunConfig
from legos.config.train_schema import NegativesConfig, StagesConfig, TrainConfig
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.modes.main import run
from legos.settings import settings
from tests.systems.cllm4rec.world import world_config, world_tables
from tests.systems.recsysllm.conftest import reviewed
from tests.systems.recsysllm.system import system_config

__all__ = ["reviewed"]  # a fixture

CLLM = "--data amazon-beauty-random --model cllm4rec --exp cllm4rec"
RECSYS = "--data amazon-beauty --model recsysllm --exp recsysllm"
NAML = "--data newsroom --model naml --exp tt"
BERT = "--data newsroom --model bert-naml --exp tt-llm"
SIMPLE = "--data newsroom --model simplex --exp tt"


def notices(words: str) -> list[str]:
    found: list[str] = []
    load_run_config(words.split(), notice=found.append)
    return found


@pytest.mark.parametrize(
    ("words", "options", "instead"),
    [
        (f"{CLLM} --item_lr 0.5", ["--item_lr"], "exp.train.lr"),
        (f"{CLLM} --exp.train.adapters_lr 1", ["--exp.train.adapters_lr"], "exp.train.lr"),
        (f"{CLLM} --exp.train.epochs 3", ["--exp.train.epochs"], "--pretraining_epochs"),
        (
            f"{CLLM} --item_page_size 2 --exp.train.epochs 3",
            ["--item_page_size", "--exp.train.epochs"],
            "train.stages",
        ),
        (f"{CLLM} --exp.train.negatives.count 2", ["--exp.train.negatives.count"], ""),
        (f"{CLLM} --epoch_batch 2", ["--epoch_batch"], "exp.train.stages.collaborative_steps"),
        (f"{CLLM} --exp.train.infill_share 0", ["--exp.train.infill_share"], ""),
        (f"{CLLM} --embed minilm-token", ["--embed"], "own token vectors"),
        (f"{CLLM} --embed_hidden_size 3", ["--embed_hidden_size"], "own token vectors"),
        (f"{CLLM} --exp.cache.layers [1]", ["--exp.cache.layers"], "exp.cache.token_folder"),
        (f"{CLLM} --model.backbone.lora_rank 4", ["--model.backbone.lora_rank"], "train lora"),
        (f"{RECSYS} --item_lr 0.5", ["--item_lr"], "exp.train.adapters_lr"),
        (f"{RECSYS} --epoch_batch 3", ["--epoch_batch"], "exp.train.epoch_steps"),
        (f"{RECSYS} --exp.train.stages.warmup_epochs 3", ["--exp.train.stages.warmup_epochs"], ""),
        (f"{RECSYS} --lora_rank 4 --adapters full", ["--lora_rank"], "train lora alone, not full"),
        (f"{NAML} --exp.train.soft_tokens_lr 1", ["--exp.train.soft_tokens_lr"], ""),
        (f"{NAML} --exp.train.stages.warmup_epochs 3", ["--exp.train.stages.warmup_epochs"], ""),
        (f"{BERT} --exp.train.adapters_lr 1", ["--exp.train.adapters_lr"], "exp.train.item_lr"),
        (f"{NAML} --item_lr 0.1", ["--item_lr"], "exp.train.lr"),
        (f"{BERT} --frozen 1 --item_lr 0.1", ["--item_lr"], "exp.train.lr"),
        (f"{NAML} --exp.train.margin 0.1", ["--exp.train.margin"], "cosine_contrastive"),
        (f"{NAML} --exp.train.calibration 0.5", ["--exp.train.calibration"], "gbce"),
        (f"{NAML} --exp.train.negatives.power 0.5", ["--exp.train.negatives.power"], "popularity"),
        (f"{NAML} --exp.evaluate.exclude nothing", ["--exp.evaluate.exclude"], "ranking all"),
        (f"{NAML} --exp.cache.folder x", ["--exp.cache.folder"], ""),
        (f"{NAML} --embed item-codes --codes x", ["--codes"], ""),
        (f"{BERT} --embed glove --glove x", ["--embed", "--glove"], "language model's own"),
        (f"{BERT} --embed.frozen false", ["--embed.frozen"], "language model's own"),
        (f"{BERT} --lora 0 --lora_alpha 2", ["--lora_alpha"], "model.item.train lora alone"),
        ("--data newsroom --model nrms_id --exp tt --embed glove --glove x", ["--embed"], ""),
        (f"{NAML} --exp.recommend.k 3", ["--exp.recommend.k"], "give --exp.mode recommend"),
        (f"{NAML} --exp.export.folder x", ["--exp.export.folder"], "only mode export reads"),
        (f"{NAML} --exp.vectors.batch_tokens 9", ["--exp.vectors.batch_tokens"], "only mode embed"),
    ],
)
def test_a_given_key_that_is_not_read_is_refused(
    words: str, options: list[str], instead: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        notices(words)
    lines = str(caught.value).splitlines()
    assert [line for line in lines if line.split(":")[0] in options]
    assert {line.split(":")[0] for line in lines} >= set(options)
    assert any(instead in line for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        f"{CLLM} --seed 3 --exp.train.metric nDCG@10 --exp.train.checkpoint_steps 5",
        f"{CLLM} --patience 3 --pretraining_lr 0.1 --embed null",
        f"{CLLM} --lr 0.5 --batch_size 8 --exp.train.patience 1 --exp.train.clip 1",
        f"{RECSYS} --lr 0.5 --exp.train.epochs 3 --exp.train.soft_tokens_lr 0.1",
        f"{CLLM} --model.backbone.train lora --model.backbone.lora_rank 4",
        f"{RECSYS} --epochs 3 --peak_lr 0.1 --lora_rank 4",
        f"{BERT} --item_lr 0.1 --embed null --embed_hidden_size 384",
        f"{BERT} --embed bert-token",
        f"{NAML} --lr 0.1 --embed minilm-token --embed_hidden_size 384",
        f"{SIMPLE} --exp.train.loss cosine_contrastive --exp.train.margin 0.1",
        "--data amazon-beauty-random --exp cllm4rec-compare --lr 0.5 --layers 3 --patience 2",
        "--data goodreads-title --exp dire --item_lr 0.1 --llm_ver minilm",
    ],
)
def test_what_some_model_of_the_run_reads_is_accepted(words: str) -> None:
    assert notices(words) == []


def test_published_variables_that_mode_cache_does_not_read_give_a_notice() -> None:
    words = "--data newsroom --model bert-naml --exp cache --hidden_size 64 --lora 0 --layer 0"
    assert notices(f"{words} --fast_eval 0") == [
        "--fast_eval has no effect: no YAML of this run uses ${fast_eval}",
        "--hidden_size has no effect: mode cache does not read model.hidden_size",
    ]


def test_a_yaml_of_ones_own_with_keys_of_another_system_gives_a_notice(tmp_path: Path) -> None:
    exp = tmp_path / "mine.yaml"
    exp.write_text(
        f"$$import: {Path('config/exp/cllm4rec.yaml').resolve()}\n"
        "name: mine\ntrain:\n  lr: 0.5\n  epochs: 3\n  seed: 1\n"
    )
    found = notices(f"--data amazon-beauty-random --model cllm4rec --exp {exp}")
    assert found == [
        f"{exp}: exp.train.lr: no effect, model cllm4rec sets it",
        f"{exp}: no effect, system cllm4rec does not read: exp.train.epochs",
    ]


_SECTIONS: dict[type[BaseModel], str] = {
    DataConfig: "data", FieldConfig: "data.fields", SplitsConfig: "data.splits",
    ExpConfig: "exp", TrainConfig: "exp.train", NegativesConfig: "exp.train.negatives",
    StagesConfig: "exp.train.stages", EvaluateConfig: "exp.evaluate", EmbedConfig: "embed",
    CacheConfig: "exp.cache",
}  # fmt: skip
_TOLD = (
    "settings.py",
    "device.py",
    "identity.py",
    "main.py",
    "train_test.py",
)


def keys_read(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Dotted keys that the code of a run asks for while it trains and tests."""
    seen: set[str] = set()

    def watched(section: type[BaseModel], prefix: str) -> Any:
        def read(self: BaseModel, name: str) -> Any:
            file = Path(sys._getframe(1).f_code.co_filename)
            ours = "legos" in file.parts and "config" not in file.parts
            if ours and name in section.model_fields and file.name not in _TOLD:
                seen.add(f"{prefix}.{name}")
            return object.__getattribute__(self, name)

        return read

    for section, prefix in _SECTIONS.items():
        monkeypatch.setattr(section, "__getattribute__", watched(section, prefix), raising=False)
    run(config)
    monkeypatch.undo()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("system", ["cllm4rec", "recsysllm"])
def test_what_a_system_is_said_to_read_is_what_its_code_reads(
    system: str, reviewed: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system == "cllm4rec":
        world_tables(tmp_path / "tables", reviews=True)
        stages = {"pretraining_epochs": 1, "finetuning_epochs": 1}
        config = world_config(tmp_path, model={"train": {"stages": stages, "batch_size": 100}})
    else:
        measure = {"users": 2, "valid_users": 2, "prompts": ["sequential-13", "direct-8"]}
        model = {"train": {"epochs": 1, "epoch_steps": 1}, "measure": measure}
        config = system_config(reviewed.folder, tmp_path, model=model)
    rules = unread_keys(config)
    read = keys_read(config, monkeypatch)
    assert len(read) > 20
    assert {key for key in read if nearest_rule(key, rules) is not None} == set()
    keys = {each.key for each in settings(config.exp.train, "exp.train")}
    said = {key for key in keys if nearest_rule(key, rules) is None}
    assert said == {key for key in read if key.startswith("exp.train.")} - {"exp.train.stages"}
