"""RecSysLLM through the runner: every family measured, what learns, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import legos
import worker
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import CheckpointError
from legos.modes.main import run
from legos.systems.recsysllm.measure import default_templates
from legos.systems.recsysllm.positions import IGNORE
from legos.systems.recsysllm.prompts import builtin_prompts
from legos.systems.recsysllm.recipe import InfillRecipe, TrainingStream
from legos.systems.recsysllm.system import RecsysllmSystem
from legos.training.optimizer import learning_rate_factor
from legos.training.trainer import take_step
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from tests.systems.recsysllm.system import system_config, yamls
from tests.systems.recsysllm.test_tasks import codes_of

OWN = {"inter.table.weight", "intra.table.weight", "new_tokens"}  # trained beside adapters


def opened(config: RunConfig) -> RecsysllmSystem:
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    return RecsysllmSystem(Workplace.open(config, accelerator, Tables.load(config.data.folder)))


def last(runs: Path) -> dict[str, Tensor]:
    (path,) = runs.glob("reviewed/recsysllm/*/checkpoints/last/model.safetensors")
    return load_file(path)


@pytest.mark.slow
@pytest.mark.parametrize("item_text", ["codes", "title_and_codes"])
def test_items_named_by_codes_are_searched_exactly(
    reviewed: Tables, tmp_path: Path, item_text: str
) -> None:
    words = " ".join(f"{letter}{code}" for letter in "ab" for code in range(13))
    tasks = {"item_text": item_text, "item_codes": str(codes_of(reviewed, tmp_path))}
    measure = {"prompts": ["sequential-6"]}
    model = {"tasks": tasks, "measure": measure, "train": {"epochs": 1}}
    results = run(system_config(reviewed.folder, tmp_path, words=words, model=model))
    assert results["splits"]["test"]["counts"]["all"]["proven_lists"] == 9
    found = legos.open(tmp_path / "runs", device="cpu")
    user, items = found.users[0], found.items["item_id"].tolist()
    listed = found.recommend(user, k=5, exclude_seen=False)
    scores = found.score([user], items).iloc[0].sort_values(ascending=False)
    assert np.allclose(listed["score"], scores[:5], atol=1e-4)


@pytest.mark.slow
def test_every_family_through_the_worker(
    reviewed: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = yamls(system_config(reviewed.folder, tmp_path), tmp_path)
    words += ["--model.measure.negatives", "9"]
    assert worker.main([*words, "--check"]) == 0
    text = capsys.readouterr().out
    for told in (
        "of split test_9",
        "examples of rating",
        "2 missing",
        "2 epochs of 4 steps",
        "at most 9",
        "direct-8",
    ):
        assert told in text
    assert worker.main([*words, "--verbose"]) == 0
    assert "sequential, unseen prompt sequential-13" in capsys.readouterr().out
    assert not (tmp_path / "candidates").exists()  # the tables have them
    (path,) = (tmp_path / "runs").glob("reviewed/tiny/*/results.json")
    results = json.loads(path.read_text())
    rows, counts = (results["splits"]["test"][key] for key in ("rows", "counts"))
    for template in default_templates(builtin_prompts()):
        if template.family != "transfer":
            kind = "seen" if template.seen else "unseen"
            assert f"{template.family}, {kind} prompt {template.name}" in rows
    assert (counts["all"]["groups"], counts["all"]["available"]) == (9, 22)
    same = dict(rows["sequential, seen prompt sequential-6"])
    assert 0 <= same.pop("valid item rate") <= 1
    assert rows["all"].items() >= same.items()
    seen, unseen = (
        rows[f"sequential, {kind}"].keys()
        for kind in ("seen prompt sequential-6", "unseen prompt sequential-13")
    )
    for row in ("all", "sequential, seen prompt sequential-6"):
        assert counts[row]["proven_lists"] == 9
    assert seen == unseen  # so that they stand in one table
    assert {"HR@5", "HR@10", "nDCG@5", "nDCG@10"} <= rows["all"].keys()
    assert {"HR@1", "HR@5", "nDCG@5"} <= rows["direct, unseen prompt direct-8"].keys()
    assert {"RMSE", "MAE", "parse rate"} <= rows["rating, unseen prompt rating-10"].keys()
    assert {"BLEU-4", "standard ROUGE-L"} <= rows["review, seen prompt review-3"].keys()
    for told in ("user and item means (no model)", "matrix factorization (ids alone)",
                 "multi-layer perceptron (ids alone)"):  # fmt: skip
        assert {"RMSE", "MAE"} == rows[f"rating, {told}"].keys()
        assert counts[f"rating, {told}"] == counts["rating, seen prompt rating-7"]
    groups = np.load(
        path.parent / "diagnostics" / results["measurement"] / "test" / "groups-HR@10.npy"
    )
    assert np.isfinite(groups).sum() == 9
    assert np.nanmean(groups) == rows["all"]["HR@10"]
    assert (path.parent / "report.html").is_file()
    assert results["baselines"]["test"]["popularity"]["counts"]["all"]["groups"] == 22


@pytest.mark.slow
def test_what_is_trained_is_stored_and_scores_the_same_again(
    reviewed: Tables, tmp_path: Path
) -> None:
    few: dict[str, Any] = {"measure": {"prompts": ["sequential-6", "rating-4", "direct-8"]}}
    config = system_config(reviewed.folder, tmp_path, model=few)
    before = {k: p.detach().clone() for k, p in opened(config).backbone.named_parameters()}
    found = run(config)
    stored = last(tmp_path / "runs")
    assert all("lora_" in name or name in OWN for name in stored)
    assert all(not torch.equal(tensor, before[name]) for name, tensor in stored.items())
    (folder,) = (tmp_path / "runs/reviewed/recsysllm").iterdir()
    again = system_config(reviewed.folder, tmp_path, mode="test", load=str(folder), model=few,
                          runs_folder=str(tmp_path / "again"))  # fmt: skip
    rows = run(again)["splits"]["test"]["rows"]
    assert rows == found["splits"]["test"]["rows"]
    other = system_config(reviewed.folder, tmp_path, mode="test", load=str(folder),
                          runs_folder=str(tmp_path / "again"),
                          model={**few, "backbone": {"lora_rank": 4}})  # fmt: skip
    with pytest.raises(CheckpointError, match="trained with other settings"):
        run(other)


@pytest.mark.slow
def test_a_step_is_the_same_in_parts_and_its_examples_follow_from_its_number(
    reviewed: Tables, tmp_path: Path
) -> None:
    losses = []
    for tokens in (60, 5000):
        more: dict[str, Any] = {
            "backbone": {"lora_dropout": 0.0},
            "train": {"batch_tokens": tokens, "infill_share": 0.5, "batch_size": 40},
        }
        system = opened(system_config(reviewed.folder, tmp_path, model=more))
        train = system.workplace.config.exp.train
        stream = TrainingStream(system.world, system.backbone.special, train)
        examples = stream.examples(5)
        again = TrainingStream(system.world, system.backbone.special, train).examples(5)
        assert torch.equal(examples.tokens, again.tokens)
        assert not torch.equal(examples.tokens[:50], stream.examples(6).tokens[:50])
        several = examples.masks.lengths > 1  # blanks of histories; prompts have one
        assert 0 < int(several.sum()) <= 30
        assert int((examples.targets != IGNORE).sum()) > 40
        recipe = InfillRecipe(
            system.workplace.accelerator, system.backbone, stream, system.settings, train
        )
        recipe.replicas.module.train()
        logs = []
        for _ in range(3):
            logs.append(take_step(recipe)[0])
            rates = {group["lr"] for group in recipe.replicas.optimizers[""].param_groups}
            assert rates == {logs[-1]["learning_rate"]}
        rates = [log["learning_rate"] / 0.01 for log in logs]  # of 8 steps, the first a warm-up
        assert rates == pytest.approx(
            [
                learning_rate_factor(step, total=8, warmup=0.05, schedule="linear")
                for step in range(3)
            ]
        )
        assert len(set(rates)) > 1
        losses.append([log["loss"] for log in logs])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_it_learns_what_is_trained(reviewed: Tables, tmp_path: Path) -> None:
    """Ratings are readable and words end after some steps; without any they are not."""
    only = {"tasks": {f"{name}_weight": 0.0 for name in ("sequential", "direct", "explanation")}}
    more: dict[str, Any] = {
        **only,
        "backbone": {"train": "full", "layers": None},
        "train": {"epochs": 1, "epoch_steps": 60, "batch_size": 16, "infill_share": 0.0},
        "measure": {"prompts": ["rating-1", "rating-4"]},
    }
    name = "rating, seen prompt rating-1"
    trained = run(system_config(reviewed.folder, tmp_path, model=more))
    more["train"] = {**more["train"], "epochs": 0}
    before = run(system_config(reviewed.folder, tmp_path, model=more))
    rows = [each["splits"]["test"]["rows"] for each in (before, trained)]
    assert rows[0][name]["complete rate"] < rows[1][name]["complete rate"]
    assert rows[1][name]["parse rate"] == 1
    assert rows[1]["rating, seen prompt rating-4"]["accuracy"] > 0
    assert before["training"]["steps"] == 0


@pytest.mark.slow
def test_a_comparison_ranks_it_beside_bricks_and_its_ablations(
    reviewed: Tables, tmp_path: Path
) -> None:
    measure = {"prompts": ["sequential-6"], "users": 3, "valid_users": 2}
    config = system_config(reviewed.folder, tmp_path, model={"measure": measure})
    model = json.loads(config.model.model_dump_json())
    ids = {**model, "name": "ids", "tasks": {**model["tasks"], "item_text": "id"}}
    tokens = {**model, "name": "tokens", "masking": {"whole_entities": False}}
    tokens["positions"] = {**model["positions"], "intra_mode": "glm", "shuffle_spans": True}
    mf = {
        "name": "mf", "hidden_size": 8, "item": {"name": "id"}, "user": {"name": "user_id"},
        "predictor": {"name": "dot"},
    }  # fmt: skip
    exp = json.loads(config.exp.model_dump_json())
    exp |= {"mode": "compare", "baselines": ["popularity"]}
    exp |= {"compare": {"models": [model, ids, tokens, mf], "seeds": [1]}}
    exp["train"] |= {"epochs": 1}
    summary = run(RunConfig.model_validate({**json.loads(config.model_dump_json()), "exp": exp}))
    rows = {row["name"]: row for row in summary["rows"]["test"]}
    assert list(rows) == ["popularity", "recsysllm", "ids", "tokens", "mf"]
    assert rows["mf"]["reference"] == "recsysllm"


@pytest.mark.parametrize(
    ("model", "exp", "message"),
    [
        ({}, {"evaluate": {"metrics": ["MRR"]}}, "exp.evaluate.metrics: MRR"),
        (
            {"measure": {"beams": 4, "search": "beams"}},
            {},
            "expected HR@k, Recall@k or nDCG@k with k up to that",
        ),
        ({}, {"evaluate": {"ranking": "shown", "metrics": ["MRR"]}}, "exp.evaluate.ranking"),
        ({"measure": {"prompts": ["ratng-1"]}}, {}, "did you mean 'rating-1'"),
        ({"measure": {"prompts": ["transfer-1"]}}, {}, "of another domain than"),
        ({"measure": {"max_tokens": 513}}, {}, "tiny-llama reads at most 512 tokens"),
        ({"measure": {"max_tokens": 30}}, {}, "candidates of a prompt alone have up to"),
        ({"tasks": {"max_tokens": 8, "max_answer_tokens": 2}}, {}, "the name of an item has"),
        ({"backbone": {"layers": 4}}, {}, "has 3; expected 1 to 3"),
        ({"train": {"lr": 100.0, "warmup": 0.0}}, {}, "lower exp.train.lr"),
    ],
)
def test_a_mistake_is_one_clear_message(
    reviewed: Tables, tmp_path: Path, model: dict[str, Any], exp: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(system_config(reviewed.folder, tmp_path, model=model, **exp))
