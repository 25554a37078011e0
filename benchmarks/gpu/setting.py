"""What all parts share: the device, how much is measured, random language models, clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.dire_setting import wait_seconds
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource, LoadSettings
from legos.workplace.device import make_accelerator, peak_memory_mb, reset_peak_memory

WORDS = 6_400  # rows of token tables; the made tokenizer has as many tokens or fewer
_MADE_WORDS = 2_900  # more than the brands of benchmarks/recsysllm_data.py
_SCALE = 2.0**10  # at which fp16 gradients of these models neither overflow nor vanish


@dataclass(frozen=True)
class Width:
    """A LLaMA's shape.

    Attributes:
        size: of hidden states.
        layers: how many.
        heads: of attention, and half as many of keys and values.
    """

    size: int
    layers: int
    heads: int

    @property
    def shape(self) -> dict[str, Any]:
        """As transformers takes it."""
        return {
            "model_type": "llama",
            "vocab_size": WORDS,
            "hidden_size": self.size,
            "intermediate_size": 3 * self.size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads // 2,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
        }


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        matmul: rows and columns of the matrices of the roofline.
        copy_mib: of the tensor that is copied.
        same: language model whose steps are compared with the CPU's.
        clicks: of these steps.
        shipped: how many of the shipped models are compared; None: all.
        dire: language model of the cached DIRE step.
        dire_clicks: a step.
        title_tokens: of an item there.
        cached: language model whose states are cached.
        cached_texts: how many texts, of ``cached_length`` tokens.
        soft: language model of CLLM4Rec and RecSysLLM.
        batch: texts or prompts a step of these.
        lora: a name of ``dire_llama.SHAPES``.
        lora_clicks: a step of it, cached below its last two layers.
        titles: that are generated from.
        users: that are generated for at once.
        turns: of each side.
    """

    matmul: int
    copy_mib: int
    same: Width
    clicks: int
    shipped: int | None
    dire: Width
    dire_clicks: int
    title_tokens: int
    cached: Width
    cached_texts: int
    cached_length: int
    soft: Width
    batch: int
    lora: str
    lora_clicks: int
    titles: int
    users: int
    turns: int


TINY = Sizes(
    matmul=128, copy_mib=4, same=Width(32, 3, 4), clicks=4, shipped=4, dire=Width(32, 4, 4),
    dire_clicks=4, title_tokens=8, cached=Width(32, 4, 4), cached_texts=200, cached_length=12,
    soft=Width(32, 2, 4), batch=4, lora="tiny", lora_clicks=2, titles=120, users=2, turns=2,
)  # fmt: skip
FULL = Sizes(
    matmul=8192, copy_mib=1024, same=Width(128, 4, 8), clicks=16, shipped=None,
    dire=Width(1024, 16, 16), dire_clicks=32, title_tokens=20, cached=Width(2048, 16, 32),
    cached_texts=4_000, cached_length=50, soft=Width(768, 12, 12), batch=32, lora="7b",
    lora_clicks=16, titles=12_101, users=8, turns=5,
)  # fmt: skip


class RandomLanguageModel(LanguageModel):
    """Random weights and a made tokenizer: nothing of it is on a disk or fetched."""

    @cached_property
    def tokenizer(self) -> Any:
        """Byte pairs of made words."""
        return self.fit_to_table(made_tokenizer())


def made_tokenizer() -> Tokenizer:
    """A byte-level BPE in which four-letter words of two syllables are one token each."""
    syllables = [a + b for a, b in product("bdfgklmnprstvz", "aeiou")]
    words = [a + b for a, b in product(syllables, syllables)][:_MADE_WORDS]
    merges = [(each[0], each[1]) for each in syllables]
    merges += [(word[:2], word[2:]) for word in words]
    merges += [("Ġ", word) for word in words]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = dict.fromkeys([*letters, *(left + right for left, right in merges)])
    tokenizer = Tokenizer(models.BPE({name: row for row, name in enumerate(names)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Setting:
    """A device and how much is measured on it.

    Args:
        device: "cuda", "cuda:1", "cpu".
        sizes: how much.
        folder: for caches.
    """

    def __init__(self, device: str, sizes: Sizes, folder: Path) -> None:
        self.named, self.device = device, torch.device(device)
        self.sizes, self.folder = sizes, folder

    @property
    def judges(self) -> bool:
        """Whether speed has targets here: on a GPU at full size."""
        return self.device.type == "cuda" and self.sizes == FULL

    @property
    def precisions(self) -> list[str]:
        """Those of steps on this device."""
        return ["bf16", "fp16"] if self.device.type == "cuda" else ["bf16"]

    def judged(self, holds: bool) -> bool | None:
        """A verdict on a speed; None where speed has no targets."""
        return holds if self.judges else None

    def language(self, width: Width, dtype: str = "fp32") -> RandomLanguageModel:
        """A random LLaMA whose frozen weights are of that dtype."""
        source = LanguageModelSource(name="llama", random=True, shape=width.shape, tokenizer="made")
        return RandomLanguageModel(source, LoadSettings(dtype=dtype))

    def accelerator(self, precision: str, device: str | None = None) -> Accelerator:
        """The only one of this process from now on; fp16 begins where no step is skipped."""
        AcceleratorState._reset_state(reset_partial_state=True)  # else its device stays
        found = make_accelerator(
            device=device or self.named, precision=precision, deterministic=False
        )
        if found.scaler is not None:
            found.scaler = torch.amp.GradScaler(found.device.type, init_scale=_SCALE)
        return found

    def seconds(self, function: Callable[[], object]) -> float:
        """Seconds of the clock on the wall until the device is done."""
        return wait_seconds(self.device, function)

    def in_turns(
        self,
        sides: Mapping[str, Callable[[], object]],
        between: Callable[[], object] = lambda: None,
    ) -> dict[str, float]:
        """Median seconds of each side; they take turns after one call of each that allocates.

        ``between`` is called after each of them, untimed.
        """
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(self.sizes.turns + 1):
            for name, side in sides.items():
                seconds = self.seconds(side)
                between()
                if turn:
                    taken[name].append(seconds)
        return {name: median(each) for name, each in taken.items()}

    def peak_of(self, function: Callable[[], object]) -> float:
        """Peak GiB of the device (of the process on a CPU) in a call."""
        reset_peak_memory(self.device)
        function()
        kind = "device" if self.device.type == "cuda" else "process"
        return peak_memory_mb(self.device)[kind] / 1024
