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
    "version": Variable("text", "small", "which release of a data set (MIND: small, large)"),
    "llm_ver": Variable("text", "minilm", "language model: a name of config/llm.yaml or a path"),
    "layer": Variable("integer", 0, "layer at which it is cut and cached; 0 = no cache"),
    "lora": Variable(
        "integer", None, "LoRA: 0 = off, 1 = on, n = on with rank n; null = on, unless frozen"
    ),
    "lora_r": Variable("integer", 32, "rank of LoRA where --lora is 1 or null"),
    "lora_alpha": Variable("number", 128.0, "adapters count alpha / rank times"),
    "lora_dropout": Variable("number", 0.1, "rate on the adapters' input"),
    "embed_hidden_size": Variable("integer", None, "width E of pretrained vectors; null = found"),
    "hidden_size": Variable("integer", 64, "width D of item and user vectors"),
    "fast_eval": Variable("flag", True, "evaluate from item and user caches"),
    "lr": Variable("number", 0.001, "learning rate of all but a language model"),
    "item_lr": Variable("number", None, "learning rate of a language model; null = lr"),
    "batch_size": Variable("integer", 64, "clicks a micro-batch"),
    "acc_batch": Variable("integer", 1, "micro-batches a step (exact)"),
    "item_page_size": Variable(
        "integer", 0, "items encoded at once in training (exact gradient caching); 0 = all"
    ),
    "epoch_batch": Variable(
        "integer", 0, "0 = an epoch is a pass; n = n batches; -n = 1/n of a pass, then goes on"
    ),
    "patience": Variable("integer", 2, "epochs without improvement before training stops"),
    "page_size": Variable("integer", 512, "items and users encoded at once in a test"),
    "seed": Variable("integer", 2023, "of weights, order, negatives and dropout"),
    "device": Variable("text", "auto", "auto, cpu, cuda, cuda:1"),
    "precision": Variable("text", "fp32", "fp32, bf16 or fp16"),
}

_OFF = ("0", "false", "no", "none", "null", "-1", "")
_MODES = {
    "test_size": "--check prints every part's parameters",
    "test_fake": "rows of cold and active users are in every test (exp.evaluate.cold_warm), those "
    "of users with generated items by exp.evaluate.user_columns",
    "test_llm_layer_split": "take --exp config/exp/cache.yaml",
    "train_get_user_embedding": "take --exp config/exp/export.yaml",
    "train_get_item_embedding": "take --exp config/exp/embed.yaml",
}


@dataclass(frozen=True)
class Old:
    """A published variable that has another name here, or none.

    Attributes:
        now: the variable, or the dotted key, that took its place; None: nothing did.
        read: its value as ``now`` wants it; raises ConfigError where there is none.
        instead: for an error, what to do instead.
        off: values at which it asks for nothing.
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
            f"--cuda {text}: expected one number; more processes: accelerate launch worker.py ..."
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
        instead="it counted steps; exp.train.warmup is the fraction of all steps (0.05)", off=_OFF
    ),
    "epoch_start": Old(instead="the same command resumes where it stopped", off=_OFF),
    "simple_dev": Old(
        instead="the valid split is always ranked as the test split is, by exp.train.metric; "
        "leave it out",
        off=_OFF,
    ),
    "mind_large_submission": Old(
        instead="a test split without labels is scored without it; name it in data.splits.test",
        off=_OFF,
    ),
    "interval": Old(instead="epoch_batch says how often an epoch ends and is validated"),
    "item_hidden_size": Old(instead="hidden_size is the width of item and user vectors"),
    "global_proj_size": Old(instead="model.item.adapter_size is the width of IISAN's adapters"),
    "session": Old(instead="a run folder says itself what it is; leave it out"),
    "disable_tqdm": Old(instead="bars are drawn on a terminal alone; leave it out", off=_OFF),
    "rand": Old(instead="seed decides all that is random", off=_OFF),
    "rbname": Old(instead="name the tables by --data"),
}
"""By published name what became of it."""
