"""Which trainings saw less than one pass of their rows: such a model is not trained yet.

``steps_per_pass`` in ``training`` of ``results.json`` are the optimizer steps that read every
training row once. CLLM4Rec's stages and methods that are fitted have no such number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from legos.errors import some
from legos.runs.folder import RunFolder


def passes(training: Mapping[str, Any]) -> float | None:
    """How often a training saw its rows; None if its system does not say.

    Args:
        training: that of ``results.json``.
    """
    steps, whole = training.get("steps"), training.get("steps_per_pass")
    return steps / whole if isinstance(steps, int) and isinstance(whole, int) and whole else None


def trainings_in(runs: Mapping[str, Path]) -> dict[str, Mapping[str, Any]]:
    """By name what ``results.json`` of a run folder says of its training."""
    found = {name: RunFolder(path).results() or {} for name, path in runs.items()}
    return {name: results.get("training", {}) for name, results in found.items()}


def short_trainings(trainings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which models saw less than one pass of their training rows.

    Args:
        trainings: by model or row ``training`` of its ``results.json``.

    Returns:
        One sentence for all models with the same number of steps.
    """
    alike: dict[tuple[int, int], list[str]] = {}
    for name, training in trainings.items():
        seen = passes(training)
        if seen is not None and seen < 1:
            alike.setdefault((training["steps"], training["steps_per_pass"]), []).append(name)
    return [
        f"{some(names)}: trained for {steps:,} of the {whole:,} steps of one pass over the "
        "training rows; the metrics do not show yet what the model can do (--exp.train.epochs sets "
        "the number of epochs, --exp.train.epoch_batch 0 makes each a whole pass)"
        for (steps, whole), names in alike.items()
    ]
