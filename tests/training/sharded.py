"""Save and restore a model sharded over two processes; run by ``test_sharded.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from legos.data.items import ItemStore
from legos.data.tables import Tables
from legos.training.weights import (
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)
from tests.training.tiny_training import FIELDS, tiny_model


def main() -> None:
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    tables = Tables.load(Path(sys.argv[1]))
    store = ItemStore.from_tables(tables, FIELDS)

    def sharded() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model: torch.nn.Module = tiny_model(tables, store)
        fully_shard(model, mesh=mesh)
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    plain = model_tensors(tiny_model(tables, store))
    first, optimizer = sharded()
    assert all(isinstance(parameter, DTensor) for parameter in first.parameters())
    gathered = model_tensors(first)
    assert all(torch.equal(gathered[name], plain[name]) for name in plain)
    step(first, optimizer)
    second, resumed = sharded()
    load_model_tensors(second, model_tensors(first), origin="here")
    load_optimizer_tensors(second, resumed, optimizer_tensors(first, optimizer), origin="here")
    step(first, optimizer)
    step(second, resumed)
    expected, found = model_tensors(first), model_tensors(second)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not all(torch.equal(found[name], plain[name]) for name in plain)
    dist.barrier()  # the first process serves the addresses of both
    dist.destroy_process_group()
    print("ok")


if __name__ == "__main__":
    main()
