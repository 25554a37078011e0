"""Sections ``step`` and ``dedup``: what a step costs, cut at each layer, with every item once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.dire_setting import Setting, reads_tokens, step_at, verdict
from legos.data.batch import Batch, TrainingRows
from legos.systems.bricks.recipe import BricksRecipe

STEP_TARGET = 1.25  # of the theory; the rest is what several small calls cost beside one large one
_BATCHES = 3  # different ones; each round takes the next
_LARGER = 4  # as many clicks a step are compared by section dedup: few occur twice in a small one
_SIZES = (32, 64, 128, 256, 512)


def step_section(setting: Setting) -> dict[str, Any]:
    """Training steps, uncut and cached at every layer, beside what theory says."""
    options, count = setting.options, setting.num_layers
    layers = list(range(1, count))
    batches = setting.batches(min(_BATCHES, options.repeat), options.batch_size)
    tokens = setting.needed_tokens(batches)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = setting.cached(Path(folder), tokens, layers)
        states = {layer: {setting.part(layer).name: part} for layer, part in found.items()}
        sides = {
            "uncut": setting.training(0, reads_tokens(tokens)),
            "embeddings alone": setting.training(0, reads_tokens(tokens), without_layers=True),
            "no layers": setting.training(count - 1, states[count - 1], without_layers=True),
        }
        for layer in layers:
            sides[f"cached at {layer}"] = setting.training(layer, states[layer])
        seconds = _in_turns(setting, sides, len(batches))
    result = beside_theory({name: median(times) for name, times in seconds.items()}, count)
    result["every_turn"] = seconds
    items = sum(len(batch.items) for batch in batches) / len(batches)
    result["items_a_step"] = items
    result["tokens_a_step"] = _tokens_a_step(setting, batches)
    _print_steps(setting, result)
    return result


def _in_turns(
    setting: Setting, sides: dict[str, BricksRecipe], batches: int
) -> dict[str, list[float]]:
    """Seconds of each side's steps; they take turns, so that a slower machine is so for all."""
    for training in sides.values():
        step_at(training, 0)()  # the first one also allocates
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(setting.options.repeat):
        for name, training in sides.items():
            seconds[name].append(setting.seconds(step_at(training, number % batches)))
    return seconds


def beside_theory(measured: Mapping[str, float], count: int) -> dict[str, Any]:
    """The parts outside the layers, and this many layers.

    Args:
        measured: seconds of a step ``uncut``, with ``embeddings alone``, of ``no layers``, and
            ``cached at`` every layer that there is a row for.
        count: L.
    """
    per_layer = (measured["uncut"] - measured["embeddings alone"]) / count
    rows = []
    for layer in range(1, count):
        own = measured.get(f"cached at {layer}")
        if own is None:
            continue
        theory = measured["no layers"] + (count - layer) * per_layer
        rows.append(
            {
                "layer": layer,
                "seconds": own,
                "ratio": own / measured["uncut"],
                "layers_ratio": (count - layer) / count,
                "theory_seconds": theory,
                "theory_ratio": theory / measured["uncut"],
                "over_theory": own / theory,
                "holds": own <= STEP_TARGET * theory,
            }
        )
    return {
        "uncut_seconds": measured["uncut"],
        "embeddings_alone_seconds": measured["embeddings alone"],
        "no_layers_seconds": measured["no layers"],
        "per_layer_seconds": per_layer,
        "cached": rows,
        "ours": {row["layer"]: row["seconds"] for row in rows},
        "other": measured["uncut"],
        "ratio": {row["layer"]: row["ratio"] for row in rows},
        "target": {row["layer"]: round(STEP_TARGET * row["theory_ratio"], 4) for row in rows},
        "holds": all(row["holds"] for row in rows),
    }


