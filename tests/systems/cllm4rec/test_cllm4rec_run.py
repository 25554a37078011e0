"""CLLM4Rec through the runner: what learns when, shared pretraining, results."""

from __future__ import annotations

import io
import json
import math
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import worker
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.data.vector_files import read_item_vectors
from legos.errors import CheckpointError, ConfigError, DataError, LegosError
from legos.modes.main import run
from legos.modes.train_test import open_trained
from legos.runs.folder import run_folder
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.cllm4rec.stages import stages_of
from legos.systems.cllm4rec.system import Cllm4RecSystem
from legos.training.trainer import take_step
from legos.training.weights import seed_everything
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from process import cllm4rec_vectors
from process.command import run_cli
from tests.systems.cllm4rec.world import world_config, world_language_model, world_tables


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world_tables(folder / "tables", reviews=True)
    return folder


def opened(config: RunConfig) -> Cllm4RecSystem:
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    return Cllm4RecSystem(Workplace.open(config, accelerator, Tables.load(config.data.folder)))


def last(config: RunConfig) -> dict[str, Tensor]:
    folder = run_folder(config, Tables.load(config.data.folder))
    return load_file(folder.checkpoints / "last" / "model.safetensors")


def at(config: RunConfig, runs: Path) -> RunConfig:
    return config.model_copy(update={"exp": config.exp.model_copy(update={"runs_folder": runs})})


@pytest.mark.parametrize("train", ["frozen", "lora", "full"])
def test_in_every_pass_one_set_of_tables_learns(root: Path, train: str) -> None:
    system = opened(world_config(root, model={"backbone": {"train": train}}))
    seed_everything(0)
    recipe = recipe_of(system)
    seen = []
    while (segment := recipe.segment()) is not None and (stage := recipe.stage) is not None:
        if not segment.steps:
            recipe.after(segment, math.nan)
            continue
        task, before = recipe.current, state_of(system)
        begin_step(recipe)
        changed = {
            name.split(".")[0]
            for name, tensor in state_of(system).items()
            if not torch.equal(tensor, before[name])
        }
        assert changed == {task.learns} | (set() if train == "frozen" else {"backbone"})
        seen.append((stage.name, task.task))
        recipe.after(segment, math.nan)
    pretraining = [("pretraining", "collaborative"), ("pretraining", "content")]
    finetuning = [("finetuning", "recommendation"), ("finetuning", "content")]
    assert seen == [("warm-up", "content"), *pretraining * 2, *finetuning * 2]


@pytest.mark.parametrize("preset", ["paper", "public_code"])
def test_warm_up_pulls_nothing_and_the_public_code_ends_without_dropout(
    root: Path, preset: str
) -> None:
    system = opened(world_config(root, model={"preset": preset}))
    recipe = recipe_of(system)
    pulled, dropout = {}, {}
    for number, stage in enumerate(recipe.stages):
        for part, task in enumerate(stage.passes):
            recipe.progress.stage, recipe.progress.part = number, part
            log = begin_step(recipe)
            pulled[stage.name, task.task] = log["regularisation"] > 0
            dropout[stage.name, task.task] = system.model.training
    assert [key for key, found in pulled.items() if not found] == [("warm-up", "content")]
    without = [] if preset == "paper" else [("finetuning", "content")]
    assert [key for key, found in dropout.items() if not found] == without


def recipe_of(system: Cllm4RecSystem) -> Cllm4RecRecipe:
    rows, train = system.task_rows(lambda text: None), system.workplace.config.exp.train
    return Cllm4RecRecipe(system.workplace.accelerator, system.model, rows, train)


def begin_step(recipe: Cllm4RecRecipe) -> dict[str, float]:
    """A step as the trainer takes the first one of the segment under way."""
    segment = recipe.segment()
    assert segment is not None
    recipe.replicas.module.train(segment.dropout)
    return take_step(recipe)[0]


def state_of(system: Cllm4RecSystem) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in system.model.named_parameters()}


