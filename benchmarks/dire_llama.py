"""``--shape``: caching and tuning a LLaMA of random weights, beside what the device can do."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.dire_setting import Options, run_config, step_at, wait_seconds
from benchmarks.shapes import Shape, make_interactions
from legos.data.batch import TrainingRows
from legos.data.items import ItemStore, LanguageInput
from legos.data.ragged import Ragged
from legos.data.sampling import NegativeSampler
from legos.lm.hidden_cache import HiddenCache
from legos.lm.hidden_files import CachedPart
from legos.lm.hidden_writer import write_parts
from legos.lm.load import LanguageModel
from legos.lm.settings import Dtype, LanguageModelSource, LoadSettings
from legos.lm.states import StateReader, layer_name
from legos.recommender import build_recommender
from legos.registry import item_encoders
from legos.systems.bricks.recipe import BricksRecipe
from legos.workplace.device import make_accelerator, peak_memory_mb, reset_peak_memory

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 1000,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
    },
    "1b": {  # LLaMA 3.2
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
    },
    "7b": {  # LLaMA 1, the largest but one of ONCE
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11_008,
    },
}
_TUNED = 2  # layers
_HISTORY, _IMPRESSIONS = 50, 10_000  # as long as in MIND


def shape_section(options: Options) -> dict[str, Any]:
    """Cache random texts below the last two layers, then tune these with LoRA."""
    accelerator = make_accelerator(
        device=options.device, precision=options.precision, deterministic=False
    )
    kind = options.shape or "tiny"
    shape = {"model_type": "llama", **SHAPES[kind]}
    source = LanguageModelSource(name=f"llama-{kind}", random=True, shape=shape, tokenizer="minilm")
    dtype: Dtype = "bf16" if options.precision == "bf16" else "fp32"
    model = LanguageModel(source, LoadSettings(dtype=dtype))
    tokens = _random_texts(options, SHAPES[kind]["vocab_size"])
    print(
        f"shape {kind}: {len(tokens):,} items of {options.length} tokens, {dtype}, "
        f"{accelerator.device}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cache = HiddenCache(Path(folder), {"texts": "random"}, tokens=tokens)
        part = CachedPart(layer_name(model.layer(-_TUNED)), model.width, "token")
        written = _cache(options, accelerator, model, tokens, cache, part)
        states = cache.open(part.name).to(accelerator.device)
        stepped = _tune(options, accelerator, model, states)
    result = {"write": written, "step": stepped}
    ratio = {name: each["fraction_of_peak"] for name, each in result.items()}
    return {
        **result,
        "peak_tflops": options.peak_tflops,
        "ours": {name: each["tflops"] for name, each in result.items()},
        "other": options.peak_tflops,
        "ratio": ratio,
        "holds": True,
    }


def _random_texts(options: Options, vocabulary: int) -> Ragged:
    generator = torch.Generator().manual_seed(0)
    count = options.items * options.length
    values = torch.randint(3, vocabulary, (count,), generator=generator)
    return Ragged(values, torch.arange(0, count + 1, options.length))


def _cache(
    options: Options,
    accelerator: Accelerator,
    model: LanguageModel,
    tokens: Ragged,
    cache: HiddenCache,
    part: CachedPart,
) -> dict[str, float]:
    """Write the states."""
    device, layer = accelerator.device, model.layer(-_TUNED)
    with torch.device(device):  # weights are made where they are used
        loaded = model.load()
    reader = StateReader(loaded, layers=[layer], batch_tokens=options.batch_tokens)
    few = tokens.select(torch.arange(min(len(tokens), 4 * options.batch_tokens // options.length)))
    with FlopCounterMode(display=False) as counter:
        reader(few)  # also the first one, which allocates
    flops = counter.get_total_flops() / len(few) * len(tokens)
    alone = wait_seconds(device, lambda: reader(few)) / len(few) * len(tokens)
    reset_peak_memory(device)
    seconds = wait_seconds(
        device, lambda: write_parts(cache, tokens, [part], reader, dtype=model.dtype)
    )
    found = {
        "seconds": seconds,
        "items_per_second": len(tokens) / seconds,
        "tokens_per_second": tokens.values.numel() / seconds,
        "gb": cache.size(tokens, [part], model.dtype) / 1e9,
        "peak_mib": _peak(device),
        **_roofline(options, flops, seconds),
        "forward_alone_seconds": alone,
        "forward_alone_tflops": flops / alone / 1e12,
    }
    print(
        f"caching at {layer}: {found['items_per_second']:.1f} items/s, {seconds:.1f} s, "
        f"{found['gb']:.2f} GB; {_shown(found)}\n"
        f"  forward passes alone: {alone:.1f} s, {found['forward_alone_tflops']:.3f} TFLOP/s",
        flush=True,
    )
    return found


def _tune(
    options: Options, accelerator: Accelerator, model: LanguageModel, states: LanguageInput
) -> dict[str, float]:
    """LoRA on the layers above the cache: median step over different batches."""
    device, steps = accelerator.device, options.repeat
    training = _training(options, accelerator, model, states)
    flops, seconds, items = [], [], []
    for number in range(steps):
        with FlopCounterMode(display=False) as counter:
            step_at(training, number)()
        flops.append(counter.get_total_flops())
        rows = training.stream.rows(number).micro_batches[0]
        items.append(len(training.rows.batch(rows, pass_number=0).items))
    reset_peak_memory(device)
    for number in range(steps):
        seconds.append(wait_seconds(device, step_at(training, number)))
    found = {
        "seconds": median(seconds),
        "items": sum(items) / steps,
        "items_per_second": sum(items) / sum(seconds),
        "peak_mib": _peak(device),
        **_roofline(options, sum(flops) / steps, sum(seconds) / steps),
    }
    print(
        f"step of {options.batch_size} clicks, LoRA on the last {_TUNED} layers: "
        f"{found['seconds']:.3f} s, {found['items']:.0f} items, "
        f"{found['items_per_second']:.1f} items/s; {_shown(found)}",
        flush=True,
    )
    return found


def _training(
    options: Options, accelerator: Accelerator, model: LanguageModel, states: LanguageInput
) -> BricksRecipe:
    data = make_interactions(Shape(options.items, _IMPRESSIONS, _HISTORY)).to(accelerator.device)
    known = SimpleNamespace(
        items=torch.ones(options.items, dtype=torch.bool),
        users=torch.ones(_IMPRESSIONS, dtype=torch.bool),
    )
    sampler = NegativeSampler(data, num_items=options.items, strategy="impression", count=4, seed=1)
    config = run_config(options)
    settings = {"name": "language_model", "model": model.source, "dtype": model.dtype}
    item = item_encoders.validate({**settings, "layer": -_TUNED, "lora_rank": 32})
    store = ItemStore(
        fields={},
        texts={},
        categories={},
        num_items=options.items,
        language={layer_name(model.layer(-_TUNED)): states},
    )
    with torch.device(accelerator.device):  # weights are made where they are used
        recommender = build_recommender(
            config.model.model_copy(update={"item": item}),
            store,
            known=known,
            seed=1,
            language_model=model,
        )
    training = BricksRecipe(
        accelerator, recommender, store, TrainingRows(data, sampler), config.exp.train
    )
    training.model.train()
    return training


def _peak(device: torch.device) -> float:
    return peak_memory_mb(device)["device" if device.type == "cuda" else "process"]


def _roofline(options: Options, flops: float, seconds: float) -> dict[str, float]:
    """What was computed a second, and how much of what the device can."""
    tflops = flops / seconds / 1e12
    return {"flops": flops, "tflops": tflops, "fraction_of_peak": tflops / options.peak_tflops}


def _shown(found: dict[str, float]) -> str:
    return (
        f"{found['tflops']:.3f} TFLOP/s, {found['fraction_of_peak']:.1%} of the peak; "
        f"at most {found['peak_mib']:.0f} MiB"
    )
