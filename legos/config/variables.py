"""The published variables: what ``--name value`` means in every shipped YAML.

The meanings are those of the published ONCE commands. A YAML may give a variable its own default
(``${lr:1e-3}``); the defaults here hold where it does not (``${lr}``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from legos.config.yaml_files import parse_value
from legos.errors import ConfigError

_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


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


def read_variable(name: str, text: str) -> Any:
    """The value of ``--name text``.

    Raises:
        ConfigError: not of the kind that the published variable has.
    """
    published = PUBLISHED.get(name)
    if published is None:
        return parse_value(text)
    if published.kind == "text":
        return text
    value = parse_value(text)
    if value is None and published.default is None:
        return None
    if published.kind == "flag":
        value = _TRUTH.get(text.lower())
        valid = value is not None
    else:
        kinds = (int,) if published.kind == "integer" else (int, float)
        valid = isinstance(value, kinds) and not isinstance(value, bool)
    if not valid:
        expected = "true or false" if published.kind == "flag" else f"a {published.kind}"
        expected = expected.replace("a integer", "a whole number")
        raise ConfigError(f"--{name} {text}: expected {expected} ({published.meaning})")
    return value