@pytest.mark.nightly
def test_without_mutual_weight_collaborative_tables_go_the_way_of_llm_cf(root: Path) -> None:
    source = world_language_model(root / "llama", attention_dropout=0.0)
    alone = world_config(root, model={"name": "cf", "model": source, "content": {"enabled": False}})
    beside = world_config(root, model={"name": "zero", "model": source, "mutual": {"weight": 0.0}})
    pulled = world_config(root, model={"name": "one", "model": source})
    found = [run(config) for config in (alone, beside, pulled)]
    tables = [last(config) for config in (alone, beside, pulled)]
    for name, tensor in tables[0].items():
        assert torch.equal(tensor, tables[1][name])
        assert not torch.equal(tensor, tables[2][name])
    assert found[0]["splits"]["test"]["rows"] == found[1]["splits"]["test"]["rows"]
    assert "content.user.weight" not in tables[0]


def yamls(root: Path, folder: Path) -> list[str]:
    """Data and model YAMLs of the planted world; the words that name them."""
    config = world_config(root)
    data, model = folder / "world.yaml", folder / "planted.yaml"
    text = json.dumps(config.data.model_dump(mode="json"))
    data.write_text(f"# {text[:20]}\n{text}")  # JSON is YAML
    section = json.loads(config.model.model_dump_json())
    section |= {"name": "planted", "model": world_language_model(root / "llama")}
    stages = {"warmup_epochs": 2, "pretraining_epochs": 16, "finetuning_epochs": 12}
    stages |= {"finetuning_lr": 0.01}
    section["train"] = {"lr": 0.01, "batch_size": 20, "stages": stages}
    model.write_text(json.dumps(section))
    exp = ["--exp", "cllm4rec", "--exp.runs_folder", str(folder / "runs"), "--seed", "3"]
    exp += ["--exp.cache.token_folder", str(folder / "tokens"), "--device", "cpu"]
    exp += ["--exp.evaluate.metrics", "[Recall@1, Recall@4]", "--exp.train.metric", "Recall@4"]
    exp += ["--exp.evaluate.exclude", "history+valid", "--exp.evaluate.beyond_accuracy_k", "null"]
    return ["--data", str(data), "--model", str(model), *exp]


@dataclass(frozen=True)
class Planted:
    """A run over planted clusters: its command, what its check said, its folder."""

    words: list[str]
    checked: str
    folder: Path


@pytest.fixture(scope="module")
def planted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    words = yamls(root, folder)
    with redirect_stdout(io.StringIO()) as checked:
        assert worker.main([*words, "--check"]) == 0
    assert worker.main(words) == 0
    (path,) = (folder / "runs/world/planted").iterdir()
    return Planted(words, checked.getvalue(), path)


