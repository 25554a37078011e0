"""Everything that a finished run left, but for the seconds it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

_OF_THE_MACHINE = ("second", "memory", "metrics_position", "files")
"""Parts of keys whose values differ between two runs of the same bits."""


def finished(runs: Path) -> dict[str, Any]:
    """By its path below the run folder each tensor, array, line and number of the one run.

    Args:
        runs: the runs folder.
    """
    (results,) = runs.glob("*/*/*/results.json")
    folder, found = results.parent, {"results.json": steady(json.loads(results.read_text()))}
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found["metrics.jsonl"] = [steady(json.loads(line)) for line in lines]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            found[name] = load_file(path)
        elif path.suffix == ".npy":
            found[name] = {"": torch.from_numpy(np.load(path))}
        elif path.name == "state.json":
            found[name] = steady(json.loads(path.read_text()))
    return found


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Both runs left the same bits."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if not isinstance(values, dict) or not name.endswith((".safetensors", ".npy")):
            assert found[name] == values, name
            continue
        assert found[name].keys() == values.keys(), name
        for key, tensor in values.items():
            same = torch.equal(found[name][key].nan_to_num(nan=7e7), tensor.nan_to_num(nan=7e7))
            assert same, f"{name}: {key}"


def steady(value: Any) -> Any:
    """The value without what depends on the machine, at any depth."""
    if isinstance(value, list):
        return [steady(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: steady(each)
        for key, each in value.items()
        if not any(part in key for part in _OF_THE_MACHINE)
    }
