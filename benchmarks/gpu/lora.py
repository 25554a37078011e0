"""Part ``lora``: LoRA on a language model of 7B parameters, random weights: memory and time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.dire_llama import SHAPES
from benchmarks.dire_setting import step_at, wait
from benchmarks.gpu.outcome import Row, Tell, trying
from benchmarks.gpu.roofline import matmul_tflops
from benchmarks.gpu.setting import RandomLanguageModel, Setting
from benchmarks.gpu.systems import Clicks, dire_recipe, read_of
from benchmarks.shapes import Shape
from legos.data.items import LanguageInput
from legos.data.ragged import from_lengths
from legos.lm.settings import LanguageModelSource, LoadSettings

PRECISION = "bf16"
_TUNED = 2  # layers above the cache, as in ONCE
_LENGTH, _HISTORY, _PAGE = 40, 20, 16
_ONCE = {"lora_rank": 32, "lora_dropout": 0.1}


def lora_part(setting: Setting, tell: Tell) -> None:
    """Cached below its last two layers, and whole with activations computed twice."""
    sizes, shape = setting.sizes, {"model_type": "llama", **SHAPES[setting.sizes.lora]}
    source = LanguageModelSource(name="llama", random=True, shape=shape, tokenizer="made")
    language = RandomLanguageModel(source, LoadSettings(dtype=PRECISION))
    accelerator = setting.accelerator(PRECISION)
    peak = matmul_tflops(setting, torch.bfloat16)
    few = max(1, sizes.lora_clicks // 4)
    for clicks, cut in ((sizes.lora_clicks, True), (few, False)):
        where = f"above layer {language.layer(-_TUNED)}" if cut else "on every layer, in pages"
        what = f"{sizes.lora}, LoRA {where}"
        with trying(tell, what, setting.device):
            data = Clicks(language, Shape(40 * clicks, clicks, _HISTORY), _LENGTH)
            _step(setting, tell, what, accelerator, data, cut, peak)


def _step(
    setting: Setting,
    tell: Tell,
    what: str,
    accelerator: Accelerator,
    data: Clicks,
    cut: bool,
    peak: float,
) -> None:
    language, lengths = data.language, data.titles.lengths
    layer = language.layer(-_TUNED) if cut else 0
    read: LanguageInput = data.titles
    if cut:  # how long a step takes does not depend on what the states are
        states = torch.randn(int(lengths.sum()), language.width).to(torch.bfloat16)
        read = from_lengths(states, lengths)
    more: Mapping[str, Any] = _ONCE if cut else {**_ONCE, "gradient_checkpointing": True}
    begin = time.perf_counter()
    recipe = dire_recipe(
        accelerator, data, layer, read_of(layer, read), batch_size=data.shape.impressions,
        more=more, page_size=0 if cut else _PAGE, made_there=True,
    )  # fmt: skip
    wait(setting.device)
    made = time.perf_counter() - begin
    step = step_at(recipe, 0)
    with FlopCounterMode(display=False) as counter:
        step()  # the first one also allocates
    flops, memory = counter.get_total_flops(), setting.peak_of(step)
    seconds = setting.in_turns({"step": step})["step"]
    items = recipe.step(0).pieces[0].batch.items
    tokens = int(lengths[items.cpu()].sum())
    note = (
        f"{data.shape.impressions} clicks, {len(items)} items, {tokens:,} tokens; at most "
        f"{memory:.2f} GiB; made in {made:.1f} s"
    )
    tell(Row(what, seconds, "s a step", note=note))
    tell(Row(f"{what}: tokens", tokens / seconds, "tokens/s"))
    rate = flops / seconds / 1e12
    tell(Row(f"{what}: work", rate, "TFLOP/s", "bf16 matrix product", peak, rate / peak))
