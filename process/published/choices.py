"""What the user asks of a layout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choices:
    """What the user asks of a layout.

    Attributes:
        years: ``split``: a year at the end of a title becomes a field; ``keep``: it stays there.
        tags: most frequent tags kept of an item.
    """

    years: str = "split"
    tags: int = 0
