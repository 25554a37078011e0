"""Variables of the published Legommenders and ONCE workers under the names that they have here.

Each still acts, as the setting that took its place, or says which setting that is. The names are
those of both generations of the published command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from legos.errors import ConfigError

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


def translate(name: str, text: str, given: Iterable[str]) -> tuple[str, str, str] | None:
    """A published variable by the name it has here.

    Args:
        name: as it was given.
        text: its value.
        given: names of all options of the command line.

    Returns:
        The name here, the value here and a notice; name and value are empty where it asks for
        nothing. None: the name is none of them.

    Raises:
        ConfigError: nothing took its place, or both names are given.
    """
    old = OLD.get(name)
    if old is None:
        return None
    if text.strip().lower() in old.off:
        return "", "", f"--{name} {text}: asks for nothing here"
    if old.now is None:
        raise ConfigError(f"--{name}: has another way here: {old.instead}")
    if old.now in given:
        raise ConfigError(f"--{name}: is --{old.now} here, which is given, too; give one of them")
    value = old.read(text)
    return old.now, value, f"--{name} {text}: is read as --{old.now} {value}"
