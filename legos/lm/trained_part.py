"""What of a language model is trained, in a line."""

from __future__ import annotations

from legos.lm.settings import TuningSettings


def trained_part(how: TuningSettings, *, kept: int, layers: int, parameters: int) -> str:
    """Say what is trained.

    Args:
        how: frozen, with adapters, or all of it.
        kept: layers that run in a step.
        layers: of the whole model.
        parameters: numbers that training changes.
    """
    if how.trained == "frozen":
        return f"nothing: its {kept} of {layers} layers are frozen"
    of = f"LoRA of rank {how.lora_rank} on" if how.trained == "lora" else "full tuning of"
    return f"{of} {kept} of {layers} layers: {parameters:,} parameters"