@pytest.mark.slow
def test_planted_clusters_are_learnt_through_the_worker(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    for told in ("20 of 20", "texts (review, title)", "content tables", "not made yet", "warm-up"):
        assert told in " ".join(planted.checked.split())  # a long path folds the line
    words, path = planted.words, planted.folder / "results.json"
    results = json.loads(path.read_text())
    rows = results["splits"]["test"]["rows"]["all"]
    popular = results["baselines"]["test"]["popularity"]["rows"]["all"]
    assert rows["Recall@4"] == 1.0
    assert popular["Recall@4"] < 0.5
    assert results["training"]["best_epoch"] > 18  # of finetuning
    assert (path.parent / "report.html").is_file()
    arrays = path.parent / "diagnostics" / results["measurement"] / "test"
    assert len(np.load(arrays / "groups-Recall@4.npy")) == 20
    assert worker.main(words) == 0
    assert "is finished" in capsys.readouterr().out
    assert worker.main([*words, "--check"]) == 0
    text = capsys.readouterr().out
    assert "(finished)" in text
    assert "not made yet" not in text


@pytest.mark.slow
def test_towers_over_learnt_vectors_rank_without_the_language_model(
    root: Path,
    planted: Planted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CLLM4Rec-Emb: vectors of a finished run as files, read by bricks."""
    words, run_of = planted.words, planted.folder
    output = tmp_path / "vectors"
    arguments = ["--run", str(run_of), "--output", str(output), "--sets", "collaborative"]
    monkeypatch.setattr(sys, "argv", ["process.cllm4rec_vectors", *arguments, "content"])
    with pytest.raises(SystemExit, match="0"):
        run_cli(cllm4rec_vectors.main, cllm4rec_vectors.build_parser())
    assert "28 vectors of 64 numbers; 4 items without interactions" in capsys.readouterr().out
    tables = Tables.load(root / "tables")
    vectors = read_item_vectors(output / "items.safetensors", tables)
    assert vectors is not None
    model = open_trained(run_of, device="cpu").model
    assert torch.equal(vectors[:7, :32], model.collaborative.item.weight[:7])
    assert bool(vectors[7].isnan().all())  # cold
    exp = ["--exp", "rank-all", "--embed", "user-item-vectors", "--vectors_folder", str(output)]
    exp += ["--exp.train.epochs", "30", "--exp.train.lr", "0.01", "--exp.runs_folder"]
    exp += [str(tmp_path / "towers"), "--device", "cpu", "--exp.evaluate.metrics", "[Recall@4]"]
    exp += ["--exp.evaluate.exclude", "history+valid", "--exp.train.metric", "Recall@4"]
    exp += ["--exp.baselines", "[]", "--exp.evaluate.beyond_accuracy_k", "null"]
    exp += ["--exp.report", "false"]
    assert worker.main(["--data", words[1], "--model", "cllm4rec_emb", *exp]) == 0
    (path,) = (tmp_path / "towers").glob("world/cllm4rec_emb/*/results.json")
    assert json.loads(path.read_text())["splits"]["test"]["rows"]["all"]["Recall@4"] == 1.0
    monkeypatch.setattr(sys, "argv", ["process.cllm4rec_vectors", "--run", str(path.parent),
                                      "--output", str(output)])  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        run_cli(cllm4rec_vectors.main, cllm4rec_vectors.build_parser())
    assert "not a run of cllm4rec" in capsys.readouterr().err


@pytest.mark.slow
def test_a_comparison_pretrains_once_and_ranks_beside_bricks(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {"pretraining_epochs": 1, "finetuning_epochs": 1}
    short = world_config(root, model={"train": {"stages": stages}})
    plain = json.loads(short.model.model_dump_json())
    plain["model"] = world_language_model(root / "llama")
    without = {**plain, "name": "prerec", "recommendation": {"scoring": "next_item"}}
    without["train"] = {"stages": {"finetuning_epochs": 0}}
    mf = {
        "name": "mf",
        "hidden_size": 8,
        "item": {"name": "id"},
        "user": {"name": "user_id"},
        "predictor": {"name": "dot"},
    }
    config = world_config(
        root,
        mode="compare",
        baselines=["popularity"],
        compare={"models": [plain, without, {**mf, "against": "prerec"}], "seeds": [1, 2]},
        train={
            **json.loads(short.exp.train.model_dump_json()),
            "epochs": 1,
        },
    )
    config = at(config, tmp_path / "runs")
    summary = run(config)
    rows = {row["name"]: row for row in summary["rows"]["test"]}
    assert list(rows) == ["popularity", "cllm4rec", "prerec", "mf"]
    assert (rows["prerec"]["reference"], rows["mf"]["reference"]) == ("cllm4rec", "prerec")
    assert all(row["seeds"] == 2 for name, row in rows.items() if name != "popularity")
    shown = capsys.readouterr().out
    assert shown.count("starts from the pretraining of") == 2
    pretrained = [Path(path) for path in summary["runs"]["cllm4rec"]]
    for path, other in zip(pretrained, map(Path, summary["runs"]["prerec"]), strict=True):
        ours = load_file(other / "checkpoints/best/model.safetensors")
        theirs = load_file(path / "checkpoints/pretrained/model.safetensors")
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    alone = run(
        at(config, tmp_path / "other").model_copy(
            update={
                "model": config.exp.compare.models[1].alone(),  # type: ignore[union-attr]
                "exp": at(config, tmp_path / "other").exp.model_copy(
                    update={
                        "mode": "train_test",
                        "compare": None,
                        "train": config.exp.compare.models[1].train.model_copy(  # type: ignore[union-attr]
                            update={"seed": 1}
                        ),
                    }
                ),
            }
        )
    )
    assert alone["run"] == Path(summary["runs"]["prerec"][0]).name
    rows_alone = alone["splits"]["test"]["rows"]["all"]
    first = json.loads((Path(summary["runs"]["prerec"][0]) / "results.json").read_text())
    assert first["splits"]["test"]["rows"]["all"] == rows_alone


@pytest.mark.slow
def test_candidates_that_were_shown_can_be_scored_too(root: Path, tmp_path: Path) -> None:
    config = world_config(
        root,
        model={
            "train": {
                "stages": {"pretraining_epochs": 1, "valid_users": 5, "recommendation_steps": 1}
            }
        },
        evaluate={"ranking": "shown", "metrics": ["MRR"]},
        train={"metric": "MRR"},
    )
    found = run(at(config, tmp_path / "runs"))
    assert found["splits"]["test"]["rows"]["all"]["MRR"] == 1.0  # one candidate each
    assert found["training"]["steps"] == 17 + 3 + 17 + 2 * (1 + 17)


@pytest.mark.slow
def test_each_side_learns_at_the_rates_of_its_groups_on_the_schedule_of_its_stages(
    root: Path,
) -> None:
    """Warm-up of texts and pretraining share a schedule, finetuning begins another."""
    train = {
        "warmup": 0.1, "schedule": "linear", "adapters_lr": 0.5, "weight_decay": 0.25,
        "stages": {"finetuning_lr": 0.125},
    }  # fmt: skip
    model = {"backbone": {"train": "lora"}, "train": train}
    recipe = recipe_of(opened(world_config(root, model=model)))
    spans = []
    for stage in recipe.stages:
        spans.append(recipe.span())
        rates = {
            (group["peak_lr"], group["weight_decay"])
            for optimizer in recipe.replicas.optimizers.values()
            for group in optimizer.param_groups
        }
        assert rates == {(0.5, 0.25), (stage.lr, 0.25)}
        steps = sum(map(recipe._steps_of, stage.passes))
        recipe.progress.step += stage.epochs * steps
        recipe.next_stage()
    assert [done for done, _ in spans] == [0, spans[1][0], 0]
    assert 0 < spans[1][0] < spans[1][1] == spans[0][1]
    assert spans[2][1] == recipe.progress.step - spans[1][1]


@pytest.mark.parametrize("chosen", ["valid", "training_loss", "last"])
def test_finetuning_starts_from_the_content_tables_that_are_chosen(root: Path, chosen: str) -> None:
    system = opened(world_config(root, model={"content": {"checkpoint": chosen}}))
    recipe = recipe_of(system)
    assert [stage.epochs for stage in stages_of(system.settings, recipe.train)] == [1, 2, 2]
    first = state_of(system)
    if chosen != "last":
        recipe.kept["content"].offer(1.0)
    recipe.next_stage()
    begin_step(recipe)  # of interactions
    recipe.progress.part = 1
    begin_step(recipe)  # of texts
    later = state_of(system)
    if chosen != "last":
        recipe.kept["content"].offer(2.0)  # worse: not kept
    recipe.progress.part = 0
    recipe.next_stage()
    now = state_of(system)
    expected = later if chosen == "last" else first
    assert torch.equal(now["content.item.weight"], expected["content.item.weight"])
    assert torch.equal(now["collaborative.item.weight"], later["collaborative.item.weight"])
    assert all(not optimizer.state for optimizer in recipe.replicas.optimizers.values())


def test_finetuning_starts_from_the_collaborative_tables_of_the_lowest_loss(root: Path) -> None:
    """The public code's pretraining saves them where its training loss is lowest."""
    system = opened(world_config(root, model={"preset": "public_code"}))
    recipe = recipe_of(system)
    kept = recipe.kept["collaborative"]
    recipe.next_stage()
    for loss, better in ((2.0, True), (3.0, False), (1.0, True), (1.0, False)):
        begin_step(recipe)
        recipe.progress.loss_sum, recipe.progress.position = loss, 1
        now = state_of(system)["collaborative.item.weight"]
        segment = recipe.segment()
        assert segment is not None
        recipe.after(segment, math.nan)
        recipe.progress.part = 0
        item = kept.tensors()["kept/collaborative.item.weight"]
        assert torch.equal(item, now) == better
        assert kept.score == min(loss, 2.0 if loss > 1 else 1.0)
    recipe.next_stage()
    assert torch.equal(state_of(system)["collaborative.item.weight"], item)
    assert kept.score is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "exp", "message"),
    [
        ({"soft_init": 1e30}, {}, "loss is not finite in pretraining, epoch 1"),
        ({"max_length": 65}, {}, "tiny-llama reads at most 64 tokens"),
        ({"content": {"kinds": ["brand"]}}, {}, "has no texts of kind 'brand'"),
        ({"content": {"kinds": ["titel"]}}, {}, "did you mean 'title'"),
        ({"backbone": {"layers": 3}}, {}, "has 2; expected 1 to 2"),
        ({}, {"train": {"metric": "Recall@"}}, "Recall@"),
    ],
)
def test_a_mistake_is_one_clear_message(
    root: Path, tmp_path: Path, model: dict[str, Any], exp: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(at(world_config(root, model=model, **exp), tmp_path / "runs"))


def test_a_model_that_sees_later_tokens_is_refused(root: Path) -> None:
    bert = world_language_model(root / "llama", model_type="bert", num_key_value_heads=None)
    with pytest.raises(ConfigError, match="sees later tokens"):
        opened(world_config(root, model={"model": bert}))


@pytest.mark.slow
def test_a_checkpoint_of_other_tables_or_bricks_is_refused(root: Path, tmp_path: Path) -> None:
    trained = at(world_config(root), tmp_path / "runs")
    run(trained)
    folder = next((tmp_path / "runs/world/cllm4rec").iterdir())
    other = world_config(root, model={"content": {"enabled": False}}, mode="test", load=str(folder))
    with pytest.raises(CheckpointError, match="enabled: False, trained with True"):
        run(at(other, tmp_path / "runs"))
    with pytest.raises(LegosError, match="is a system of its own"):
        _ = trained.bricks


@pytest.mark.slow
def test_a_finished_run_serves_single_users_as_it_was_measured(root: Path, tmp_path: Path) -> None:
    config = at(world_config(root, model={"name": "served"}), tmp_path / "runs")
    run(config)
    (folder,) = (tmp_path / "runs/world/served").iterdir()
    system = open_trained(folder, device="cpu")
    users = torch.tensor([3, 17])
    expected = system.model.scores(system.prompts.prompts(users)).detach()
    for row, name in enumerate(("U3", "U17")):
        session = system.session(name)
        assert torch.allclose(session.scores(), expected[row], atol=1e-5)
        train = system.items.select(users[row : row + 1]).values.tolist()
        assert session.items == train
        assert not set(session.top(30).tolist()) & set(train)
    valid = system.workplace.split("valid")
    (clicked,) = valid.candidates.values[valid.candidates.spread(valid.users) == 17].tolist()
    assert clicked in system.session("U17").top(30).tolist()
    settings = system.settings.model_dump(mode="json") | {
        "recommendation": {"exclude": "train+valid"}
    }
    system.settings = Cllm4RecModel.model_validate(settings)
    assert clicked not in system.session("U17").top(30).tolist()
    with pytest.raises(DataError, match="user 'U99' is none of the 20 of"):
        system.session("U99")
    with pytest.raises(CheckpointError, match=r"not a run folder: it has no config\.json"):
        open_trained(tmp_path)
