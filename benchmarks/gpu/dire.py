"""Parts ``dire`` and ``cache``: cached steps against theory, caching against bare forwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.dire_cache import WRITE_TARGET, forward, lowest_layers
from benchmarks.dire_setting import step_at
from benchmarks.dire_step import STEP_TARGET, beside_theory
from benchmarks.gpu.outcome import Row, Tell, trying
from benchmarks.gpu.roofline import copy_gbs, matmul_tflops
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.systems import Clicks, dire_recipe, read_of
from benchmarks.shapes import Shape
from legos.data.ragged import Ragged, from_lengths
from legos.lm.hidden_cache import HiddenCache
from legos.lm.hidden_files import CachedPart
from legos.lm.hidden_writer import write_parts
from legos.lm.states import StateReader, layer_name, padded_batch, similar_items
from legos.systems.bricks.recipe import BricksRecipe

PRECISION = "bf16"
_READ_ITEMS, _READS = 600, 20
_WRITTEN = "written"  # removed after every turn: gigabytes


def dire_part(setting: Setting, tell: Tell) -> None:
    """Steps cached at four layers beside an uncut one, and what theory says of them."""
    sizes, count = setting.sizes, setting.sizes.dire.layers
    shape = Shape(20 * sizes.dire_clicks, sizes.dire_clicks, 20)
    clicks = Clicks(setting.language(sizes.dire, PRECISION), shape, sizes.title_tokens)
    layers = sorted({count // 4, count // 2, 3 * count // 4, count - 1} - {0})
    accelerator, lengths = setting.accelerator(PRECISION), clicks.titles.lengths
    values = torch.randn(int(lengths.sum()), sizes.dire.size).to(torch.bfloat16)
    states = from_lengths(values, lengths).to(accelerator.device)  # their values cost nothing

    def recipe(layer: int, *, without_layers: bool = False) -> BricksRecipe:
        read = read_of(layer, states if layer else clicks.titles)
        return dire_recipe(
            accelerator, clicks, layer, read, batch_size=sizes.dire_clicks,
            without_layers=without_layers,
        )  # fmt: skip

    recipes = {
        "uncut": recipe(0),
        "embeddings alone": recipe(0, without_layers=True),
        "no layers": recipe(count - 1, without_layers=True),
        **{f"cached at {layer}": recipe(layer) for layer in layers},
    }
    steps = {name: step_at(each, 0) for name, each in recipes.items()}
    theory = beside_theory(setting.in_turns(steps), count)
    items = recipes["uncut"].step(0).pieces[0].batch.items
    read = f"{len(items)} items, {int(lengths[items.cpu()].sum()):,} tokens"
    peak = partial(_peak, setting, steps)
    tell(Row("uncut step", theory["uncut_seconds"], "s", note=f"{read}; {peak('uncut')}"))
    for row in theory["cached"]:
        name, over = f"cached at {row['layer']}", row["over_theory"]
        expected = row["theory_seconds"]
        tell(
            Row(f"{name} of {count}", row["seconds"], "s", "what theory says", expected, over,
                f"at most {STEP_TARGET}", setting.judged(over <= STEP_TARGET),
                f"{row['ratio']:.3f} of uncut; {peak(name)}")
        )  # fmt: skip


def _peak(setting: Setting, steps: dict[str, Callable[[], object]], name: str) -> str:
    return f"at most {setting.peak_of(steps[name]):.2f} GiB, all sides' weights included"


def cache_part(setting: Setting, tell: Tell) -> None:
    """Caching hidden states in files, beside bare forwards and what the device can do."""
    sizes, width = setting.sizes, setting.sizes.cached
    language, layer = setting.language(width, PRECISION), width.layers - 2
    clicks = Clicks(language, Shape(sizes.cached_texts, 1, 1), sizes.cached_length)
    tokens, part = clicks.titles, CachedPart(layer_name(layer), width.size, "token")
    reader = StateReader(language.load().to(setting.device), layers=[layer])
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        with trying(tell, "caching", setting.device):
            _write(setting, tell, reader, tokens, part, Path(folder))
        with trying(tell, "reading", setting.device):
            _read(setting, tell, reader, tokens, part, Path(folder))


def _write(
    setting: Setting, tell: Tell, reader: StateReader, tokens: Ragged, part: CachedPart, place: Path
) -> None:
    layer, count = reader.layers[0], int(tokens.offsets[-1])
    below = lowest_layers(reader.model, layer)
    batches = [
        padded_batch(tokens, items, padding=reader.padding)
        for items in similar_items(tokens, batch_tokens=reader.batch_tokens)
    ]

    def write() -> None:
        cache = HiddenCache(place / _WRITTEN, {"texts": "random"}, tokens)
        write_parts(cache, tokens, [part], reader, dtype=PRECISION)

    sides: dict[str, Callable[[], object]] = {
        "written": write,
        "below": lambda: forward(below, batches, setting.device),
        "whole": lambda: forward(reader.model, batches, setting.device),
    }
    with FlopCounterMode(display=False) as counter:
        sides["below"]()
    flops = counter.get_total_flops()
    seconds = setting.in_turns(sides, lambda: shutil.rmtree(place / _WRITTEN, ignore_errors=True))
    speed = {name: count / each for name, each in seconds.items()}
    peak = matmul_tflops(setting, torch.bfloat16)
    ratio = speed["written"] / speed["below"]
    tell(
        Row(f"states at layer {layer} written, with hashes", speed["written"], "tokens/s",
            f"bare forward, {layer} layers", speed["below"], ratio, f"at least {WRITE_TARGET}",
            setting.judged(ratio >= WRITE_TARGET), f"{len(tokens):,} texts, {count:,} tokens")
    )  # fmt: skip
    tell(
        Row("the same", speed["written"], "tokens/s", "bare forward, all layers", speed["whole"],
            speed["written"] / speed["whole"])
    )  # fmt: skip
    for name, what in (("written", "caching"), ("below", f"bare forward, {layer} layers")):
        rate = flops / seconds[name] / 1e12
        tell(Row(what, rate, "TFLOP/s", "bf16 matrix product", peak, rate / peak))


def _read(
    setting: Setting, tell: Tell, reader: StateReader, tokens: Ragged, part: CachedPart, place: Path
) -> None:
    cache = HiddenCache(place / "read", {"texts": "random"}, tokens)
    write_parts(cache, tokens, [part], reader, dtype=PRECISION)
    opened = cache.open(part.name)
    generator = torch.Generator().manual_seed(1)
    draws = [
        torch.randperm(len(tokens), generator=generator)[:_READ_ITEMS].sort().values
        for _ in range(_READS)
    ]
    size = sum(int(tokens.lengths[each].sum()) for each in draws) * part.row_bytes(PRECISION) / 1e9
    held, there = opened.to(setting.device), [each.to(setting.device) for each in draws]
    seconds = setting.in_turns(
        {
            "held": lambda: [held.select(each) for each in there],
            "files": lambda: [opened.select(each).values.to(setting.device) for each in draws],
        }
    )
    rate, roof = 2 * size / seconds["held"], copy_gbs(setting)  # a copy reads and writes
    tell(
        Row(f"states of {_READ_ITEMS} random items, held there", rate, "GB/s",
            "copy on the device", roof, rate / roof)
    )  # fmt: skip
    tell(Row("the same, from files", size / seconds["files"], "GB/s"))
