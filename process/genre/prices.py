"""What tokens cost: ``prices.yaml`` beside this module, or a price given by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from legos.errors import ConfigError
from process.genre.types import Usage

PRICES = Path(__file__).with_name("prices.yaml")


@dataclass(frozen=True)
class Price:
    """Of a million tokens."""

    prompt: float
    completion: float

    def cost(self, usage: Usage) -> float:
        """What so many tokens cost."""
        return (
            usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion
        ) / 1_000_000


def price_of(model: str, given: str | None = None) -> Price | None:
    """The price of a model; None where nobody says.

    Args:
        model: as it is asked for.
        given: ``PROMPT,COMPLETION`` per million tokens, in place of the table's.

    Raises:
        ConfigError: ``given`` is not two numbers.
    """
    if given is not None:
        try:
            prompt, completion = (float(part) for part in given.split(","))
        except ValueError:
            prompt, completion = -1.0, -1.0
        if not (0 <= prompt < float("inf") and 0 <= completion < float("inf")):
            raise ConfigError(f"--price {given}: expected PROMPT,COMPLETION, for example 0.5,1.5")
        return Price(prompt, completion)
    known = yaml.safe_load(PRICES.read_text(encoding="utf-8"))
    entry = known.get(model)
    return None if entry is None else Price(float(entry["prompt"]), float(entry["completion"]))
