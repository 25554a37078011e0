"""Variables of a command line: those that YAMLs use, and what became of others' names.

``OLD`` are names of both generations of the published Legommenders and ONCE workers. Each still
acts, as the setting that took its place, or says which setting that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from legos.errors import ConfigError


@dataclass(frozen=True)
class Variable:
    """A published variable.

    Attributes:
        kind: how its text is read.
        default: where a YAML gives none.
        meaning: for ``--help``.
    """

    kind: Literal["text", "integer", "number", "flag"]
    default: Any
    meaning: str


PUBLISHED: dict[str, Variable] = {
    "version": Variable("text", "small", "release of the data set (MIND: small, large)"),
    "llm_ver": Variable("text", "minilm", "language model: a name of config/llm.yaml or a path"),
    "layer": Variable("integer", 0, "cache the states at this layer of it; 0 = no cache"),
    "lora": Variable(
        "integer", None, "LoRA: 0 = off, 1 = on, n = on with rank n; null = on unless frozen"
    ),
    "lora_r": Variable("integer", 32, "LoRA rank if --lora is 1 or null"),
    "lora_alpha": Variable("number", 128.0, "LoRA alpha: adapters are scaled by alpha / rank"),
    "lora_dropout": Variable("number", 0.1, "dropout on the adapters' input"),
    "embed_hidden_size": Variable(
        "integer", None, "width E of pretrained vectors; null = their own"
    ),
    "hidden_size": Variable("integer", 64, "width D of item and user vectors"),
    "fast_eval": Variable("flag", True, "evaluate from item and user caches"),
    "lr": Variable("number", 0.001, "learning rate of everything except the language model"),
    "item_lr": Variable("number", None, "learning rate of the language model; null = lr"),
    "batch_size": Variable("integer", 64, "clicks per micro-batch"),
    "acc_batch": Variable("integer", 1, "micro-batches per step (exact gradient accumulation)"),
    "item_page_size": Variable(
        "integer", 0, "items encoded at once in training (exact gradient caching); 0 = all"
    ),
    "epoch_batch": Variable(
        "integer", 0, "length of an epoch: 0 = one pass; n = n batches; -n = 1/n of a pass"
    ),
    "patience": Variable("integer", 2, "epochs without improvement before training stops"),
    "page_size": Variable("integer", 512, "items and users encoded at once in a test"),
    "seed": Variable("integer", 2023, "seed of weights, order, negatives and dropout"),
    "device": Variable("text", "auto", "auto, cpu, cuda, cuda:1"),
    "precision": Variable("text", "fp32", "fp32, bf16 or fp16"),
}

_OFF = ("0", "false", "no", "none", "null", "-1", "")
_MODES = {
    "test_size": "no such mode; --check prints the parameters of every part",
    "test_fake": "no such mode; every test reports cold and active users "
    "(exp.evaluate.cold_warm); exp.evaluate.user_columns adds users with generated items",
    "test_llm_layer_split": "no such mode; use --exp config/exp/cache.yaml",
    "train_get_user_embedding": "no such mode; use --exp config/exp/export.yaml",
    "train_get_item_embedding": "no such mode; use --exp config/exp/embed.yaml",
}


@dataclass(frozen=True)
class Old:
    """A published variable that was renamed or removed here.

    Attributes:
        now: the variable or dotted key that replaces it; None: removed.
        read: converts its value to one of ``now``; raises ConfigError if there is none.
        instead: what to do instead, for the error message.
        off: values that turn it off.
    """

    now: str | None = None
    read: Callable[[str], str] = str
    instead: str = ""
    off: tuple[str, ...] = ()


def _device(text: str) -> str:
    if text == "-1":
        return "cpu"
    if not re.fullmatch(r"\d+", text):
        raise ConfigError(
            f"--cuda {text}: expected one number; for several, accelerate launch worker.py ..."
        )
    return f"cuda:{text}"


def _mode(text: str) -> str:
    if text in _MODES:
        raise ConfigError(f"--mode {text}: {_MODES[text]}")
    return text


OLD: dict[str, Old] = {
    "cuda": Old("device", _device),
    "mode": Old("exp.mode", _mode),
    "load_path": Old("exp.load", off=_OFF),
    "load_sign": Old("exp.load", off=_OFF),
    "metric": Old("exp.train.metric"),
    "max_item_batch_size": Old("item_page_size"),
    "tune_from": Old("layer"),
    "use_lora": Old("lora", lambda text: {"true": "1", "false": "0"}.get(text.lower(), text)),
    "lm": Old("llm_ver"),
    "llama": Old("llm_ver"),
    "num_item_heads": Old("model.item.num_heads"),
    "num_user_heads": Old("model.user.num_heads"),
    "cross_num": Old("model.predictor.num_cross_layers"),
    "num_context_codes": Old("model.user.num_codes"),
    "context_code_dim": Old("model.user.code_size"),
    "local_proj_size": Old("model.item.adapter_size"),
    "warmup": Old(
        instead="it counted steps; set exp.train.warmup, a fraction of all steps (0.05)", off=_OFF
    ),
    "epoch_start": Old(instead="the same command resumes where it stopped", off=_OFF),
    "simple_dev": Old(
        instead="the valid split is always ranked like the test split, by exp.train.metric; "
        "leave it out",
        off=_OFF,
    ),
    "mind_large_submission": Old(
        instead="name the split without labels in data.splits.test; it is scored without this",
        off=_OFF,
    ),
    "interval": Old(instead="epoch_batch sets the length of an epoch; validation follows each"),
    "item_hidden_size": Old(instead="hidden_size is the width of item and user vectors"),
    "global_proj_size": Old(instead="model.item.adapter_size is the width of IISAN's adapters"),
    "session": Old(instead="run folders describe themselves; leave it out"),
    "disable_tqdm": Old(instead="progress bars appear only on a terminal; leave it out", off=_OFF),
    "rand": Old(instead="seed controls everything random", off=_OFF),
    "rbname": Old(instead="name the tables with --data"),
}
"""Replacements of published variables, by their published names."""
