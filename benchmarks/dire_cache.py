"""Sections ``write``, ``read`` and ``size``: the cache of hidden states as files."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.dire_setting import Setting, run_config, verdict, with_fields
from legos.data.ragged import Ragged
from legos.lm.hidden_cache import HiddenStates
from legos.lm.hidden_writer import SHARD_BYTES, split, write_parts
from legos.lm.states import padded_batch, similar_items
from legos.lm.text_model import DTYPES, call_options, layer_stack

WRITE_TARGET = 0.9  # of the speed of the bare forward through as many layers
SIZE_TARGET = 0.6  # of the padded layout
OURS = "HiddenStates.select"
_READ_ITEMS = 600  # about what a batch of 64 clicks needs
_READS = 20  # batches a turn

Padded = tuple[Tensor, Tensor]
"""Token ids and mask, ``(n, T)`` each."""


def some_items(setting: Setting) -> Ragged:
    """Token ids of ``--items`` random items."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(setting.tokens), generator=generator)[: setting.options.items]
    return setting.tokens.select(chosen)


def write_section(setting: Setting) -> dict[str, Any]:
    """Tokens a second of writing the states at the last layer, beside bare forward passes."""
    layer = setting.num_layers - 1
    tokens, part = some_items(setting), setting.part(layer)
    reader = setting.reader([layer])
    bounds = split(tokens.offsets, [part], setting.reading.dtype, SHARD_BYTES)
    batches: list[Padded] = []
    for first, stop in pairwise(bounds):  # as the writer goes through them
        page = tokens.select(torch.arange(first, stop))
        for items in similar_items(page, batch_tokens=reader.batch_tokens):
            batches.append(padded_batch(page, items, padding=reader.padding))
    below = lowest_layers(reader.model, layer)

    def write() -> None:
        cache = setting.cache(Path(tempfile.mkdtemp(dir=folder)), tokens)
        write_parts(cache, tokens, [part], reader, dtype=setting.reading.dtype)

    sides: dict[str, Callable[[], object]] = {
        "write": write,
        "forward": lambda: forward(below, batches, setting.device),
        "whole": lambda: forward(reader.model, batches, setting.device),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    forward(below, batches[-1:], setting.device)  # the first one also allocates
    for number in range(setting.options.repeat):
        first = number % len(sides)  # each side begins as often as the others
        for name in [*sides, *sides][first : first + len(sides)]:
            with tempfile.TemporaryDirectory(dir=setting.options.folder) as folder:
                seconds[name].append(setting.wall_seconds(sides[name]))
    return _print_write(setting, tokens, seconds)


def _print_write(
    setting: Setting, tokens: Ragged, seconds: dict[str, list[float]]
) -> dict[str, Any]:
    count = int(tokens.offsets[-1])
    speed = {name: count / median(times) for name, times in seconds.items()}
    ratio = {name: _median_ratio(seconds[name], seconds["write"]) for name in ("forward", "whole")}
    holds = ratio["forward"] >= WRITE_TARGET
    layers = setting.num_layers
    print(
        f"\nwrite: states at layer {layers - 1} of {len(tokens):,} items, {count:,} tokens, "
        f"{setting.reading.dtype}\n"
        f"written, with hashes      {speed['write']:9.0f} tokens/s\n"
        f"bare forward, {layers - 1} layers    {speed['forward']:9.0f} tokens/s  "
        f"ratio {ratio['forward']:.3f}  {verdict(holds)} (target {WRITE_TARGET})\n"
        f"bare forward, all layers  {speed['whole']:9.0f} tokens/s  ratio {ratio['whole']:.3f}",
        flush=True,
    )
    return {
        "items": len(tokens),
        "tokens": count,
        "tokens_per_second": speed,
        "ours": speed["write"],
        "other": {name: speed[name] for name in ratio},
        "ratio": ratio,
        "every_turn": seconds,
        "target": WRITE_TARGET,
        "holds": holds,
    }


def lowest_layers(model: nn.Module, count: int) -> nn.Module:
    """A copy that ends after ``count`` layers."""
    model = copy.deepcopy(model)
    path, layers = layer_stack(model)
    model.set_submodule(path, layers[:count])
    config: Any = model.config
    config.num_hidden_layers = count
    return model


@torch.no_grad()
def forward(model: nn.Module, batches: Sequence[Padded], device: torch.device) -> None:
    """Forward passes and nothing else."""
    options = call_options(model)
    for padded, mask in batches:
        model(input_ids=padded.to(device), attention_mask=mask.long().to(device), **options)


def read_section(setting: Setting) -> dict[str, Any]:
    """GB/s of reading random items' states, in memory already, beside bare copies of them."""
    tokens, part = some_items(setting), setting.part(setting.num_layers - 1)
    dtype = setting.reading.dtype
    with tempfile.TemporaryDirectory(dir=setting.options.folder) as name:
        folder = Path(name)
        cache = setting.cache(folder, tokens)
        write_parts(
            cache, tokens, [part], _random_states(part.name, part.width, dtype), dtype=dtype
        )
        states = cache.open(part.name)
        whole = states.select(torch.arange(len(tokens))).values
        np.save(folder / "whole.npy", whole.view(torch.uint8).numpy())
        mapped = np.load(folder / "whole.npy", mmap_mode="r")
        sides = _read_sides(states, mapped, whole, setting.device)
        speed, ratio = _read_speed(setting, sides, states)
    shards = len(states.shards)
    print(f"\nread: {min(_READ_ITEMS, len(tokens))} random items a batch, {dtype}, {shards} shards")
    for side, value in speed.items():
        against = f"  ratio {ratio[side]:.3f}" if side in ratio else ""
        print(f"{side:38s} {value:6.2f} GB/s{against}", flush=True)
    return {
        "shards": shards,
        "ours": speed.pop(OURS),
        "other": speed,
        "ratio": ratio,
        "holds": True,  # nothing is promised; see the ratios
    }


def _random_states(name: str, width: int, dtype: str) -> Callable[[Ragged], Mapping[str, Tensor]]:
    """How fast states are read does not depend on their values."""

    def states(page: Ragged) -> Mapping[str, Tensor]:
        return {name: torch.randn(page.values.numel(), width, dtype=DTYPES[dtype])}

    return states


def _read_sides(
    states: HiddenStates, mapped: np.ndarray, whole: Tensor, device: torch.device
) -> dict[str, Callable[[Tensor, Tensor], object]]:
    """Ways of copying the rows ``(P,)`` of items ``(M,)``."""
    offsets = states.offsets

    def slices(items: Tensor, rows: Tensor) -> np.ndarray:
        copied = np.empty((len(rows), mapped.shape[1]), mapped.dtype)
        end = 0
        bounds = zip(offsets[items].tolist(), offsets[items + 1].tolist(), strict=True)
        for first, stop in bounds:
            begin, end = end, end + stop - first
            copied[begin:end] = mapped[first:stop]
        return copied

    sides: dict[str, Callable[[Tensor, Tensor], object]] = {
        OURS: lambda items, rows: states.select(items),
        "numpy, a slice of the file an item": slices,
        "torch index_select of a tensor": lambda items, rows: whole.index_select(0, rows),
    }
    if device.type == "cuda":
        there = states.to(device)
        sides["HiddenStates.select on the GPU"] = lambda items, rows: there.select(items)
    return sides


def _read_speed(
    setting: Setting, sides: dict[str, Callable[[Tensor, Tensor], object]], states: HiddenStates
) -> tuple[dict[str, float], dict[str, float]]:
    """GB/s of each side, and ours over that of each other one."""
    generator = torch.Generator().manual_seed(1)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    row_bytes = states.width * states.dtype.itemsize
    sizes: list[int] = []
    for number in range(_READS * setting.options.repeat + 1):
        items = torch.randperm(len(states), generator=generator)[:_READ_ITEMS].sort().values
        index = Ragged(torch.arange(int(states.offsets[-1])), states.offsets)
        rows = index.select(items).values
        taken = {
            name: setting.wall_seconds(partial(side, items, rows)) for name, side in sides.items()
        }
        if number == 0:
            continue  # it maps the pages
        sizes.append(len(rows) * row_bytes)
        for name, value in taken.items():
            seconds[name].append(value)
    speed = {
        name: median(size / time / 1e9 for size, time in zip(sizes, times, strict=True))
        for name, times in seconds.items()
    }
    ours = seconds[OURS]
    ratio = {name: _median_ratio(times, ours) for name, times in seconds.items() if name != OURS}
    return speed, ratio


def size_section(setting: Setting) -> dict[str, Any]:
    """Bytes of one cached layer without padding, beside items all as long as the longest."""
    rows: list[dict[str, Any]] = []
    long = [["title", "description"]] if setting.options.data == "goodreads" else []
    for fields in (["title"], *long):
        reading = setting.read(run_config(with_fields(setting.options, fields)))
        lengths = reading.tokens.lengths
        packed, padded = int(lengths.sum()), len(lengths) * int(lengths.max())
        width = setting.language_model.width
        row: dict[str, Any] = {
            "fields": fields,
            "items": len(lengths),
            "mean_tokens": packed / len(lengths),
            "longest": int(lengths.max()),
            "ratio": packed / padded,
            "gb_bf16": packed * width * 2 / 1e9,
            "gb_fp32": packed * width * 4 / 1e9,
            "published_gb": padded * width * 4 / 1e9,
            "holds": packed / padded <= SIZE_TARGET,
        }
        rows.append(row)
    print(f"\nsize: one layer of {setting.options.llm_ver}; published: padded, always float32")
    print("fields               tokens  longest  GB bf16  fp32  published  ratio of rows")
    for row in rows:
        print(
            f"{' '.join(row['fields']):20s} {row['mean_tokens']:6.1f}  {row['longest']:7d}  "
            f"{row['gb_bf16']:7.2f}  {row['gb_fp32']:4.2f}  {row['published_gb']:9.2f}  "
            f"{row['ratio']:13.3f}  {verdict(row['holds'])} (target {SIZE_TARGET})",
            flush=True,
        )
    names = [" ".join(row["fields"]) for row in rows]
    return {
        "rows": rows,
        "ours": {name: row["gb_fp32"] for name, row in zip(names, rows, strict=True)},
        "other": {name: row["published_gb"] for name, row in zip(names, rows, strict=True)},
        "ratio": {name: row["ratio"] for name, row in zip(names, rows, strict=True)},
        "target": SIZE_TARGET,
        "holds": all(row["holds"] for row in rows),
    }


def _median_ratio(other: list[float], ours: list[float]) -> float:
    """How many times as fast we are; turn by turn, so that a slow moment counts for both."""
    return median(theirs / own for theirs, own in zip(other, ours, strict=True))
