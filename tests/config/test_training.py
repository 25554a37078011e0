"""One ``train`` section: which value counts, and YAMLs and runs from before there was one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from legos.config.load import load_run_config
from legos.config.refusals import unread_keys
from legos.config.schema import RunConfig
from legos.errors import ConfigError
from legos.settings import OF_WEIGHTS, deciding
from tests.systems.cllm4rec.world import world_config

DATA = ["--data", "amazon-beauty-random"]
STAGES = {"pretraining_epochs": 7, "finetuning_lr": 0.25}


def load(*words: str) -> RunConfig:
    return load_run_config([*DATA, *words], notice=lambda text: None)


def written(path: Path, section: dict[str, Any]) -> str:
    path.write_text(f"# {path.stem}\n{yaml.safe_dump(section)}")
    return str(path)


def test_the_later_of_system_experiment_model_and_command_line_counts(tmp_path: Path) -> None:
    language: dict[str, Any] = {"name": "own", "model": "smollm2"}
    exp = written(tmp_path / "exp.yaml", {"name": "own", "mode": "train", "train": {"clip": 3.0}})
    plain = written(tmp_path / "plain.yaml", {"system": "recsysllm", **language})
    train = load("--model", plain, "--exp", exp).exp.train
    assert (train.optimizer, train.weight_decay, train.clip) == ("adamw", 0.01, 3.0)
    own = {"clip": 2.0, "lr": 0.5, "soft_tokens_lr": 0.25}
    model = written(tmp_path / "model.yaml", {"system": "recsysllm", **language, "train": own})
    train = load("--model", model, "--exp", exp, "--exp.train.lr", "0.75").exp.train
    assert (train.clip, train.lr, train.soft_tokens_lr, train.warmup) == (2.0, 0.75, 0.25, 0.05)
    bricks = {"like": "sasrec_id", "name": "own", "train": {"lr": 0.5, "loss": "full_softmax"}}
    train = load("--model", written(tmp_path / "b.yaml", bricks), "--exp", exp).exp.train
    assert (train.lr, train.loss, train.optimizer, train.clip) == (0.5, "full_softmax", "adam", 3.0)


def test_a_model_yaml_that_trains_by_what_its_system_does_not_read_is_refused(
    tmp_path: Path,
) -> None:
    own = {"system": "cllm4rec", "name": "own", "model": "smollm2"}
    model = written(tmp_path / "own.yaml", {**own, "train": {"epochs": 3, "item_lr": 0.5}})
    lines = Path(model).read_text().splitlines()
    with pytest.raises(ConfigError) as caught:
        load("--model", model, "--exp", "cllm4rec", "--epoch_batch", "3")
    told = str(caught.value)
    for key, instead in (("epochs", "exp.train.stages.warmup_epochs"), ("item_lr", "exp.train.lr")):
        number = next(at for at, line in enumerate(lines, 1) if line.strip().startswith(key))
        assert f"{model}:{number}: fills exp.train.{key}, which is read by nothing" in told
        assert f"it reads {instead}" in told
    assert "--epoch_batch" in told


@pytest.mark.parametrize(
    ("before", "train"),
    [
        (
            {
                "system": "cllm4rec",
                "stages": {**STAGES, "pretraining_lr": 0.5, "batch_size": 9, "patience": 3},
                "backbone": {"train": "lora", "lr": 0.75},
            },
            {"lr": 0.5, "batch_size": 9, "patience": 3, "adapters_lr": 0.75, "stages": STAGES},
        ),
        (
            {
                "system": "recsysllm",
                "training": {"lr": 0.5, "epochs": 3, "clip_norm": 2.0, "infill_share": 0.5},
            },
            {"lr": 0.5, "epochs": 3, "clip": 2.0, "infill_share": 0.5},
        ),
    ],
    ids=["cllm4rec", "recsysllm"],
)
def test_a_section_from_before_is_the_same_run(
    before: dict[str, Any], train: dict[str, Any], tmp_path: Path
) -> None:
    head = {"name": "own", "model": "smollm2"}
    after = {"system": before["system"], "train": train}
    if "backbone" in before:
        after["backbone"] = {"train": "lora"}
    exp = written(tmp_path / "exp.yaml", {"name": "own", "mode": "train"})
    found = [
        load("--model", written(tmp_path / f"{name}.yaml", {**head, **section}), "--exp", exp)
        for name, section in (("before", before), ("after", after))
    ]
    assert found[0] == found[1]
    keys = found[0].model.as_in_runs(deciding(found[0], OF_WEIGHTS))
    section = "training" if before["system"] == "recsysllm" else "stages"
    for key, value in before[section].items():
        assert keys[f"model.{section}.{key}"] == value
    assert not {"exp.train.lr", "exp.train.batch_size", "exp.train.adapters_lr"} & keys.keys()


def test_what_a_run_from_before_says_of_bricks_training_counts_for_no_system(
    tmp_path: Path,
) -> None:
    config = world_config(tmp_path, model={"train": {"clip": None}})
    sections = config.model_dump(mode="json")
    train = sections["exp"]["train"]
    stages = train.pop("stages")
    for new, old in (("lr", "pretraining_lr"), ("batch_size", "batch_size"), ("patience",) * 2):
        stages[old] = train[new]
        train[new] = 99  # of bricks
    for new in ("optimizer", "weight_decay", "warmup", "schedule", "clip"):
        train[new] = {"optimizer": "adamw", "schedule": "linear"}.get(new, 0.5)
    sections["model"]["stages"] = {**stages, "shuffle": sections["model"].pop("shuffle")}
    assert RunConfig.model_validate(sections) == config
    assert unread_keys(config).keys() >= {"exp.train.loss", "exp.train.epochs", "exp.cache.layers"}
