"""How a language model is loaded and what of it is trained: the same keys for all systems.

Torch and transformers are not imported here.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from legos.settings import NOTHING, Dropout, Positive, Settings

Dtype = Literal["fp32", "bf16", "fp16"]
Quantised = Literal["none", "int8", "nf4"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Trained = Literal["frozen", "lora", "full"]
LARGEST_RANK = 16_384
Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK)]


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Targets = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


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

    lora_rank: Rank = 8
    """r of LoRA."""
    lora_alpha: Positive = 16.0
    """Adapters count alpha / r times."""
    lora_dropout: Dropout = 0.0
    """Rate on the input of adapters."""
    lora_targets: Targets = ()
    """Last parts of the names of linear layers; `qkv`: queries, keys and values; `linear`: all
    linear layers of a block; none: queries and values."""
    gradient_checkpointing: Annotated[bool, NOTHING] = False
    """Compute activations twice rather than keep them."""

    @property
    def trained(self) -> Trained:
        """What is trained: nothing, adapters, or the weights themselves."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _trained_weights_are_fp32(self) -> Self:
        if self.trained != "full":
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
    train: Trained = "frozen"
    """What of it is trained: nothing, LoRA adapters, or all."""

    @property
    def trained(self) -> Trained:
        """What is trained."""
        return self.train

    def unread(self, prefix: str) -> dict[str, str | None]:
        """Settings of adapters where there are none, as dotted keys below ``prefix``."""
        if self.train == "lora":
            return {}
        keys = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
        why = f"it with {prefix}.train lora alone, not {self.train}"
        return {f"{prefix}.{key}": why for key in keys}
