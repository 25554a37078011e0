"""The training loop: exact accumulation, determinism, processes, errors that name the batch."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from legos.config.train_schema import TrainConfig
from legos.errors import CheckpointError, LegosError
from legos.recommender import Scored
from legos.runs.checkpoint import read_checkpoint
from legos.training.trainer import take_step
from tests.tiny import tiny_tables
from tests.training.tiny_training import final_weights, tiny_training, train_tiny
from tests.training.two_processes import in_two_processes


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("tiny") / "tables")


def command(tables: Path, folder: Path, settings: dict[str, Any]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"tables": str(tables), "folder": str(folder), **settings})
    return [sys.executable, "-m", "tests.training.tiny_training", text]


def run_two(tables: Path, folder: Path, **settings: Any) -> None:
    """The same training by two processes."""
    in_two_processes(command(tables, folder, settings)[1:])


def metric_lines(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
        line.pop("cpu_seconds")
    return lines


def assert_same_weights(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 0.0
) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr"])
def test_accumulated_batches_equal_the_big_batch(tables: Path, loss: str) -> None:
    settings = {"dropout": 0.0, "double": True, "loss": loss, "epochs": 1}
    big = tiny_training(tables, batch_size=24, **settings)
    small = tiny_training(tables, batch_size=6, acc_batch=4, **settings)
    for _ in range(big.stream.steps_per_pass + 2):  # into the second pass, over the short batch
        expected, _ = take_step(big, [])
        found, _ = take_step(small, [])
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-9)
    assert_same_weights(final_weights(small), final_weights(big), 1e-9)


@pytest.mark.slow
def test_training_lowers_the_loss(tables: Path, tmp_path: Path) -> None:
    train_tiny(tiny_training(tables, epochs=4), tmp_path)
    losses = [line["metrics"]["loss"] for line in metric_lines(tmp_path)[0:] if "metrics" in line]
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(tables: Path, tmp_path: Path) -> None:
    weights = []
    for name in ("0", "1"):
        training = tiny_training(tables, epochs=2)
        train_tiny(training, tmp_path / name)
        weights.append(final_weights(training))
    assert_same_weights(*weights)
    assert metric_lines(tmp_path / "0") == metric_lines(tmp_path / "1")


@pytest.mark.slow
def test_another_seed_gives_other_weights(tables: Path, tmp_path: Path) -> None:
    weights = []
    for seed in (1, 2):
        training = tiny_training(tables, epochs=1, seed=seed)
        train_tiny(training, tmp_path / str(seed))
        weights.append(final_weights(training)["item_encoder.dense.category.weight"])
    assert not torch.equal(*weights)


def test_a_third_of_an_epoch_goes_on_where_it_stopped(tables: Path, tmp_path: Path) -> None:
    whole = tiny_training(tables, epochs=1, schedule="constant", warmup=0.0)
    third = tiny_training(tables, epochs=3, epoch_batch=-3, schedule="constant", warmup=0.0)
    steps = third.stream.steps_per_epoch * 3
    assert whole.stream.steps_per_pass <= steps <= whole.stream.steps_per_pass + 2
    train_tiny(third, tmp_path)
    assert third.progress.step == steps
    assert [line["step"] for line in metric_lines(tmp_path) if line["kind"] == "valid"] == [
        steps // 3, 2 * steps // 3, steps,
    ]  # fmt: skip


@pytest.mark.slow
def test_early_stopping_ends_the_training(tables: Path, tmp_path: Path) -> None:
    training = tiny_training(tables, epochs=50, patience=2, lr=0.0)
    train_tiny(training, tmp_path)
    assert training.progress.epoch == 3  # one best epoch, then two plateaus


def test_a_finished_training_is_not_trained_again(tables: Path, tmp_path: Path) -> None:
    train_tiny(tiny_training(tables, epochs=1), tmp_path)
    again = tiny_training(tables, epochs=1)
    train_tiny(again, tmp_path)
    assert again.progress.step == again.stream.steps_per_epoch
    assert again.progress.epoch == 1


@pytest.mark.multiprocess
@pytest.mark.parametrize(("acc_batch", "double", "tolerance"), [(1, False, 1e-5), (2, True, 1e-9)])
def test_two_processes_train_the_model_that_one_trains(
    tables: Path, tmp_path: Path, acc_batch: int, double: bool, tolerance: float
) -> None:
    # 268 rows: the last step is short and its parts uneven
    settings = {"dropout": 0.0, "double": double, "epochs": 2, "acc_batch": acc_batch}
    run_two(tables, tmp_path / "two", batch_size=16, **settings)
    one = tiny_training(tables, batch_size=16, **settings)
    train_tiny(one, tmp_path / "one")
    assert_same_weights(
        load_file(tmp_path / "two" / "weights.safetensors"), final_weights(one), tolerance
    )
    lines = [metric_lines(tmp_path / name) for name in ("two", "one")]
    assert len(lines[0]) == len(lines[1])  # one process wrote
    assert lines[0][-1]["train_loss"] == pytest.approx(lines[1][-1]["train_loss"], abs=tolerance)


@pytest.mark.multiprocess
def test_two_processes_resume_together_or_as_one(tables: Path, tmp_path: Path) -> None:
    settings = {"batch_size": 16, "schedule": "constant", "warmup": 0.0}
    run_two(tables, tmp_path / "straight", epochs=2, **settings)
    run_two(tables, tmp_path / "resumed", epochs=1, **settings)
    alone = shutil.copytree(tmp_path / "resumed", tmp_path / "alone")
    train_tiny(tiny_training(tables, epochs=2, **settings), alone)
    assert "saved by 2 processes, resumed with 1" in (alone / "log.txt").read_text()
    with pytest.raises(CheckpointError, match="saved with 16 rows a step, now 8"):
        train_tiny(tiny_training(tables, epochs=2, **{**settings, "batch_size": 8}), alone)
    run_two(tables, tmp_path / "resumed", epochs=2, **settings)
    assert_same_weights(  # with dropout: each process went on with its own random numbers
        load_file(tmp_path / "resumed" / "weights.safetensors"),
        load_file(tmp_path / "straight" / "weights.safetensors"),
    )


def test_a_loss_that_is_no_number_names_epoch_step_and_impressions(tables: Path) -> None:
    training = tiny_training(tables)
    take_step(training, [])
    rows = training.stream.rows(1).micro_batches[0]
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(LegosError, match=r"loss is not finite in epoch 1, step 2") as caught:
        take_step(training, [])
    assert f"row{rows[0]}" in str(caught.value)


def test_only_the_rows_with_a_bad_loss_are_named(tables: Path) -> None:
    training = tiny_training(tables, batch_size=4)
    users = training.rows.batch(training.stream.rows(0).micro_batches[0], pass_number=0)
    bad_item = int(users.items[users.candidates[1, 0]])
    forward = training.model.forward

    def breaking(batch: Any, *content: Any) -> Scored:
        scores, _ = forward(batch, *content)
        broken = batch.items[batch.candidates] == bad_item
        return Scored(scores * torch.where(broken, torch.nan, 1.0), None)

    training.model.forward = breaking
    with pytest.raises(LegosError) as caught:
        take_step(training, [])
    rows = training.stream.rows(0).micro_batches[0]
    assert f"row{rows[1]}" in str(caught.value)
    assert "and" not in str(caught.value).split("impressions")[1].split(";")[0]


def test_a_process_hears_what_any_process_raises(tables: Path) -> None:
    _, raised = take_step(tiny_training(tables), [False, True])
    assert raised == [False, True]


def test_without_epochs_the_best_is_the_model_as_it_was(tables: Path, tmp_path: Path) -> None:
    training = tiny_training(tables, epochs=0)
    before = final_weights(training)
    train_tiny(training, tmp_path)
    stored = read_checkpoint(tmp_path / "checkpoints/best").model
    assert stored.keys() == before.keys()
    assert all(torch.equal(stored[name], before[name]) for name in before)
    assert not (tmp_path / "checkpoints/last").exists()


def test_only_parameters_of_language_models_learn_at_item_lr(tables: Path) -> None:
    model = tiny_training(tables).bare_model
    model.item_encoder.view_attention.is_language_model = True
    from legos.systems.bricks.recipe import brick_optimizer
    from legos.training.optimizer import set_learning_rate

    train = TrainConfig(optimizer="adamw", lr=1e-3, item_lr=1e-5, weight_decay=0.1)
    optimizer = brick_optimizer(model, train)
    set_learning_rate(optimizer, 0.5)
    rates = {
        parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert rates[model.item_encoder.view_attention.project.weight] == pytest.approx(5e-6)
    assert rates[model.item_encoder.dense["category"].weight] == pytest.approx(5e-4)
    assert len(rates) == len(list(model.parameters()))
