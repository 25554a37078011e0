"""Gradient caching in two processes; run by ``test_gradient_cache.py`` as ``TABLES FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import nn

from legos.training.distributed import average_gradients
from legos.training.trainer import take_step
from legos.workplace.device import joined_processes
from tests.training.tiny_training import final_weights, tiny_training

SETTINGS = {"dropout": 0.0, "double": True, "acc_batch": 2}


def main() -> None:
    tables, folder = map(Path, sys.argv[1:])
    training = tiny_training(tables, batch_size=16, item_page_size=7, **SETTINGS)
    plain = tiny_training(tables, batch_size=16, accelerator=training.accelerator, **SETTINGS)
    with joined_processes(training.accelerator):
        for _ in range(training.stream.steps_per_pass + 1):  # over the short step
            expected, found = take_step(plain, []), take_step(training, [])
            assert abs(found[0]["loss"] - expected[0]["loss"]) < 1e-9
        weights = final_weights(training)
        for name, weight in final_weights(plain).items():
            torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-9)
        if training.accelerator.is_main_process:
            save_file(weights, folder / "weights.safetensors")
        average_what_there_is(training.accelerator)
        page_larger_than_one_part(tables, training.accelerator)


def average_what_there_is(accelerator: Accelerator) -> None:
    """A gradient that one process misses is zero there; one that all miss stays missing."""
    rank = accelerator.process_index
    model = nn.ParameterList(
        [torch.zeros(2), torch.zeros(3).double(), torch.zeros(1), torch.ones(2)]
    )
    model.register_buffer("statistic", torch.full((2,), float(rank)))
    both, one, none, frozen = model
    frozen.requires_grad = False
    both.grad = torch.tensor([1.0, 2.0]) * (rank + 1)
    if rank == 1:
        one.grad = torch.tensor([2.0, 4.0, 6.0]).double()
    average_gradients(model, accelerator)
    assert torch.equal(both.grad, torch.tensor([1.5, 3.0]))
    assert one.grad is not None
    assert torch.equal(one.grad, torch.tensor([1.0, 2.0, 3.0]).double())
    assert none.grad is None
    assert frozen.grad is None
    assert not model.statistic.any()  # that of the first process


def page_larger_than_one_part(tables: Path, accelerator: Accelerator) -> None:
    """Processes that differ in whether their part fills a page still average with each other."""
    training = tiny_training(tables, batch_size=2, accelerator=accelerator, **SETTINGS)
    rows = training.rows
    counts = [
        rows.batch(row[None], pass_number=0).items.numel()
        for micro in training.stream.rows(0).micro_batches
        for row in micro
    ]
    size = min(counts[-2:])  # of the last micro-batch, at which gradients are averaged
    assert size < max(counts[-2:]), counts
    paged = tiny_training(
        tables, batch_size=2, accelerator=accelerator, item_page_size=size, **SETTINGS
    )
    assert abs(take_step(paged, [])[0]["loss"] - take_step(training, [])[0]["loss"]) < 1e-9
    weights = final_weights(training)
    for name, weight in final_weights(paged).items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-9)


if __name__ == "__main__":
    main()
