"""Prompt templates: words of our own in YAML, checked when they are read."""

from legos.systems.recsysllm.prompts.templates import (
    FAMILIES,
    Answer,
    Family,
    Prompts,
    Template,
    builtin_prompts,
    load_prompts,
)

__all__ = [
    "FAMILIES",
    "Answer",
    "Family",
    "Prompts",
    "Template",
    "builtin_prompts",
    "load_prompts",
]