def _print_steps(setting: Setting, result: dict[str, Any]) -> None:
    options = setting.options
    print(
        f"\nstep: {options.llm_ver}, {options.tuning}, {options.batch_size} clicks, "
        f"{result['items_a_step']:.0f} distinct items with {result['tokens_a_step']:.0f} tokens\n"
        f"uncut {result['uncut_seconds']:.3f} s (of it around the layers "
        f"{result['embeddings_alone_seconds']:.3f} s), without any layer, from states "
        f"{result['no_layers_seconds']:.3f} s, a layer {result['per_layer_seconds']:.3f} s"
    )
    print("cached at  seconds  ratio  (L-k)/L  theory: seconds  ratio  seconds / theory")
    for row in result["cached"]:
        print(
            f"{row['layer']:9d}  {row['seconds']:7.3f}  {row['ratio']:5.3f}  "
            f"{row['layers_ratio']:7.3f}  {row['theory_seconds']:15.3f}  "
            f"{row['theory_ratio']:5.3f}  {row['over_theory']:16.3f}  {verdict(row['holds'])}",
            flush=True,
        )


def dedup_section(setting: Setting) -> dict[str, Any]:
    """How many items of a batch are distinct, and what encoding each of them once saves."""
    rows = [_saved(setting.batches(5, size), size) for size in _SIZES]
    print(f"\ndedup: encodings a batch of {setting.config.data.name}")
    print(" clicks  padded  slots  distinct  saved  of padded")
    for row in rows:
        print(
            f"{row['clicks']:7.0f}  {row['padded']:6.0f}  {row['slots']:5.0f}  "
            f"{row['distinct']:8.0f}  {1 - row['distinct'] / row['slots']:5.1%}  "
            f"{1 - row['distinct'] / row['padded']:9.1%}"
        )
    clicks = _LARGER * setting.options.batch_size
    layer = setting.num_layers - 1
    batches = setting.batches(1, clicks)
    tokens = setting.needed_tokens(batches)
    with tempfile.TemporaryDirectory(dir=setting.options.folder) as folder:
        states = setting.cached(Path(folder), tokens, [layer])
        language = {setting.part(layer).name: states[layer]}
        sides = {
            "distinct": setting.training(layer, language, batch_size=clicks),
            "slots": setting.training(
                layer, language, batch_size=clicks, rows=EverySlot(setting.rows)
            ),
        }
        seconds = {name: median(each) for name, each in _in_turns(setting, sides, 1).items()}
    ratio = seconds["distinct"] / seconds["slots"]
    here = _saved(batches, clicks)
    print(
        f"a step of {clicks} clicks cached at {layer}: {seconds['distinct']:.3f} s, encoding "
        f"every slot {seconds['slots']:.3f} s, ratio {ratio:.3f} (encodings: "
        f"{here['distinct'] / here['slots']:.3f})",
        flush=True,
    )
    return {
        "batches": rows,
        "ours": seconds["distinct"],
        "other": seconds["slots"],
        "ratio": ratio,
        "target": "< 1",
        "holds": ratio < 1,
    }


def _saved(batches: list[Batch], size: int) -> dict[str, float]:
    """Means over batches: slots of a padded loop, slots that hold an item, distinct items."""
    return {
        "clicks": size,
        "padded": _mean([batch.history.numel() + batch.candidates.numel() for batch in batches]),
        "slots": _mean(
            [int(batch.history_mask.sum()) + batch.candidates.numel() for batch in batches]
        ),
        "distinct": _mean([len(batch.items) for batch in batches]),
    }


class EverySlot(TrainingRows):
    """The same training rows, an item as often as it occurs.

    Args:
        rows: with every item once.
    """

    def __init__(self, rows: TrainingRows) -> None:
        super().__init__(rows.interactions, rows.sampler)

    def batch(self, units: Tensor, *, pass_number: int, step: int = 0) -> Batch:
        """The same batch with ``items`` for each history and candidate slot in turn."""
        batch = super().batch(units, pass_number=pass_number, step=step)
        read = batch.history[batch.history_mask]
        shown = batch.candidates.reshape(-1)
        place = torch.arange(len(read) + len(shown), device=read.device)
        history = torch.zeros_like(batch.history)
        history[batch.history_mask] = place[: len(read)]
        return Batch(
            items=batch.items[torch.cat([read, shown])],
            history=history,
            history_mask=batch.history_mask,
            candidates=place[len(read) :].view_as(batch.candidates),
            candidate_mask=batch.candidate_mask,
            labels=batch.labels,
            users=batch.users,
            rows=batch.rows,
        )


def _tokens_a_step(setting: Setting, batches: list[Batch]) -> float:
    lengths = setting.tokens.lengths
    return _mean([int(lengths[batch.items.cpu()].sum()) for batch in batches])


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers)
