"""What of a language model is trained, in a line."""

from __future__ import annotations


def trained_part(*, rank: int | None, kept: int, layers: int, parameters: int) -> str:
    """Say what is trained.

    Args:
        rank: of LoRA; 0: the layers themselves are trained; None: nothing is.
        kept: layers that run in a step.
        layers: of the whole model.
        parameters: numbers that training changes.
    """
    if rank is None:
        return f"nothing: its {kept} of {layers} layers are frozen"
    how = f"LoRA of rank {rank} on" if rank else "full tuning of"
    return f"{how} {kept} of {layers} layers: {parameters:,} parameters"
